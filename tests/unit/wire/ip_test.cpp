// What the parser says of an IPv6 packet with fragment headers.
#include "wire/ip.hpp"

#include <vector>

#include <catch2/catch.hpp>

#include "tests/model/packet.hpp"

namespace culvert::wire {
namespace {

using model::ByteString;

/// Offset and M flag.
constexpr std::uint16_t kAtomic = 0, kFirst = 1, kLater = 8, kBetween = 9;

/// UDP behind fragment headers with these offsets and M flags.
ByteString behind_fragment_headers(const std::vector<std::uint16_t>& places) {
  ByteString payload;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const bool is_last = i + 1 == places.size();
    model::put(payload, {is_last ? protocol::kUdp : ipv6::kFragment, 0});
    model::put16(payload, places[i]);
    model::put32(payload, 7);
  }
  model::put(payload, model::udp(1000, 53, model::counting(24)));
  return model::ip(
      {.source = "2001:db8:1::5", .destination = "2001:db8:2::9", .protocol = ipv6::kFragment},
      payload);
}
IpHeader parsed_behind(const std::vector<std::uint16_t>& places) {
  return parse_ip(behind_fragment_headers(places)).value();
}

}  // namespace

TEST_CASE("ip: a packet is a fragment if any of its fragment headers says so (RFC 8200 §4.5)") {
  CHECK_FALSE(parsed_behind({kAtomic}).is_fragment);
  CHECK_FALSE(parsed_behind({kAtomic, kAtomic}).is_fragment);
  for (const auto& places : std::vector<std::vector<std::uint16_t>>{{kFirst},
                                                                    {kFirst, kAtomic},
                                                                    {kAtomic, kFirst},
                                                                    {kFirst, kFirst},
                                                                    {kAtomic, kFirst, kAtomic}}) {
    const IpHeader header = parsed_behind(places);
    CHECK(header.is_fragment);
    CHECK(header.has_upper_header);
    CHECK(header.protocol == protocol::kUdp);
    CHECK(header.payload_offset == 40 + 8 * places.size());
    CHECK(header.protocol_offset == 40 + 8 * (places.size() - 1));
  }
}

TEST_CASE("ip: what is behind a later fragment's header is data, whatever it looks like") {
  for (const std::uint16_t later : {kLater, kBetween}) {
    for (const std::uint16_t inside : {kAtomic, kFirst}) {
      const IpHeader header = parsed_behind({later, inside});
      CHECK(header.is_fragment);
      CHECK_FALSE(header.has_upper_header);
      CHECK(header.protocol == ipv6::kFragment);
      CHECK(header.payload_offset == 48);
    }
    CHECK_FALSE(parsed_behind({kFirst, later}).has_upper_header);
    CHECK_FALSE(parsed_behind({kAtomic, later}).has_upper_header);
  }
}

}  // namespace culvert::wire
