// Addresses in use that the configuration does not have (any more). What decides is what the data
// plane has: it may not have read the file yet, and the address works until it has.
#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "ike/machine/ike_sa.hpp"

namespace culvert::ike {

class Core;

class LostAddresses {
 public:
  explicit LostAddresses(Core& core) : core_(core) {}
  LostAddresses(const LostAddresses&) = delete;
  LostAddresses& operator=(const LostAddresses&) = delete;

  /// Another configuration may have taken the address in use away. If so the data plane is asked
  /// and, when it does not have it either, the IKE SA goes to another one.
  void look_at(IkeSa& ike);
  /// True: the answer was to such a question.
  [[nodiscard]] bool take(const channel::Completion& answer);
  /// What the data plane had may be gone by now. At TimerKind::lost_addresses.
  void look_again();
  /// The peer has heard that an address of ours is gone and has not moved.
  void give_up(IkeSa& ike, const Task& task);
  /// Another configuration: addresses that it has are none of these.
  void configuration_changed();
  void dataplane_lost() { questions_.clear(); }

 private:
  [[nodiscard]] const wire::IpAddress* other_address(const IkeSa& ike);
  [[nodiscard]] bool ask(const IkeSa& ike);
  void ask_again_later();
  void keep(const IkeSa& ike);
  void leave(IkeSa& ike);

  Core& core_;
  std::map<channel::RequestId, std::uint64_t> questions_;  ///< to our SPI of the IKE SA
  std::set<wire::IpAddress> kept_;                         ///< and said so
  std::vector<wire::IpAddress> ours_;                      ///< of the last look
  bool looks_again_ = false;
};

}  // namespace culvert::ike
