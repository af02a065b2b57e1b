#include "ike/machine/record.hpp"

#include <array>
#include <cassert>

namespace culvert::ike {
namespace {

constexpr std::array kTable{
    NotResumedInfo{NotResumed::none_recorded, "none_recorded",
                   "the last key daemon had no IKE SA, or there was none since the data plane "
                   "started"},
    NotResumedInfo{NotResumed::not_held, "not_held",
                   "the data plane had no memory for the key daemon's records"},
    NotResumedInfo{NotResumed::other_build, "other_build",
                   "the records were written by another release of the key daemon"},
    NotResumedInfo{NotResumed::corrupt, "corrupt",
                   "the records were damaged: a checksum is wrong or a part is missing"},
    NotResumedInfo{NotResumed::abandoned, "abandoned",
                   "the earlier key daemon had no room left for its records and gave them up"},
    NotResumedInfo{NotResumed::malformed, "malformed", "a record does not parse"},
    NotResumedInfo{NotResumed::configuration_changed, "configuration_changed",
                   "the connection was changed or removed while the key daemon was away"},
    NotResumedInfo{NotResumed::spi_not_held, "spi_not_held",
                   "an SPI that the peer was told belongs to another SA now"},
};

}  // namespace

const NotResumedInfo& info(NotResumed reason) {
  const auto at = static_cast<std::size_t>(reason);
  assert(at < kTable.size() && kTable[at].reason == reason);
  return kTable[at];
}

std::span<const NotResumedInfo> all_not_resumed() { return kTable; }

}  // namespace culvert::ike
