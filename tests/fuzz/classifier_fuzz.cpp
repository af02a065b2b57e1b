// Bytes as a frame, or as what is inside of authentic ESP, through a whole worker iteration:
// classifier, inbound, policy, local, outbound, forward. The first byte says by which way in.
#include <cstdint>

#include "tests/unit/dataplane/worker/bad_input.hpp"

using culvert::test::BadInputGateway;
using culvert::test::ByteString;
using culvert::test::Entry;
using culvert::test::kEntries;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // For the life of the process: DPDK is started once.
  static auto* const rig = new BadInputGateway;
  if (size == 0) return 0;
  rig->feed(static_cast<Entry>(data[0] % kEntries), ByteString(data + 1, data + size));
  rig->run();
  return 0;
}
