// Packets for us that came in fragments and are larger than any frame: IKE, echoes, ESP.
#include <algorithm>

#include <catch2/catch.hpp>
#include <rte_mbuf.h>

#include "dataplane/control/ike_datagram.hpp"
#include "dataplane/control/ip_fragments.hpp"
#include "dataplane/worker/encapsulate.hpp"
#include "tests/model/fragment_model.hpp"
#include "tests/unit/dataplane/pipeline/forged.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/checksum.hpp"
#include "wire/ethernet.hpp"
#include "wire/ike/recipient_spi.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

Packet counting(std::size_t bytes) {
  Packet data(bytes);
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::uint8_t>(i * 11 + i / 251);
  return data;
}

/// As a peer's host cuts it, of identification 99, the last one first.
std::vector<Packet> in_fragments(Packet ip, std::uint16_t mtu = 1500) {
  if (ip[0] >> 4 == 4) {
    wire::store_u16(&ip[4], 99);
    wire::write_ipv4_checksum(ip.data(), 20);
  }
  std::vector<Packet> frames;
  for (const Packet& piece : control::fragments_of(ip, mtu, 99)) frames.push_back(frame(piece));
  std::ranges::reverse(frames);
  return frames;
}

/// What stands behind the IP headers of one packet's fragments.
Packet whole_of(const std::vector<Packet>& frames) {
  std::vector<model::Fragment> pieces;
  for (const Packet& one : frames) {
    const auto piece = model::fragment_of(ip_of(one));
    REQUIRE(piece);
    pieces.push_back(*piece);
  }
  std::ranges::sort(pieces, {}, &model::Fragment::offset);
  return model::joined(pieces).value();
}

/// The largest packet that stands in a buffer of the pool, with room for ESP around it.
std::size_t largest_in(rte_mempool* pool) {
  return rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM - wire::ethernet::kHeaderBytes -
         kMostBehindPacket;
}
/// Large buffers that somebody else holds.
class TakenBuffers {
 public:
  explicit TakenBuffers(std::size_t count) : taken_(count) {
    REQUIRE(rte_pktmbuf_alloc_bulk(large_packet_pool(), taken_.data(),
                                   static_cast<unsigned>(count)) == 0);
  }
  ~TakenBuffers() { rte_pktmbuf_free_bulk(taken_.data(), static_cast<unsigned>(taken_.size())); }
  TakenBuffers(const TakenBuffers&) = delete;
  TakenBuffers& operator=(const TakenBuffers&) = delete;

 private:
  std::vector<rte_mbuf*> taken_;
};
bool all_are_back() { return rte_mempool_in_use_count(large_packet_pool()) == 0; }

PacketOptions transit(std::size_t bytes, bool may_be_cut) {
  PacketOptions options;
  options.protocol = 99;
  options.fragment = may_be_cut ? 0 : 0x4000;
  options.payload = counting(bytes - 20);
  return options;
}

config::HeaderOptions cut_after_sealing() {
  config::HeaderOptions headers;
  headers.df = config::DontFragment::clear;
  headers.fragmentation = config::FragmentationOrder::after;
  return headers;
}

}  // namespace

TEST_CASE("wholes: an IKE message in six fragments reaches the main thread (RFC 7296 §2)") {
  const bool is_v6 = GENERATE(false, true);
  const std::uint16_t port = GENERATE(std::uint16_t{500}, std::uint16_t{4500});
  const auto address = [](const char* text) { return wire::IpAddress::parse(text).value(); };
  channel::Datagram sent;  // the largest that a Culvert sends
  sent.local = {address(is_v6 ? "2001:db8:ff::2" : "198.51.100.2"), port};
  sent.remote = {address(is_v6 ? "2001:db8:ff::1" : "198.51.100.1"), port};
  sent.length = channel::kMaxDatagramBytes;
  std::ranges::copy(counting(sent.length), sent.bytes.begin());
  Packet packet(control::ike_packet_bytes(sent));
  wire::Writer writer(packet);
  control::build_ike_packet(writer, sent, 99);

  Gateway gateway;
  gateway.tables().ike_spis->put(wire::ike::recipient_spi(sent.bytes));
  const auto frames = in_fragments(packet);
  REQUIRE(frames.size() == 6);
  const Result result = gateway.receive(kWan, frames);
  CHECK(result.drops.empty());
  REQUIRE(result.punts.size() == 1);
  CHECK(result.punts[0].what.reason ==
        (port == 500 ? PuntReason::ike : PuntReason::ike_nat_traversal));
  CHECK(ip_of(result.punts[0].bytes) == packet);
  const auto arrived = control::parse_ike_packet(ip_of(result.punts[0].bytes));
  REQUIRE(arrived);
  CHECK(std::ranges::equal(std::span(arrived->bytes).first(arrived->length), counting(8064)));
  CHECK(all_are_back());
}

