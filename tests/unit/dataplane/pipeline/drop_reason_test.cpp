// Each reason for which a worker drops, produced by a packet; and that none is missing.
#include <set>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/forged.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using enum DropReason;

std::set<DropReason>& seen() {
  static std::set<DropReason> reasons;
  return reasons;
}
void expect(const Result& result, DropReason reason) {
  INFO("expected " << info(reason).name);
  CHECK(result.dropped(reason) == 1);
  CHECK(result.drops.size() == 1);
  if (result.dropped(reason) != 0) seen().insert(reason);
}

}  // namespace

TEST_CASE("worker drops: frames and headers that are not sound") {
  Gateway gateway;
  expect(gateway.receive(kLan, Packet(13, 0)), malformed_ethernet);
  expect(gateway.receive(kLan, frame(Packet(46, 0), 0x88cc)), unknown_ethertype);
  expect(gateway.receive(kLan, frame({0, 100, 8, 0, 0x45, 0}, 0x8100)), unknown_vlan);
  Packet other = frame(ip_packet({}));
  other[0] = 0x06;
  expect(gateway.receive(kLan, other), not_for_us);
  Packet broken = frame(ip_packet({}));
  broken[14] = 0x44;
  expect(gateway.receive(kLan, broken), ipv4_header_invalid);
  broken = frame(ip_packet({}));
  broken[24] ^= 1;
  expect(gateway.receive(kLan, broken), ipv4_checksum_wrong);
  broken = frame(ip_packet({}));
  broken.pop_back();
  expect(gateway.receive(kLan, broken), truncated_packet);
  Packet six = frame(ip_packet({.source = "2001:db8:1::9", .destination = "2001:db8:2::7"}));
  six[14] = 0x50;
  expect(gateway.receive(kLan, six), ipv6_header_invalid);
  six =
      frame(ip_packet({.source = "2001:db8:1::9", .destination = "2001:db8:2::7", .protocol = 0}));
  six[14 + 41] = 200;  // an options header longer than the packet
  expect(gateway.receive(kLan, six), ipv6_extension_unsupported);
}

TEST_CASE("worker drops: addresses that are not forwarded (RFC 1812 §5.3)") {
  Gateway gateway;
  expect(gateway.receive(kLan, frame(ip_packet({.source = "127.0.0.1"}))), source_address_invalid);
  expect(gateway.receive(kLan, frame(ip_packet({.source = "198.51.100.1"}))),
         source_address_invalid);
  expect(gateway.receive(kLan, frame(ip_packet({.destination = "224.0.0.5"}))),
         destination_multicast);
  expect(gateway.receive(kLan, frame(ip_packet({.destination = "127.0.0.1"}))),
         destination_address_invalid);
  Packet broadcast = frame(ip_packet({.destination = "10.1.0.255"}));
  std::fill_n(broadcast.begin(), 6, 0xff);
  expect(gateway.receive(kLan, broadcast), destination_multicast);
}

TEST_CASE("worker drops: policy (RFC 4301 §5.1, §5.2)") {
  Gateway gateway;
  gateway.policy(PolicyAction::discard, "10.1.0.0/24", "10.9.0.0/16");
  gateway.protect("10.1.0.0/24", "10.2.0.0/16", kNoSlot);
  expect(gateway.receive(kLan, frame(ip_packet({.destination = "10.9.0.1"}))), policy_discard);
  expect(gateway.receive(kLan, frame(ip_packet({.destination = "10.7.0.1"}))), no_policy_match);
  expect(gateway.receive(kWan, frame(ip_packet({.source = "10.2.0.7", .destination = "10.1.0.9"}))),
         cleartext_violates_policy);
  expect(gateway.receive(kWan, frame(echo_request("10.2.0.7", "10.1.0.1"))),
         cleartext_violates_policy);
}

