// What a whole worker does with packets that do not fit, and with fragments.
#include "tests/unit/dataplane/pipeline/sizes.hpp"

#include <algorithm>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dataplane/worker/fragment.hpp"
#include "wire/checksum.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// The payloads of IPv4 fragments, in order of their places.
Packet joined(std::vector<Packet> frames) {
  std::ranges::sort(frames, {}, [](const Packet& whole) {
    return wire::load_u16(&whole[14 + 6]) & wire::ipv4::kOffsetMask;
  });
  Packet payload;
  for (const Packet& whole : frames) {
    const Packet piece = payload_of(whole);
    payload.insert(payload.end(), piece.begin(), piece.end());
  }
  return payload;
}

}  // namespace

TEST_CASE("sizes: a packet that may be fragmented is cut before it is sealed") {
  const bool outer_v6 = GENERATE(false, true);
  Pair pair({}, with_families(outer_v6, false));
  const PacketOptions packet = of_size(1500, false, 0);
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(packet)));
  REQUIRE(sealed.wan.size() == 2);
  CHECK(sealed.punts.empty());
  for (const Packet& outer : sealed.wan) {
    CHECK(outer.size() <= 1514);
    CHECK_FALSE(wire::parse_ip(ip_of(outer))->is_fragment);
  }
  const Result opened = pair.right.receive(kWan, sealed.wan);
  REQUIRE(opened.lan.size() == 2);
  CHECK(joined(opened.lan) == packet.payload);
}

TEST_CASE("sizes: by option it is sealed whole, cut, and put together by the peer") {
  config::HeaderOptions headers;
  headers.fragmentation = config::FragmentationOrder::after;
  const bool outer_v6 = GENERATE(false, true);
  Pair pair(headers, with_families(outer_v6, false));
  const PacketOptions packet = of_size(1500, false, 0);
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(packet)));
  REQUIRE(sealed.wan.size() == 2);
  for (const Packet& outer : sealed.wan) {
    CHECK(outer.size() <= 1514);
    CHECK(wire::parse_ip(ip_of(outer))->is_fragment);
  }
  const Result first = pair.right.receive(kWan, sealed.wan[1]);
  CHECK(first.lan.empty());
  CHECK(first.drops.empty());
  const Result opened = pair.right.receive(kWan, sealed.wan[0]);
  REQUIRE(opened.lan.size() == 1);
  CHECK(payload_of(opened.lan[0]) == packet.payload);
  CHECK(pair.right.worker().counters.reassembled.read() == 1);
}

TEST_CASE(
    "sizes: what is cut before has no ports in its later pieces, so an SA for ports cuts after") {
  SaOptions options;
  options.local_selectors = {"10.1.0.0/24[udp]"};
  options.remote_selectors = {"10.2.0.0/16[udp/5000]"};
  Pair pair({}, options);
  PacketOptions packet = of_size(1500, false, 0);
  packet.protocol = 17;
  packet.payload = udp(1, 5000, Packet(1472, 0x21));
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(packet)));
  REQUIRE(sealed.wan.size() == 2);
  const Result opened = pair.right.receive(kWan, sealed.wan);
  REQUIRE(opened.lan.size() == 1);
  CHECK(payload_of(opened.lan[0]) == packet.payload);
}

TEST_CASE(
    "sizes: with DF, or in IPv6, the sender is told what fits to the byte (RFC 4301 §8.2.1)") {
  const bool outer_v6 = GENERATE(false, true);
  const bool inner_v6 = GENERATE(false, true);
  SaOptions options = with_families(outer_v6, inner_v6);
  options.udp = GENERATE(false, true);
  Pair pair({}, options);
  const Result refused = pair.left.receive(kLan, frame(ip_packet(of_size(1500, inner_v6, 0x4000))));
  REQUIRE(refused.punts.size() == 1);
  CHECK(refused.punts[0].what.reason == PuntReason::packet_too_big);
  const std::uint16_t told = refused.punts[0].what.mtu;
  const auto fits = [&](std::size_t bytes) {
    return pair.left.receive(kLan, frame(ip_packet(of_size(bytes, inner_v6, 0x4000)))).wan.size();
  };
  CHECK(fits(told) == 1);
  CHECK(fits(told + 1U) == 0);
}