TEST_CASE("wholes: IKE behind IPv6 extension headers is read, whole or in fragments") {
  channel::Datagram sent;
  sent.local = {wire::IpAddress::parse("2001:db8:ff::2").value(), 500};
  sent.remote = {wire::IpAddress::parse("2001:db8:ff::1").value(), 500};
  sent.length = 3000;
  std::ranges::copy(counting(sent.length), sent.bytes.begin());
  std::vector<Packet> frames;
  const auto built = [&] {
    Packet packet(control::ike_packet_bytes(sent));
    wire::Writer writer(packet);
    control::build_ike_packet(writer, sent, 0);
    return packet;
  };
  const Packet options = {0, 0, 1, 4, 0, 0, 0, 0};  // PadN
  SECTION("destination options") {
    sent.length = 300;
    frames = {frame(behind_extension(built(), 60, options))};
  }
  SECTION("an atomic fragment (RFC 6946)") {
    sent.length = 300;
    frames = {frame(behind_extension(built(), 44, {0, 0, 0, 0, 0, 0, 0, 7}))};
  }
  SECTION("in front of each fragment's header (RFC 8200 §4.5)") {
    for (const Packet& piece : control::fragments_of(built(), 1400, 99)) {
      frames.push_back(frame(behind_extension(piece, 60, options)));
    }
    REQUIRE(frames.size() == 3);
  }
  Gateway gateway;
  gateway.tables().ike_spis->put(wire::ike::recipient_spi(sent.bytes));
  const Result result = gateway.receive(kWan, frames);
  CHECK(result.drops.empty());
  REQUIRE(result.punts.size() == 1);
  CHECK(result.punts[0].what.reason == PuntReason::ike);
  const auto arrived = control::parse_ike_packet(ip_of(result.punts[0].bytes));
  REQUIRE(arrived);
  CHECK(arrived->length == sent.length);
  CHECK(arrived->remote == sent.local);
  CHECK(std::ranges::equal(std::span(arrived->bytes).first(sent.length), counting(sent.length)));
}

TEST_CASE("wholes: an echo of 8 KB is answered with each of its bytes") {
  const bool is_v6 = GENERATE(false, true);
  const std::string here = is_v6 ? "2001:db8:1::9" : "10.1.0.9";
  const std::string us = is_v6 ? "2001:db8:1::1" : "10.1.0.1";
  const std::uint8_t protocol = is_v6 ? 58 : 1;
  const auto echo = [&](std::uint8_t type) {
    Packet message = counting(8000);
    message[0] = type;
    message[1] = message[2] = message[3] = 0;
    wire::ChecksumSum sum;
    sum.add(message);
    if (is_v6) {
      sum.add_pseudo_header(wire::IpAddress::parse(here).value(),
                            wire::IpAddress::parse(us).value(), protocol, 8000);
    }
    wire::store_u16(&message[2], sum.finish());
    return message;
  };
  Gateway gateway;
  const Result result =
      gateway.receive(kLan, in_fragments(ip_packet({.source = here,
                                                    .destination = us,
                                                    .protocol = protocol,
                                                    .fragment = 0,
                                                    .payload = echo(is_v6 ? 128 : 8)})));
  CHECK(result.drops.empty());
  CHECK(result.lan.size() == 6);
  for (const Packet& reply : result.lan) CHECK(reply.size() <= 1514);
  CHECK(whole_of(result.lan) == echo(is_v6 ? 129 : 0));
  CHECK(all_are_back());
}

TEST_CASE("wholes: ESP of many fragments is opened, and what was inside is cut for its link") {
  const std::size_t bytes = GENERATE(2100, 6000, 60000);
  SaOptions options;
  if (GENERATE(false, true)) {
    options.suite = {crypto::Encryption::aes_cbc, 256, crypto::Integrity::hmac_sha2_512_256};
  }
  if (GENERATE(false, true)) {
    options.outer_local = "2001:db8:ff::1";
    options.outer_remote = "2001:db8:ff::2";
  }
  Pair pair(cut_after_sealing(), options);
  const PacketOptions packet = transit(bytes, true);
  // What a gateway holds for an SA may be as large: it is sealed whole in the same buffer.
  const Result sealed =
      pair.left.inject(ip_packet(packet), {InjectKind::outbound_transit, kLan, false});
  CHECK(sealed.drops.empty());
  REQUIRE(sealed.wan.size() > bytes / 1500);
  for (const Packet& outer : sealed.wan) CHECK(outer.size() <= 1514);
  const Result opened = pair.right.receive(kWan, sealed.wan);
  CHECK(opened.drops.empty());
  CHECK(pair.right.worker().counters.reassembled.read() == 1);
  CHECK(whole_of(opened.lan) == packet.payload);
  CHECK(all_are_back());
}

