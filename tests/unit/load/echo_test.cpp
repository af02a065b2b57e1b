#include "tests/load/echo.hpp"

#include <catch2/catch.hpp>

#include "wire/checksum.hpp"

namespace culvert::load {
namespace {

const Echo kEcho{.peer_address = wire::IpAddress::v4(0x0a800001),
                 .host = wire::IpAddress::v4(0x0a010002),
                 .peer = 4711,
                 .number = 0x1'0000'0002};

/// What a host does (RFC 792): addresses exchanged, another type, the checksum anew.
EchoPacket answered(EchoPacket packet) {
  std::swap_ranges(packet.begin() + wire::ipv4::kSource, packet.begin() + wire::ipv4::kDestination,
                   packet.begin() + wire::ipv4::kDestination);
  const auto icmp = wire::MutableBytes(packet).subspan(wire::ipv4::kHeaderBytes);
  icmp[0] = wire::icmp::kEchoReply;
  wire::store_u16(icmp.data() + 2, 0);
  wire::ChecksumSum sum;
  sum.add(icmp);
  wire::store_u16(icmp.data() + 2, sum.finish());
  return packet;
}

}  // namespace

TEST_CASE("load: an echo request is a packet with right checksums") {
  const EchoPacket request = make_request(kEcho);
  const auto header = wire::parse_ipv4(request);
  REQUIRE(header);
  CHECK(header->total_bytes == request.size());
  CHECK(header->protocol == wire::protocol::kIcmp);
  wire::ChecksumSum sum;
  sum.add(wire::Bytes(request).subspan(header->payload_offset));
  CHECK(sum.finish() == 0);
}

TEST_CASE("load: the reply says whose request it answers, and which") {
  CHECK(read_reply(answered(make_request(kEcho))) == kEcho);
}

TEST_CASE("load: what is not the reply, or not as it was sent, answers nothing") {
  CHECK_FALSE(read_reply(make_request(kEcho)));
  const EchoPacket reply = answered(make_request(kEcho));
  for (std::size_t length = 0; length < reply.size(); ++length) {
    CHECK_FALSE(read_reply(wire::Bytes(reply).first(length)));
  }
  for (std::size_t at = 0; at < reply.size(); ++at) {
    EchoPacket changed = reply;
    changed[at] ^= 1U;
    CHECK_FALSE(read_reply(changed));
  }
}

}  // namespace culvert::load
