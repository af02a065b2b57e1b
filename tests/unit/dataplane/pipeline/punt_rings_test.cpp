// What a worker hands to the main thread while that is flooded: neighbours and keys come through.
#include <algorithm>
#include <array>
#include <string>

#include <catch2/catch.hpp>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/worker/punt.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "tests/unit/dataplane/too_big_bytes.hpp"
#include "wire/arp.hpp"

namespace culvert::test::punt_rings {
namespace {

using namespace dataplane;

constexpr unsigned int kPlaces = 64;
/// But those that "too big" alone takes.
constexpr unsigned int kCommon = kPlaces - kPlaces / 8;

/// A gateway whose worker has the rings that the data plane gives it, and a main thread that does
/// not come to them.
struct Site {
  Site() {
    WorkerContext& context = gateway.context();
    fixtures_ = context.punt;
    context.punt = rings_[0] = make("rings_punt");
    context.punt_links = rings_[1] = make("rings_links");
    context.punt_peers = rings_[2] = make("rings_peers");
    context.punt_newcomers = rings_[3] = make("rings_newcomers");
    gateway.waits_elsewhere = [this] {
      std::size_t waiting = 0;
      for (const rte_ring* ring : rings_) waiting += rte_ring_count(ring);
      return waiting;
    };
    gateway.tables().peers.publish({*wire::IpAddress::parse("198.51.100.2")},
                                   *gateway.tables().reclaimer);
    gateway.tables().ike_spis->put(0x0707070707070707);
  }
  ~Site() {
    for (rte_ring* ring : rings_) {
      void* packet = nullptr;
      while (rte_ring_dequeue(ring, &packet) == 0) {
        rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
      }
      rte_ring_free(ring);
    }
    gateway.context().punt = fixtures_;
    gateway.context().punt_links = nullptr;
    gateway.context().punt_peers = nullptr;
    gateway.context().punt_newcomers = nullptr;
  }
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;

  /// The packet so many times: how many went to the main thread, as `reason`.
  std::uint64_t come(const Packet& bytes, std::uint32_t times, PuntReason reason) {
    const std::size_t before = gateway.waits_elsewhere();
    std::uint64_t refused = 0;
    for (std::uint32_t left = times; left != 0;) {
      const std::uint32_t burst = std::min(left, 32U);
      refused += gateway.receive(kWan, std::vector<Packet>(burst, bytes))
                     .dropped(DropReason::punt_queue_full);
      left -= burst;
    }
    const std::size_t punts = gateway.waits_elsewhere() - before;
    CHECK(punts + refused == times);
    if (punts != 0) CHECK(has_one_of(reason));
    return punts;
  }
  std::uint64_t come(const Packet& bytes, PuntReason reason) { return come(bytes, 1, reason); }

  Gateway gateway;

 private:
  static rte_ring* make(const char* name) {
    rte_ring* const ring = rte_ring_create(name, kPlaces, 0, RING_F_EXACT_SZ);
    REQUIRE(ring != nullptr);
    return ring;
  }
  /// Whether some ring's packets are of that reason. They stay, in another order.
  bool has_one_of(PuntReason reason) {
    bool found = false;
    for (rte_ring* ring : rings_) {
      for (unsigned int left = rte_ring_count(ring); left != 0; --left) {
        void* packet = nullptr;
        REQUIRE(rte_ring_dequeue(ring, &packet) == 0);
        found = found || punted(static_cast<rte_mbuf*>(packet)).reason == reason;
        REQUIRE(rte_ring_enqueue(ring, packet) == 0);
      }
    }
    return found;
  }