TEST_CASE("worker drops: ESP that meets no SA, or not its own (RFC 4303 §3.4.2)") {
  Pair pair;
  SECTION("bad SPI for us: a hint to the main thread, which counts it") {
    Packet packet = pair.sealed();
    packet[14 + 20] ^= 0x40;
    const Result result = pair.right.receive(kWan, packet);
    REQUIRE(result.punts.size() == 1);
    CHECK(result.punts[0].what.reason == PuntReason::unknown_spi);
  }
  SECTION("more of them than the main thread tells of") {
    Packet packet = pair.sealed();
    packet[14 + 20] ^= 0x40;
    expect(pair.right.receive(kWan, {packet, packet}), sa_not_found);
  }
  SECTION("a tunnel's SPI at an address of ours of the other family") {
    const Packet packet = pair.sealed();
    expect(pair.right.receive(kWan,
                              frame(ip_packet({.source = "2001:db8:ff::1",
                                               .destination = "2001:db8:ff::2",
                                               .protocol = 50,
                                               .payload = {packet.begin() + 34, packet.end()}}))),
           sa_endpoint_mismatch);
    CHECK(pair.right.receive(kWan, packet).lan.size() == 1);
  }
  SECTION("truncated") {
    for (const std::size_t esp_bytes : {8U, 16U, 32U, 35U}) {
      Packet packet = pair.sealed();
      packet.resize(14 + 20 + esp_bytes);
      wire::store_u16(&packet[16], static_cast<std::uint16_t>(20 + esp_bytes));
      fix_checksum(packet);
      expect(pair.right.receive(kWan, packet), esp_truncated);
    }
  }
  SECTION("a keepalive") {
    expect(pair.right.receive(kWan, frame(ip_packet({.source = "198.51.100.1",
                                                     .destination = "198.51.100.2",
                                                     .payload = udp(4500, 4500, {0xff})}))),
           nat_keepalive);
  }
}

TEST_CASE("worker drops: replay and integrity (RFC 4303 §3.4.3, §3.4.4)") {
  Pair pair;
  SECTION("a packet received twice, in two bursts and in one") {
    const Packet packet = pair.sealed();
    CHECK(pair.right.receive(kWan, packet).lan.size() == 1);
    expect(pair.right.receive(kWan, packet), replay_duplicate);
    const Packet second = pair.sealed();
    const Result both = pair.right.receive(kWan, {second, second});
    CHECK(both.lan.size() == 1);
    expect(both, replay_duplicate);
  }
  SECTION("older than the window") {
    const Packet first = pair.sealed();
    for (int i = 0; i < 64; ++i) pair.right.receive(kWan, pair.sealed());
    expect(pair.right.receive(kWan, first), replay_left_of_window);
  }
  SECTION("any bit changed: refused, and the window has not moved") {
    const Packet packet = pair.sealed({.payload = Packet(5, 1)});
    for (std::size_t at = 14 + 20 + 4; at < packet.size(); ++at) {
      Packet forged = packet;
      forged[at] ^= 0x10;
      expect(pair.right.receive(kWan, forged), icv_mismatch);
    }
    CHECK(pair.right.receive(kWan, packet).lan.size() == 1);
  }
  SECTION("a forgery does not age the SA") {
    Packet packet = pair.sealed();
    packet.back() ^= 1;
    expect(pair.right.receive(kWan, packet), icv_mismatch);
    const SaRecord* record = pair.right.tables().sad->find(pair.in_id);
    CHECK(pair.right.tables().sad->traffic(*record).packets == 0);
    CHECK(pair.right.tables().sad->traffic(*record).drops[static_cast<std::size_t>(icv_mismatch)] ==
          1);
  }
}