TEST_CASE("sizes: what is too large is cut, or refused by its size, also without room around it") {
  const bool may_be_cut = GENERATE(true, false);
  Pair pair;
  rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
  packet->data_off = 0;
  const Packet bytes = frame(ip_packet(of_size(1500, false, may_be_cut ? 0 : 0x4000)));
  std::ranges::copy(bytes, rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size())));
  REQUIRE(rte_eth_tx_burst(0, 0, &packet, 1) == 1);
  const Result result = pair.left.receive(kLan, std::vector<Packet>{});
  CHECK(result.drops.empty());
  CHECK(result.wan.size() == (may_be_cut ? 2U : 0U));
  CHECK(result.punts.size() == (may_be_cut ? 0U : 1U));
}

TEST_CASE("sizes: a path MTU that was learnt holds for its SA, and is told to senders") {
  Pair pair;
  pair.left.tables().sad->set_path_mtu(pair.out_id, 1000);
  const Result refused = pair.left.receive(kLan, frame(ip_packet(of_size(1000, false, 0x4000))));
  REQUIRE(refused.punts.size() == 1);
  CHECK(refused.punts[0].what.mtu < 1000 - 36);
  const Result sealed =
      pair.left.receive(kLan, frame(ip_packet(of_size(refused.punts[0].what.mtu, false, 0x4000))));
  REQUIRE(sealed.wan.size() == 1);
  CHECK(sealed.wan[0].size() <= 1014);
  pair.left.tables().sad->set_path_mtu(pair.out_id, kNoPathMtu);
  CHECK(pair.left.receive(kLan, frame(ip_packet(of_size(1400, false, 0x4000)))).wan.size() == 1);
}

TEST_CASE("sizes: IPv6 is promised 1280 bytes through any tunnel (RFC 2473 §7.1)") {
  const bool outer_v6 = GENERATE(false, true);
  Pair pair({}, with_families(outer_v6, true));
  pair.left.tables().sad->set_path_mtu(pair.out_id, 1280);
  const PacketOptions packet = of_size(1280, true, 0);
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(packet)));
  REQUIRE(sealed.wan.size() == 2);
  const Result opened = pair.right.receive(kWan, sealed.wan);
  REQUIRE(opened.lan.size() == 1);
  CHECK(payload_of(opened.lan[0]) == packet.payload);
  const Result refused = pair.left.receive(kLan, frame(ip_packet(of_size(1281, true, 0))));
  REQUIRE(refused.punts.size() == 1);
  CHECK(refused.punts[0].what.mtu == 1280);
}

TEST_CASE("sizes: df: clear lets the outer packet be cut whatever the inner one says") {
  config::HeaderOptions headers;
  headers.df = config::DontFragment::clear;
  Pair pair(headers);
  const PacketOptions packet = of_size(1500, false, 0x4000);
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(packet)));
  REQUIRE(sealed.wan.size() == 2);
  const Result opened = pair.right.receive(kWan, sealed.wan);
  REQUIRE(opened.lan.size() == 1);
  CHECK(payload_of(opened.lan[0]) == packet.payload);
}

TEST_CASE("sizes: df: set refuses no packet without DF (RFC 4301 §8.2.1)") {
  config::HeaderOptions headers;
  headers.df = config::DontFragment::set;
  const bool is_for_ports = GENERATE(false, true);
  // An SA for ports cuts after whatever the option says.
  if (!is_for_ports) headers.fragmentation = config::FragmentationOrder::after;
  SaOptions options = with_families(GENERATE(false, true), false);
  if (is_for_ports) {
    options.local_selectors = {"10.1.0.0/24[udp]"};
    options.remote_selectors = {"10.2.0.0/16[udp/5000]"};
  }
  Pair pair(headers, options);
  const auto datagram = [](std::size_t bytes, std::uint16_t fragment) {
    PacketOptions packet{.protocol = 17, .fragment = fragment};
    packet.payload = udp(1, 5000, Packet(bytes - 28, 0x21));
    return packet;
  };
  const auto has_df = [](const Packet& whole) {
    return whole[14] >> 4U == 4 &&
           (wire::load_u16(&whole[14 + 6]) & wire::ipv4::kDontFragment) != 0;
  };
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(datagram(1500, 0))));
  CHECK(sealed.punts.empty());
  REQUIRE(sealed.wan.size() == 2);
  for (const Packet& outer : sealed.wan) {
    CHECK(outer.size() <= 1514);
    CHECK(wire::parse_ip(ip_of(outer))->is_fragment);
    CHECK_FALSE(has_df(outer));
  }
  const Result opened = pair.right.receive(kWan, sealed.wan);
  REQUIRE(opened.lan.size() == 1);
  CHECK(payload_of(opened.lan[0]) == datagram(1500, 0).payload);
  // What fits has it, over IPv4, and what may not be cut is refused.
  const Result small = pair.left.receive(kLan, frame(ip_packet(datagram(1000, 0))));
  REQUIRE(small.wan.size() == 1);
  CHECK(has_df(small.wan[0]) == (small.wan[0][14] >> 4U == 4));
  const Result refused = pair.left.receive(kLan, frame(ip_packet(datagram(1500, 0x4000))));
  CHECK(refused.wan.empty());
  CHECK(refused.punts.size() == 1);
}

