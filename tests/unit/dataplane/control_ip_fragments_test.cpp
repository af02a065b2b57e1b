#include <catch2/catch.hpp>

#include "dataplane/control/ip_fragments.hpp"
#include "wire/checksum.hpp"

namespace culvert::dataplane::control {
namespace {

std::vector<std::uint8_t> packet_with(std::uint8_t version, std::size_t payload) {
  std::vector<std::uint8_t> packet(version == 4 ? 20 : 40, 0);
  packet[0] = version == 4 ? 0x45 : 0x60;
  packet[version == 4 ? 9 : 6] = 17;
  for (std::size_t i = 0; i < payload; ++i) packet.push_back(static_cast<std::uint8_t>(i * 7));
  return packet;
}

}  // namespace

TEST_CASE("fragments: what fits is not cut") {
  const auto packet = packet_with(4, 1480);
  CHECK(fragments_of(packet, 1500, 1) == std::vector<std::vector<std::uint8_t>>{packet});
}

TEST_CASE("fragments: IPv4 pieces join to the payload, each with a header that holds (RFC 791)") {
  const auto packet = packet_with(4, 4000);
  const auto fragments = fragments_of(packet, 1500, 1);
  REQUIRE(fragments.size() == 3);
  std::vector<std::uint8_t> joined;
  for (const auto& fragment : fragments) {
    CHECK(fragment.size() <= 1500);
    wire::ChecksumSum sum;
    sum.add(wire::Bytes(fragment).first(20));
    CHECK(sum.finish() == 0);
    const auto flags = static_cast<unsigned>(fragment[6] << 8 | fragment[7]);
    CHECK((flags & 0x1fffU) * 8U == joined.size());
    CHECK(((flags & 0x2000U) != 0) == (&fragment != &fragments.back()));
    joined.insert(joined.end(), fragment.begin() + 20, fragment.end());
  }
  CHECK(joined == std::vector<std::uint8_t>(packet.begin() + 20, packet.end()));
}

TEST_CASE("fragments: IPv6 pieces carry a fragment header with one identification (RFC 8200)") {
  const auto packet = packet_with(6, 3000);
  const auto fragments = fragments_of(packet, 1280, 0xabcd);
  REQUIRE(fragments.size() == 3);
  std::vector<std::uint8_t> joined;
  for (const auto& fragment : fragments) {
    CHECK(fragment.size() <= 1280);
    CHECK(fragment[6] == 44);
    CHECK(fragment[40] == 17);
    CHECK(fragment[46] == 0xab);
    const auto offset = static_cast<unsigned>(fragment[42] << 8 | fragment[43]);
    CHECK((offset & 0xfff8U) == joined.size());
    joined.insert(joined.end(), fragment.begin() + 48, fragment.end());
  }
  CHECK(joined == std::vector<std::uint8_t>(packet.begin() + 40, packet.end()));
}

}  // namespace culvert::dataplane::control