TEST_CASE("worker drops: what is under the encryption (RFC 4303 §2.4, §2.6; RFC 4301 §5.2)") {
  Pair pair;
  const Packet inner = ip_packet({.ttl = 9});
  SECTION("padding that is not 1, 2, 3") {
    Packet text = with_trailer(ip_packet({.payload = Packet(35, 1)}), 4);
    text[text.size() - 3] ^= 0x80;
    expect(pair.right.receive(kWan, forged(pair, text)), esp_padding_invalid);
  }
  SECTION("a pad length beyond the packet") {
    Packet text = with_trailer(inner, 4);
    text[text.size() - 2] = 255;
    expect(pair.right.receive(kWan, forged(pair, text)), esp_padding_invalid);
  }
  SECTION("no IP packet in a tunnel") {
    expect(pair.right.receive(kWan, forged(pair, with_trailer(inner, 6))), esp_next_header_invalid);
  }
  SECTION("a dummy packet") {
    expect(pair.right.receive(kWan, forged(pair, with_trailer(Packet(22, 7), 59))), dummy_packet);
  }
  SECTION("a dummy packet of random bytes, whatever they say of padding") {
    const std::uint8_t pad_length = GENERATE(std::uint8_t{5}, std::uint8_t{255});
    Packet text(24, 7);
    text[text.size() - 2] = pad_length;
    text.back() = 59;
    expect(pair.right.receive(kWan, forged(pair, text)), dummy_packet);
  }
  SECTION("rubbish instead of a header, and every prefix of a packet") {
    for (std::size_t length = 0; length < inner.size(); ++length) {
      const Packet prefix(inner.begin(), inner.begin() + static_cast<std::ptrdiff_t>(length));
      expect(pair.right.receive(kWan, forged(pair, with_trailer(prefix, 4))), inner_header_invalid);
    }
  }
  SECTION("traffic flow padding behind the packet is cut off") {
    Packet padded = inner;
    padded.resize(inner.size() + 40, 0);
    const Result result = pair.right.receive(kWan, forged(pair, with_trailer(padded, 4)));
    REQUIRE(result.lan.size() == 1);
    CHECK(result.lan[0].size() == 14 + inner.size());
  }
  SECTION("not what the SA was negotiated for") {
    const Packet other = ip_packet({.source = "10.1.1.9"});
    expect(pair.right.receive(kWan, forged(pair, with_trailer(other, 4))), inner_selector_mismatch);
    const Packet six = ip_packet({.source = "2001:db8:1::9", .destination = "2001:db8:2::7"});
    expect(pair.right.receive(kWan, forged(pair, with_trailer(six, 41))), inner_selector_mismatch);
  }
  SECTION("a later fragment for OPAQUE ports that may overwrite them (RFC 4301 §7.2)") {
    SaOptions options;
    options.local_selectors = {"10.1.0.0/24[udp/opaque]"};
    options.remote_selectors = {"10.2.0.0/16[udp/opaque]"};
    Pair opaque({}, options);
    expect(opaque.right.receive(kWan, opaque.sealed({.fragment = 1})), inner_fragment_offset);
    CHECK(opaque.right.receive(kWan, opaque.sealed({.fragment = 2})).lan.size() == 1);
    CHECK_FALSE(opaque.traffic().last_refusal);
    // Where ports do not matter, nothing is to be had by overwriting them.
    CHECK(pair.right.receive(kWan, pair.sealed({.fragment = 1})).lan.size() == 1);
  }
  SECTION("congestion marked on a flow that cannot hear of it") {
    Packet packet = pair.sealed();
    packet[15] = 3;
    fix_checksum(packet);
    expect(pair.right.receive(kWan, packet), congestion_marked);
  }
}

