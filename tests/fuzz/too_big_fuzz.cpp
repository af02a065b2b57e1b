// What a router quotes of a packet that was too large: bytes of a stranger, read before anybody is
// asked whether an SA of ours sent them. The checksums are made right, or nothing behind them would
// be met. The first byte is the family, the next two are the MTU, the rest is what is quoted.
#include <cstdint>
#include <cstdlib>

#include "dataplane/control/too_big.hpp"
#include "tests/unit/dataplane/too_big_bytes.hpp"

using namespace culvert;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kBefore = 3, kMostQuoted = 9000;
  if (size < kBefore || size > kMostQuoted) return 0;
  const bool is_v4 = data[0] % 2 == 0;
  const auto router = wire::IpAddress::parse(is_v4 ? "198.51.100.9" : "2001:db8:9::9").value();
  const auto us = wire::IpAddress::parse(is_v4 ? "192.0.2.1" : "2001:db8::1").value();
  const wire::Bytes quoted(data + kBefore, size - kBefore);
  const auto packet = test::too_big_about(quoted, wire::load_u16(data + 1), router, us);
  const auto message = dataplane::control::read_too_big(packet);
  if (!message) return 0;
  // What is believed quotes an SPI and a packet of this family.
  if (message->spi == 0 || message->local.is_v4() != is_v4 || message->remote.is_v4() != is_v4 ||
      quoted.size() < (is_v4 ? 28U : 48U)) {
    std::abort();
  }
  return 0;
}