  rte_ring* fixtures_ = nullptr;
  std::array<rte_ring*, 4> rings_{};
};

Packet to_us(const std::string& source, std::uint16_t port, const Packet& data) {
  return frame(ip_packet(
      {.source = source, .destination = "198.51.100.1", .payload = udp(500, port, data)}));
}
Packet ike(const std::string& source, std::uint8_t responder_spi) {
  Packet message(28, 0x11);
  std::fill_n(message.begin() + 8, 8, responder_spi);
  message[19] = 8;  // from the initiator
  return to_us(source, 500, message);
}
Packet arp_reply() {
  wire::ArpMessage message;
  message.operation = wire::ArpMessage::Operation::reply;
  message.sender_mac = kTheirMac;
  message.sender = *wire::IpAddress::parse("198.51.100.2");
  message.target_mac = kOurMac;
  message.target = *wire::IpAddress::parse("198.51.100.1");
  Packet bytes(wire::kArpBytes);
  wire::Writer writer(bytes);
  wire::build_arp(writer, message);
  return frame(bytes, 0x0806);
}
Packet advertisement() {
  PacketOptions options{.source = "2001:db8:ff::2",
                        .destination = "2001:db8:ff::1",
                        .protocol = wire::protocol::kIcmpv6,
                        .ttl = 255};
  options.payload = Packet(24);
  options.payload[0] = 136;
  return frame(ip_packet(options));
}
/// About a packet of ours; whether of an SA's the main thread asks.
Packet too_big() {
  const auto us = *wire::IpAddress::parse("198.51.100.1");
  const auto quoted = ip_header(50, 1500, us, *wire::IpAddress::parse("198.51.100.2"));
  return frame(too_big_about(quoted, 1300, *wire::IpAddress::parse("198.51.100.9"), us));
}

const std::string kConfigured = "198.51.100.2", kStranger = "198.51.100.9";

}  // namespace

TEST_CASE("punt rings: packets to a closed port push neither neighbours nor keys out") {
  Site site;
  CHECK(site.come(to_us(kStranger, 9, Packet(32)), 2000, PuntReason::port_unreachable) == kCommon);
  CHECK(site.come(arp_reply(), PuntReason::arp) == 1);
  CHECK(site.come(advertisement(), PuntReason::neighbor_discovery) == 1);
  CHECK(site.come(ike(kConfigured, 7), PuntReason::ike) == 1);
  CHECK(site.come(ike(kStranger, 7), PuntReason::ike) == 1);
  CHECK(site.come(too_big(), PuntReason::path_too_big) == 1);
  CHECK(site.come(ike(kStranger, 0), PuntReason::ike_newcomer) == 1);
}

TEST_CASE("punt rings: nor do packets whose tunnel is down, or whose time is over") {
  Site site;
  site.gateway.protect("10.1.0.0/24", "10.2.0.0/16", kNoSlot);
  const bool is_over = GENERATE(false, true);
  const Packet packet = frame(ip_packet({.ttl = static_cast<std::uint8_t>(is_over ? 1 : 64)}));
  CHECK(site.come(packet, 2000, is_over ? PuntReason::ttl_exceeded : PuntReason::acquire) ==
        kCommon);
  CHECK(site.come(arp_reply(), PuntReason::arp) == 1);
  CHECK(site.come(ike(kConfigured, 7), PuntReason::ike) == 1);
}

TEST_CASE("punt rings: nothing pushes out what senders are to be told of sizes (RFC 4443 §3.2)") {
  Site site;
  site.gateway.protect("10.1.0.0/24", "10.2.0.0/16", site.gateway.install(outbound_sa({})));
  CHECK(site.come(to_us(kStranger, 9, Packet(32)), 2000, PuntReason::port_unreachable) == kCommon);
  const Packet large = frame(ip_packet({.payload = Packet(1470, 0x5a)}));
  CHECK(site.come(large, 2000, PuntReason::packet_too_big) == kPlaces - kCommon);
}

TEST_CASE("punt rings: IKE of one IKE SA leaves configured peers half of the places") {
  Site site;
  const bool is_ike = GENERATE(false, true);
  CHECK(site.come(is_ike ? ike(kStranger, 7) : too_big(), 2000,
                  is_ike ? PuntReason::ike : PuntReason::path_too_big) == kPlaces / 2);
  CHECK(site.come(ike(kConfigured, 7), kPlaces, PuntReason::ike) == kPlaces / 2);
  // However many they are: neighbours are not among them, nor who begins.
  CHECK(site.come(arp_reply(), PuntReason::arp) == 1);
  CHECK(site.come(ike(kStranger, 0), PuntReason::ike_newcomer) == 1);
}

TEST_CASE("punt rings: who begins an IKE SA leaves configured peers half of the places") {
  Site site;
  CHECK(site.come(ike(kStranger, 0), 2000, PuntReason::ike_newcomer) == kPlaces / 2);
  CHECK(site.come(ike(kConfigured, 0), kPlaces, PuntReason::ike_newcomer) == kPlaces / 2);
}

TEST_CASE("punt rings: a storm of ARP leaves IKE its places") {
  Site site;
  CHECK(site.come(arp_reply(), 2000, PuntReason::arp) == kPlaces);
  CHECK(site.come(ike(kConfigured, 7), PuntReason::ike) == 1);
}

TEST_CASE("punt rings: who is no configured peer any more has no places kept") {
  Site site;
  site.gateway.tables().peers.publish({}, *site.gateway.tables().reclaimer);
  CHECK(site.come(ike(kConfigured, 7), kPlaces, PuntReason::ike) == kPlaces / 2);
}

}  // namespace culvert::test::punt_rings
