// What became of every packet of every peer: on which SA it went out, whether its answer came, and
// whether that came twice. No clock and no sockets.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "channel/messages.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::load {

using ike::Instant;

/// Packets of one peer, or of all.
struct Tally {
  std::uint64_t sent = 0, answered = 0;
  std::uint64_t duplicates = 0;  ///< answers beyond a packet's first
  /// Answered, there and back by the pair of SAs that the peer had first; there and back by others.
  std::uint64_t by_first_sas = 0, by_later_sas = 0;
  std::uint64_t without_sa = 0;                                 ///< could not be sent
  std::uint64_t unknown_spi = 0, icv_wrong = 0, malformed = 0;  ///< received and refused

  [[nodiscard]] std::uint64_t lost() const { return sent - answered; }
  Tally& operator+=(const Tally& other);
};

/// A packet without an answer, so far.
struct Unanswered {
  std::size_t peer = 0;
  std::uint64_t number = 0;
  channel::Spi spi{};  ///< it was sent on
  Instant sent_at{};
};

class Ledger {
 public:
  explicit Ledger(std::size_t peers) : accounts_(peers) {}

  /// The peer's packets are numbered from 1 on.
  [[nodiscard]] std::uint64_t next_number(std::size_t peer) const {
    return accounts_[peer].tally.sent + 1;
  }
  void on_sent(std::size_t peer, channel::Spi spi, Instant now);
  void on_answer(std::size_t peer, std::uint64_t number, channel::Spi spi, Instant now);
  /// For what is counted without a packet's number.
  [[nodiscard]] Tally& of(std::size_t peer) { return accounts_[peer].tally; }

  [[nodiscard]] const Tally& of(std::size_t peer) const { return accounts_[peer].tally; }
  [[nodiscard]] Tally total() const;
  [[nodiscard]] std::size_t size() const { return accounts_.size(); }
  [[nodiscard]] std::uint64_t under_way() const { return under_way_; }
  [[nodiscard]] std::vector<Unanswered> unanswered() const;
  [[nodiscard]] const std::vector<double>& milliseconds() const { return milliseconds_; }

 private:
  struct Sent {
    channel::Spi spi{};
    Instant when{};
  };
  struct Account {
    Tally tally;
    std::map<std::uint64_t, Sent> unanswered;  ///< by number
    std::optional<channel::Spi> first_out, first_in;
  };
  std::vector<Account> accounts_;
  std::uint64_t under_way_ = 0;
  std::vector<double> milliseconds_;  ///< round trips
};

}  // namespace culvert::load