TEST_CASE("wholes: what fits a link leaves no large buffer with the device") {
  Pair pair;
  const bool is_known = GENERATE(true, false);
  if (!is_known) {
    const auto client = wire::Prefix::parse("10.2.0.7/32").value();
    const auto link = pair.right.tables().adjacencies->add_glean(kLan, 1500).value();
    REQUIRE(pair.right.tables().fib->add(client, link));
  }
  // A small packet with much behind it that hides its size (RFC 4303 §2.7).
  const Packet packet = ip_packet(transit(1000, true));
  Packet padded = packet;
  padded.resize(2598, 0);
  const auto fragments = in_fragments(ip_of(forged(pair, with_trailer(padded, 4))));
  REQUIRE(fragments.size() == 2);
  bool has_left = false;
  pair.right.iterate = [&](WorkerState& worker, Burst& burst) {
    run_iteration(worker, burst);
    has_left |= worker.counters.reassembled.read() == 1;
    CHECK(all_are_back());
  };
  const Result opened = pair.right.receive(kWan, fragments);
  CHECK(has_left);
  CHECK(opened.drops.empty());
  REQUIRE(opened.lan.size() + opened.punts.size() == 1);
  if (is_known) {
    const Packet ip = ip_of(opened.lan.at(0));
    CHECK(Packet(ip.begin() + 20, ip.end()) == Packet(packet.begin() + 20, packet.end()));
  } else {
    CHECK(opened.punts[0].what.reason == PuntReason::resolve_neighbor);
    CHECK(opened.punts[0].bytes.size() == packet.size());
  }
}

TEST_CASE("wholes: of what was inside and may not be cut the sender is told") {
  Pair pair(cut_after_sealing());
  const Packet packet = ip_packet(transit(6000, false));
  const Result sealed = pair.left.inject(packet, {InjectKind::outbound_transit, kLan, false});
  const Result opened = pair.right.receive(kWan, sealed.wan);
  REQUIRE(opened.punts.size() == 1);
  CHECK(opened.punts[0].what.reason == PuntReason::packet_too_big);
  CHECK(opened.punts[0].what.mtu == 1500);
  CHECK(opened.punts[0].bytes.size() == 6000);
  CHECK(all_are_back());
}

TEST_CASE("wholes: the largest packet, to the byte, and one more") {
  const bool is_large = GENERATE(false, true);
  const std::size_t largest = largest_in(is_large ? large_packet_pool() : packet_pool());
  Gateway gateway;
  if (!is_large) gateway.context().large_pool = nullptr;
  const auto receive = [&](std::size_t bytes) {
    return gateway.receive(kWan,
                           in_fragments(ip_packet({.source = "198.51.100.2",
                                                   .destination = "198.51.100.1",
                                                   .fragment = 0,
                                                   .payload = udp(1, 9, counting(bytes - 28))})));
  };
  const Result fits = receive(largest);
  CHECK(fits.drops.empty());
  REQUIRE(fits.punts.size() == 1);
  CHECK(fits.punts[0].what.reason == PuntReason::port_unreachable);
  CHECK(fits.punts[0].bytes.size() == largest);
  const Result refused = receive(largest + 1);
  CHECK(refused.punts.empty());
  CHECK(refused.dropped(DropReason::reassembly_full) == (is_large ? 45 : 2));
  CHECK(all_are_back());
}

TEST_CASE("wholes: without a free large buffer the fragments end, and no one waits in one") {
  Gateway gateway;
  const auto frames = in_fragments(ip_packet({.source = "198.51.100.2",
                                              .destination = "198.51.100.1",
                                              .fragment = 0,
                                              .payload = udp(1, 9, counting(4000))}));
  {
    const TakenBuffers all(large_packet_pool()->size);
    CHECK(gateway.receive(kWan, frames).dropped(DropReason::reassembly_full) == frames.size());
  }
  CHECK(gateway.receive(kWan, frames).punts.size() == 1);

  // A fragment that came in fragments.
  PacketOptions nested{.source = "2001:db8:ff::9", .destination = "2001:db8:ff::1", .protocol = 44};
  nested.payload = counting(8 + 4000);
  nested.payload[0] = 17;
  wire::store_u16(&nested.payload[2], 8 | 1);
  const auto outer = in_fragments(ip_packet(nested));
  const Result result = gateway.receive(kWan, outer);
  CHECK(result.drops == std::map<DropReason, std::uint64_t>{{DropReason::reassembly_full, 1}});
  CHECK(gateway.worker().reassembler.held() == 0);
  CHECK(all_are_back());
}