TEST_CASE("sizes: a SYN into the tunnel announces what fits it, to the byte") {
  const bool is_v6 = GENERATE(false, true);
  Pair pair({}, with_families(false, is_v6));
  const std::string here = is_v6 ? "2001:db8:1::9" : "10.1.0.9";
  const std::string there = is_v6 ? "2001:db8:2::7" : "10.2.0.7";
  const Result sealed = pair.left.receive(kLan, frame(syn(here, there, is_v6 ? 1440 : 1460)));
  REQUIRE(sealed.wan.size() == 1);
  const Result opened = pair.right.receive(kWan, sealed.wan[0]);
  REQUIRE(opened.lan.size() == 1);
  const std::size_t headers = is_v6 ? 60 : 40;
  const std::size_t segment = headers + mss_of(opened.lan[0]);
  const auto passes = [&](std::size_t bytes) {
    return pair.left.receive(kLan, frame(ip_packet(of_size(bytes, is_v6, 0x4000)))).wan.size();
  };
  CHECK(passes(segment) == 1);
  CHECK(passes(segment + 1) == 0);
  CHECK(pair.left.worker().counters.mss_clamped.read() == 1);
}

TEST_CASE("sizes: a SYN out of the tunnel announces what fits the way back") {
  Pair pair;
  SaOptions back;
  std::swap(back.outer_local, back.outer_remote);
  back.local_selectors = {"10.2.0.0/16"};
  back.remote_selectors = {"10.1.0.0/24"};
  const auto out = outbound_sa(back, 0x3000);
  pair.right.protect("10.2.0.0/16", "10.1.0.0/24", pair.right.install(out));
  pair.right.tables().sad->set_path_mtu(out.sa, 1300);
  // A small MSS that left's way would allow.
  const Result sealed = pair.left.receive(kLan, frame(syn("10.1.0.9", "10.2.0.7", 1380)));
  REQUIRE(sealed.wan.size() == 1);
  const Result opened = pair.right.receive(kWan, sealed.wan[0]);
  REQUIRE(opened.lan.size() == 1);
  CHECK(mss_of(opened.lan[0]) < 1300 - 40 - 36);
  CHECK(mss_of(opened.lan[0]) > 1300 - 40 - 64);
}

TEST_CASE("sizes: mss_clamp: false leaves SYNs alone") {
  config::HeaderOptions headers;
  headers.mss_clamp = false;
  Pair pair(headers);
  const Result sealed = pair.left.receive(kLan, frame(syn("10.1.0.9", "10.2.0.7", 1460)));
  REQUIRE(sealed.wan.size() == 1);
  const Result opened = pair.right.receive(kWan, sealed.wan[0]);
  REQUIRE(opened.lan.size() == 1);
  CHECK(mss_of(opened.lan[0]) == 1460);
}

TEST_CASE("sizes: a SYN of a known flow is clamped like the first one") {
  Pair pair;
  for (int i = 0; i < 3; ++i) {
    const Result sealed = pair.left.receive(kLan, frame(syn("10.1.0.9", "10.2.0.7", 1460)));
    REQUIRE(sealed.wan.size() == 1);
    CHECK(mss_of(pair.right.receive(kWan, sealed.wan[0]).lan.at(0)) < 1460);
  }
}