TEST_CASE("worker drops: lifetimes mean not one packet more (RFC 4301 §4.4.2.1)") {
  SECTION("inbound, packets") {
    SaOptions options;
    Pair pair({}, options);
    pair.right.tables().sad->remove(pair.in_id);
    options.lifetime.hard_packets = 2;
    const auto in = inbound_sa(options);
    pair.right.tables().reclaimer->poll();
    pair.right.install(in);
    CHECK(pair.right.receive(kWan, {pair.sealed(), pair.sealed()}).lan.size() == 2);
    expect(pair.right.receive(kWan, pair.sealed()), sa_expired);
    const SaRecord& record = *pair.right.tables().sad->find(in.sa);
    CHECK(pair.right.tables().sad->stopped(record) == StopCause::hard_packets);
    CHECK(pair.right.tables().sad->traffic(record).packets == 2);
  }
  SECTION("outbound, bytes, in the middle of a burst") {
    SaOptions options;
    options.lifetime.hard_bytes = 3 * 52 + 10;
    Pair pair({}, options);
    const Result result = pair.left.receive(kLan, std::vector<Packet>(4, frame(ip_packet({}))));
    CHECK(result.wan.size() == 3);
    expect(result, sa_expired);
    const SaRecord& record = *pair.left.tables().sad->find(pair.out_id);
    CHECK(pair.left.tables().sad->stopped(record) == StopCause::hard_bytes);
  }
  SECTION("sequence numbers do not cycle (RFC 4303 §3.3.3)") {
    Pair pair;
    const SaRecord& record = *pair.left.tables().sad->find(pair.out_id);
    pair.left.tables().sad->outbound(record.slot)->sequence.store(0xfffffffe);
    const Result result = pair.left.receive(kLan, std::vector<Packet>(2, frame(ip_packet({}))));
    CHECK(result.wan.size() == 1);
    expect(result, sequence_exhausted);
    expect(pair.left.receive(kLan, frame(ip_packet({}))), sequence_exhausted);
    CHECK(pair.left.tables().sad->stopped(record) == StopCause::sequence);
  }
  SECTION("an SA that is gone while a policy still names it: dropped, never in clear") {
    Pair pair;
    pair.left.tables().sad->remove(pair.out_id);
    const Result result = pair.left.receive(kLan, frame(ip_packet({})));
    CHECK(result.wan.empty());
    expect(result, no_sa);
  }
}

TEST_CASE("worker drops: what is for us and not served") {
  Gateway gateway;
  const auto to_us = [](std::uint8_t protocol, Packet payload) {
    return frame(ip_packet({.destination = "10.1.0.1", .protocol = protocol, .payload = payload}));
  };
  expect(gateway.receive(kLan, to_us(6, Packet(20, 1))), local_port_closed);
  expect(gateway.receive(kLan, to_us(89, Packet(20, 1))), local_protocol_unsupported);
  expect(gateway.receive(kLan, to_us(1, Packet(20, 5))), icmp_ignored);
  expect(gateway.receive(
             kLan, frame(ip_packet(
                       {.destination = "10.1.0.1", .fragment = 0x2000, .payload = Packet(33, 1)}))),
         fragment_invalid);
  const Result udp_closed = gateway.receive(kLan, to_us(17, udp(1, 2, {})));
  REQUIRE(udp_closed.punts.size() == 1);
  CHECK(udp_closed.punts[0].what.reason == PuntReason::port_unreachable);
}

TEST_CASE("worker drops: a fragment for transport mode, which is for whole packets") {
  SaOptions options;
  options.mode = channel::SaMode::transport;
  Gateway gateway;
  gateway.protect("10.1.0.0/24", "10.2.0.0/16", gateway.install(outbound_sa(options)));
  expect(gateway.receive(kLan, frame(ip_packet({.fragment = 0x2000}))), fragment_unsupported);
}

