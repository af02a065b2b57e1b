// What there is, told to the key daemon that connected: SAs, then policies, in pieces, as many at
// once as its ring takes. The requests behind it wait: they would change what it is of.
#pragma once

#include <optional>

#include "channel/server.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/policy_book.hpp"

namespace culvert::dataplane::control {

class Snapshot {
 public:
  /// Pieces of one turn of the loop: some hundred microseconds.
  static constexpr std::size_t kPiecesAtOnce = 1024;
  /// Places of the ring that it leaves to what happens meanwhile.
  static constexpr std::size_t kRoomForOthers = 256;

  enum class Progress : std::uint8_t {
    ended,  ///< all of it is in the ring
    more,   ///< the next turn goes on
    full,   ///< the ring took some and has no room for the next now
    stuck,  ///< the ring took nothing
  };

  Snapshot(const Associations& associations, const PolicyBook& policies, channel::Server& channel,
           channel::RequestId request)
      : associations_(associations), policies_(policies), channel_(channel), request_(request) {}

  [[nodiscard]] channel::RequestId request() const { return request_; }
  /// Sends the next pieces.
  [[nodiscard]] Progress work();

 private:
  [[nodiscard]] std::size_t room() const;
  void send(const SaRecord& record);
  bool send_policies(std::size_t most);

  const Associations& associations_;
  const PolicyBook& policies_;
  channel::Server& channel_;
  channel::RequestId request_;
  std::optional<channel::SaId> above_;  ///< those from here on were told of
  bool has_sas_ = false;                ///< all of them
  channel::PolicyId next_policy_{};
};

}  // namespace culvert::dataplane::control