/// Frames with the pieces of an echo request of some 1 900 bytes.
std::vector<Packet> large_echo(const std::string& source, const std::string& destination) {
  const bool is_v6 = source.find(':') != std::string::npos;
  Packet request = echo_request(source, destination);
  // Larger, by zeros that change no checksum but IPv6's length.
  const std::size_t more = 1800;
  const std::size_t head = is_v6 ? 40 : 20;
  request.resize(request.size() + more);
  request[6] = is_v6 ? 58 : 0;
  wire::store_u16(&request[is_v6 ? 4 : 2],
                  static_cast<std::uint16_t>(request.size() - (is_v6 ? 40 : 0)));
  if (is_v6) {
    wire::store_u16(&request[head + 2], 0);
    wire::ChecksumSum sum;
    sum.add_pseudo_header(wire::IpAddress::parse(source).value(),
                          wire::IpAddress::parse(destination).value(), 58,
                          static_cast<std::uint32_t>(request.size() - head));
    sum.add(wire::Bytes(request).subspan(head));
    wire::store_u16(&request[head + 2], sum.finish());
  } else {
    request[6] = request[7] = 0;
    wire::write_ipv4_checksum(request.data(), 20);
  }
  const auto cut = cut_for(request, 1280, 99).value();
  std::vector<Packet> frames;
  for (std::uint16_t i = 0; i < cut.count; ++i) {
    Packet piece(1280);
    piece.resize(write_fragment(request, cut, i, piece));
    frames.push_back(frame(piece));
  }
  return frames;
}

TEST_CASE("sizes: a large echo to us comes in pieces, is put together, and answered in pieces") {
  const bool is_v6 = GENERATE(false, true);
  Gateway gateway;
  const std::vector<Packet> frames =
      large_echo(is_v6 ? "2001:db8:1::9" : "10.1.0.9", is_v6 ? "2001:db8:1::1" : "10.1.0.1");
  REQUIRE(frames.size() == 2);
  const Result result = gateway.receive(kLan, frames);
  CHECK(result.drops.empty());
  REQUIRE(result.lan.size() == 2);
  for (const Packet& reply : result.lan) {
    CHECK(reply.size() <= 1514);
    CHECK(wire::parse_ip(ip_of(reply))->is_fragment);
  }
}

TEST_CASE("sizes: the answer to a large echo that came through a tunnel is cut for the tunnel") {
  const bool is_v6 = GENERATE(false, true);
  const auto fragmentation =
      GENERATE(config::FragmentationOrder::before, config::FragmentationOrder::after);
  Gateway left, right(mirrored());
  SaOptions there, back;
  there.local_selectors = {is_v6 ? "2001:db8:1::/64" : "10.1.0.0/24"};
  there.remote_selectors = {is_v6 ? "2001:db8:2::/64" : "10.2.0.0/16"};
  std::swap(back.outer_local, back.outer_remote);
  back.local_selectors = there.remote_selectors;
  back.remote_selectors = there.local_selectors;
  SaSettings settings;
  settings.headers.fragmentation = fragmentation;
  left.protect(there.local_selectors[0], there.remote_selectors[0],
               left.install(outbound_sa(there, 0x1000), settings));
  left.install(inbound_sa(back, 0x2000));
  right.protect(back.local_selectors[0], back.remote_selectors[0],
                right.install(outbound_sa(back, 0x2000), settings));
  right.install(inbound_sa(there, 0x1000));
  const std::vector<Packet> request =
      large_echo(is_v6 ? "2001:db8:1::9" : "10.1.0.9", is_v6 ? "2001:db8:2::1" : "10.2.0.1");
  const Result answered = right.receive(kWan, left.receive(kLan, request).wan);
  CHECK(answered.drops.empty());
  REQUIRE(answered.wan.size() == 2);
  const Result arrived = left.receive(kWan, answered.wan);
  CHECK(arrived.drops.empty());
  std::size_t bytes = 0;
  for (const Packet& reply : arrived.lan) {
    const Packet ip = ip_of(reply);
    const auto header = wire::parse_ip(ip);
    CHECK(header->is_fragment);
    bytes += header->payload_bytes();
  }
  // ICMP header, what echo_request() has behind it, and the zeros.
  const std::size_t head = is_v6 ? 40 : 20;
  CHECK(bytes ==
        echo_request(is_v6 ? "2001:db8:1::9" : "10.1.0.9", is_v6 ? "2001:db8:2::1" : "10.2.0.1")
                .size() -
            head + 1800);
}

TEST_CASE("sizes: overlapping fragments of ESP never become a packet (RFC 5722 §4)") {
  config::HeaderOptions headers;
  headers.fragmentation = config::FragmentationOrder::after;
  Pair pair(headers);
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(of_size(1500, false, 0))));
  REQUIRE(sealed.wan.size() == 2);
  Packet overlapping = sealed.wan[1];
  wire::store_u16(&overlapping[14 + 6],
                  static_cast<std::uint16_t>(wire::load_u16(&overlapping[14 + 6]) - 1));
  fix_checksum(overlapping);
  const Result result = pair.right.receive(kWan, {sealed.wan[0], overlapping, sealed.wan[1]});
  CHECK(result.lan.empty());
  CHECK(result.dropped(DropReason::fragment_overlap) == 3);
}