TEST_CASE("wholes: what waits for the main thread leaves large buffers to others") {
  Pair pair(cut_after_sealing());
  const auto message = [](std::uint8_t responder_spi) {
    Packet ike = counting(4000);
    std::fill_n(&ike[8], 8, responder_spi);
    ike[19] = 0x08;  // from the initiator
    return in_fragments(ip_packet({.source = "198.51.100.9",
                                   .destination = "198.51.100.2",
                                   .fragment = 0,
                                   .payload = udp(500, 500, ike)}));
  };
  const auto newcomer = message(0), known = message(7);
  pair.right.tables().ike_spis->put(0x0707070707070707);
  const auto waits = [&](const std::vector<Packet>& frames, std::size_t left) {
    const TakenBuffers others(large_packet_pool()->size - left);
    const Result result = pair.right.receive(kWan, frames);
    CHECK(result.punts.size() + result.dropped(DropReason::punt_queue_full) == 1);
    return result.punts.size() == 1;
  };
  const std::size_t half = large_packet_pool()->size / 2, quarter = large_packet_pool()->size / 4;
  CHECK(waits(newcomer, half + 1));
  CHECK_FALSE(waits(newcomer, half));
  CHECK(waits(known, half));
  CHECK(waits(known, quarter + 1));
  CHECK_FALSE(waits(known, quarter));
  // What is not for the main thread needs but one.
  const TakenBuffers others(large_packet_pool()->size - 1);
  Packet padded = ip_packet(transit(1000, true));
  padded.resize(2598, 0);
  const auto esp = in_fragments(ip_of(forged(pair, with_trailer(padded, 4))));
  CHECK(pair.right.receive(kWan, esp).lan.size() == 1);
}

TEST_CASE("wholes: ESP that came before its SA waits in no large buffer") {
  Gateway right(mirrored());
  const auto spi = static_cast<std::uint32_t>(right.tables().sad->lease_spis(1).at(0));
  Gateway left;
  left.protect("10.1.0.0/24", "10.2.0.0/16",
               left.install(outbound_sa({}, spi), {.headers = cut_after_sealing()}));
  const Result sealed =
      left.inject(ip_packet(transit(4000, true)), {InjectKind::outbound_transit, kLan, false});
  REQUIRE(sealed.wan.size() > 1);
  right.worker().next_spi_hint = ~0ULL;
  const Result early = right.receive(kWan, sealed.wan);
  CHECK(early.dropped(DropReason::sa_not_found) == 1);
  CHECK(right.worker().early.count() == 0);
  CHECK(all_are_back());
}

TEST_CASE("wholes: their pieces are sealed before a worker is quiescent, never by another SA") {
  Pair pair(cut_after_sealing());
  SaOptions back;
  std::swap(back.outer_local, back.outer_remote);
  back.local_selectors = {"10.1.0.0/24"};
  back.remote_selectors = {"10.2.0.0/16"};
  const auto out = outbound_sa(back, 0x3000);
  const SlotIndex slot = pair.right.install(out);
  pair.right.protect("10.1.0.0/24", "10.2.0.0/16", slot);
  const Result sealed =
      pair.left.inject(ip_packet(transit(2500, true)), {InjectKind::outbound_transit, kLan, false});

  std::size_t iterations = 0;
  pair.right.iterate = [&](WorkerState& worker, Burst& burst) {
    run_iteration(worker, burst);
    CHECK(worker.pending.count() == 0);
    if (++iterations != 1) return;
    // All that a grace period waits for has been: the slot may be another's.
    REQUIRE(pair.right.tables().sad->remove(out.sa) == channel::Outcome::ok);
    pair.right.tables().reclaimer->drain();
    std::uint32_t spi = 0x4000;
    while (pair.right.install(outbound_sa(back, spi)) != slot) REQUIRE(++spi < 0x4000 + 1024);
  };
  const Result opened = pair.right.receive(kWan, sealed.wan);
  CHECK(opened.drops.empty());
  REQUIRE(opened.wan.size() == 2);
  for (const Packet& piece : opened.wan) CHECK(wire::load_u32(&piece[14 + 20]) == 0x3000);
}

TEST_CASE("wholes: a policy counts what came in fragments once, whichever worker got them") {
  const PacketOptions options{.source = "198.51.100.2",
                              .destination = "198.51.100.1",
                              .fragment = 0,
                              .payload = udp(500, 500, counting(3000))};
  const auto frames = in_fragments(ip_packet(options));
  REQUIRE(frames.size() == 3);
  const auto counted = [&](std::uint32_t workers, std::uint16_t worker) {
    Gateway one({}, workers, worker);
    one.policy(PolicyAction::bypass, "198.51.100.0/24[udp]", "198.51.100.0/24[udp]");
    CHECK(one.receive(kWan, frames).drops.empty());
    return one.tables().spd->entries().at(0).packets;
  };
  CHECK(counted(1, 0) == 1);
  CHECK(counted(2, 0) + counted(2, 1) == 1);
}
