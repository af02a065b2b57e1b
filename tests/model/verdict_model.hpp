// What becomes of a packet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/worker/punt.hpp"
#include "tests/model/packet.hpp"
#include "tests/model/replay_model.hpp"

namespace culvert::model {

struct SentClear {
  unsigned port;
  ByteString ip;
};
struct Sealed {
  dataplane::SlotIndex sa;
  std::uint8_t next_header;
  ByteString payload;
  std::vector<ByteString> headers;  ///< of the packet around it, or of each of its pieces
  unsigned port;
};
/// UDP for us that nobody takes: what the main thread is shown.
struct PortClosed {
  ByteString ip;
};
struct TooBig {
  std::size_t mtu;  ///< what its sender is to be told
};
struct UnknownSpi {};  ///< dropped, or shown to the main thread as a hint
/// Dropped for one of these reasons: which check is the first to refuse it is open.
struct OneOf {
  std::set<dataplane::DropReason> reasons;
};
using Outcome = std::variant<SentClear, Sealed, PortClosed, TooBig, UnknownSpi, OneOf,
                             dataplane::DropReason, dataplane::PuntReason>;
/// What becomes of one packet, or of each of its pieces.
struct Outcomes {
  Outcomes() = default;
  template <typename One>
  Outcomes(One one) : each{Outcome(std::move(one))} {}
  std::vector<Outcome> each;
};
/// nullopt: its number is new.
inline std::optional<dataplane::DropReason> refusal(Replay verdict) {
  switch (verdict) {
    case Replay::fresh:
      return std::nullopt;
    case Replay::duplicate:
      return dataplane::DropReason::replay_duplicate;
    case Replay::left_of_window:
      return dataplane::DropReason::replay_left_of_window;
  }
  return std::nullopt;
}

}  // namespace culvert::model