TEST_CASE("worker drops: queues that are full, buffers without room") {
  SECTION("the punt ring") {
    Gateway gateway;
    gateway.protect("10.1.0.0/24", "10.2.0.0/16", kNoSlot);
    Result last;
    std::uint64_t lost = 0;
    // The fixture empties the ring after each call, so one call has to overfill it.
    rte_mbuf* const filler = rte_pktmbuf_alloc(packet_pool());
    while (rte_ring_enqueue(gateway.context().punt, rte_pktmbuf_clone(filler, packet_pool())) ==
           0) {
    }
    rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
    const Packet bytes = frame(ip_packet({}));
    std::copy(bytes.begin(), bytes.end(),
              rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size())));
    REQUIRE(rte_eth_tx_burst(0, 0, &packet, 1) == 1);
    Burst burst;
    take_whole_bursts(gateway.worker());
    run_iteration(gateway.worker(), burst);
    lost = gateway.worker()
               .counters
               .drops[static_cast<std::size_t>(DropDirection::out)]
                     [static_cast<std::size_t>(punt_queue_full)]
               .read();
    CHECK(lost == 1);
    if (lost == 1) seen().insert(punt_queue_full);
    void* left = nullptr;
    while (rte_ring_dequeue(gateway.context().punt, &left) == 0) {
      rte_pktmbuf_free(static_cast<rte_mbuf*>(left));
    }
    rte_pktmbuf_free(filler);
  }
  SECTION("no room in front for the outer header") {
    Gateway gateway;
    gateway.protect("10.1.0.0/24", "10.2.0.0/16", gateway.install(outbound_sa({})));
    rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
    packet->data_off = 0;
    const Packet bytes = frame(ip_packet({}));
    std::copy(bytes.begin(), bytes.end(),
              rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size())));
    REQUIRE(rte_eth_tx_burst(0, 0, &packet, 1) == 1);
    expect(gateway.receive(kLan, std::vector<Packet>{}), no_headroom);
  }
  SECTION("the port") {
    Gateway gateway;
    gateway.policy(PolicyAction::bypass, "10.1.0.0/24", "10.2.0.0/16");
    // 255 frames fill the looped port's ring; what comes last finds no place.
    constexpr int kFrames = 30;  // no more than an iteration takes
    Burst burst;
    std::uint64_t lost = 0;
    for (int round = 0; round < 40 && lost == 0; ++round) {
      rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
      const Packet bytes = frame(ip_packet({}));
      std::copy(bytes.begin(), bytes.end(),
                rte_pktmbuf_append(packet, static_cast<std::uint16_t>(bytes.size())));
      auto ports = gateway.tables().ports.copy();
      ports[1].queues = 0;  // nobody reads what is sent
      gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);
      for (int i = 0; i < kFrames; ++i) {
        rte_mbuf* copy = rte_pktmbuf_copy(packet, packet_pool(), 0, UINT32_MAX);
        REQUIRE(rte_eth_tx_burst(0, 0, &copy, 1) == 1);
      }
      rte_pktmbuf_free(packet);
      take_whole_bursts(gateway.worker());
      run_iteration(gateway.worker(), burst);
      lost = gateway.worker()
                 .counters
                 .drops[static_cast<std::size_t>(DropDirection::out)]
                       [static_cast<std::size_t>(tx_queue_full)]
                 .read();
    }
    CHECK(lost > 0);
    if (lost > 0) seen().insert(tx_queue_full);
    rte_mbuf* frames[64];
    std::uint16_t count = 0;
    while ((count = rte_eth_rx_burst(1, 0, frames, 64)) != 0) rte_pktmbuf_free_bulk(frames, count);
  }
}

TEST_CASE("worker drops: no reason that a worker raises is without its packet") {
  // Raised by the main thread, or only by hardware faults that no looped port has, or where other
  // tests ask for it: unit/house wants each of them named by one.
  const std::set<DropReason> elsewhere = {
      neighbor_unresolved, neighbor_queue_full, acquire_queue_full, arp_ignored,
      neighbor_discovery_ignored, ike_policed, ike_not_connected, ike_datagram_invalid,
      ike_datagram_refused, no_buffer, shutting_down, ttl_exceeded, no_route, packet_too_big,
      handoff_queue_full,
      multi_segment_unsupported,  // segments_test
      path_mtu_below_minimum,     // control_path_mtu_test
      icmp_rate_limited,          // icmp_errors_test
      link_local_address,         // addresses_test
      // worker_fragment_test, sizes_test, fragment_timeout_test
      fragment_overlap, reassembly_timeout, reassembly_full,
      fragments_policed};  // two_workers_test
  for (const DropReasonInfo& row : all_drop_reasons()) {
    INFO(row.name);
    CHECK((seen().contains(row.reason) || elsewhere.contains(row.reason)));
  }
}