TEST_CASE("sizes: what policy says of a packet for us it says of no fragment (RFC 4301 §5.2)") {
  config::HeaderOptions headers;
  headers.fragmentation = config::FragmentationOrder::after;
  Pair pair(headers);
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(of_size(1500, false, 0))));
  REQUIRE(sealed.wan.size() == 2);
  SECTION("ESP is what the policy asks for") {
    pair.right.protect("198.51.100.2/32", "198.51.100.1/32", kNoSlot);
  }
  SECTION("ESP is not asked whether it may be in clear") {
    pair.right.policy(PolicyAction::discard, "198.51.100.1/32", "198.51.100.2/32");
  }
  CHECK(pair.right.receive(kWan, sealed.wan).lan.size() == 1);
}

TEST_CASE("sizes: a packet gives way to one that is whole at once") {
  Gateway gateway;
  for (std::uint16_t i = 0; i < Reassembler::kPackets; ++i) {
    const PacketOptions first{
        .source = "198.51.100.9", .destination = "198.51.100.1", .fragment = 0x2000};
    Packet begun = frame(ip_packet(first));
    wire::store_u16(&begun[14 + 4], i);
    fix_checksum(begun);
    CHECK(gateway.receive(kWan, begun).drops.empty());
  }
  // Two fragment headers: by the first it is whole, by the second a piece.
  PacketOptions nested{.source = "2001:db8:ff::9", .destination = "2001:db8:ff::1", .protocol = 44};
  nested.payload = Packet(24, 0);
  nested.payload[0] = 44;
  wire::store_u16(&nested.payload[8 + 2], 8);
  const Result result = gateway.receive(kWan, frame(ip_packet(nested)));
  CHECK(result.drops == std::map<DropReason, std::uint64_t>{{DropReason::reassembly_full, 1}});
  CHECK(gateway.worker().counters.reassembled.read() == 1);
}

TEST_CASE(
    "sizes: a piece waits for the others, an atomic fragment header inside or not (RFC 6946)") {
  const Packet request = echo_request("2001:db8:1::9", "2001:db8:1::1");
  const auto piece = [](std::uint16_t place, wire::Bytes first, wire::Bytes second) {
    Packet payload{44, 0, 0, static_cast<std::uint8_t>(place), 0, 0, 0, 7};
    payload.insert(payload.end(), first.begin(), first.end());
    payload.insert(payload.end(), second.begin(), second.end());
    return frame(ip_packet({.source = "2001:db8:1::9",
                            .destination = "2001:db8:1::1",
                            .protocol = 44,
                            .payload = payload}));
  };
  const wire::Bytes echo = wire::Bytes(request).subspan(40);
  const Packet atomic{58, 0, 0, 0, 0, 0, 0, 9};
  Gateway gateway;
  const Result waits = gateway.receive(kLan, piece(1, atomic, echo.first(8)));
  CHECK(waits.drops.empty());
  CHECK(waits.lan.empty());
  CHECK(gateway.worker().reassembler.held() == 1);
  CHECK(gateway.receive(kLan, piece(16, echo.subspan(8), {})).lan.size() == 1);
}

TEST_CASE("sizes: fragments of one packet meet at one worker, whichever got them") {
  config::HeaderOptions headers;
  headers.fragmentation = config::FragmentationOrder::after;
  Pair pair(headers);
  const Result sealed = pair.left.receive(kLan, frame(ip_packet(of_size(1500, false, 0))));
  REQUIRE(sealed.wan.size() == 2);
  std::size_t kept = 0;
  for (const std::uint16_t worker : {std::uint16_t{0}, std::uint16_t{1}}) {
    Gateway one(mirrored(), 2, worker);
    const Result result = one.receive(kWan, sealed.wan);
    CHECK(result.drops.empty());
    kept += one.worker().counters.reassembled.read();
  }
  CHECK(kept == 1);
}

TEST_CASE("sizes: what a router says about our packets goes to the main thread") {
  Gateway gateway;
  Packet message(8 + 28, 0);
  message[0] = 3;
  message[1] = 4;
  const Result result = gateway.receive(kWan, frame(ip_packet({.source = "198.51.100.9",
                                                               .destination = "198.51.100.1",
                                                               .protocol = 1,
                                                               .payload = message})));
  REQUIRE(result.punts.size() == 1);
  CHECK(result.punts[0].what.reason == PuntReason::path_too_big);
}
