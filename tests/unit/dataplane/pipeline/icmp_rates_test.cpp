// Who has the rate of ICMP errors: many about one tunnel's packets leave others theirs, and "too
// big" has its own.
#include <catch2/catch.hpp>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "dataplane/control/icmp_sender.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"

namespace culvert::dataplane::control::icmp_rates {
namespace {

using test::kLan;
using test::kWan;

config::Dataplane network() {
  config::Config config = test::one_connection();
  config::Interface lan;
  lan.name = "lan";
  lan.addresses = {wire::Prefix::parse(test::Addresses{}.lan).value(),
                   wire::Prefix::parse(test::Addresses{}.lan6).value()};
  config.dataplane.interfaces.insert(config.dataplane.interfaces.begin(), lan);
  return config.dataplane;
}

/// A gateway with two tunnels, to 10.2.0.0/16 and to 10.3.0.0/16.
struct Site {
  Site() {
    for (const std::string remote : {"10.2.0.0/16", "10.3.0.0/16"}) {
      test::SaOptions options;
      options.remote_selectors = {remote};
      gateway.protect("10.1.0.0/24", remote,
                      gateway.install(test::outbound_sa(options, next_spi_++)));
    }
  }
  /// Whether an error about a packet from there is sent.
  bool told(IcmpErrorKind kind, const std::string& source, bool from_tunnel) {
    PuntedPacket origin;
    origin.received_on = from_tunnel ? kWan : kLan;
    origin.from_tunnel = from_tunnel;
    const bool is_v4 = source.find(':') == std::string::npos;
    const std::string destination = is_v4 ? "10.1.0.9" : "2001:db8:1::9";
    const auto offending =
        packets.make(test::ip_packet({.source = source, .destination = destination}));
    REQUIRE(offending != nullptr);
    sender.report(kind, 1280, offending, origin, now);
    void* error = nullptr;
    if (rte_ring_dequeue(gateway.context().inject, &error) != 0) return false;
    rte_pktmbuf_free(static_cast<rte_mbuf*>(error));
    return true;
  }
  /// 2000 whose time is over, of 100 hosts in turn; how many were told.
  std::uint32_t flood(const std::string& network, bool from_tunnel) {
    std::uint32_t count = 0;
    for (int number = 0; number < 2000; ++number) {
      const std::string source = network + std::to_string(number % 100 + 10);
      count += told(IcmpErrorKind::time_exceeded, source, from_tunnel) ? 1 : 0;
    }
    return count;
  }

  test::Gateway gateway;
  Topology topology{network()};
  Packets packets{gateway.tables(), test::packet_pool(), gateway.context().inject};
  Instant now = std::chrono::hours(1);
  IcmpSender sender{topology, *gateway.tables().spd, packets, now};

 private:
  std::uint32_t next_spi_ = 0x1000;
};

constexpr auto kTunnels = static_cast<std::uint32_t>(IcmpSender::kPerTunnel.burst);
constexpr auto kAll = static_cast<std::uint32_t>(IcmpSender::kInAll.burst);

}  // namespace

TEST_CASE("icmp rates: errors about one tunnel's packets leave others theirs") {
  Site site;
  CHECK(site.flood("10.2.0.", true) == kTunnels);
  CHECK(site.told(IcmpErrorKind::time_exceeded, "10.3.0.9", true));
  CHECK(site.told(IcmpErrorKind::time_exceeded, "10.1.0.7", false));
  site.now += std::chrono::milliseconds(100);
  CHECK(site.told(IcmpErrorKind::time_exceeded, "10.2.0.9", true));
}

TEST_CASE("icmp rates: no others take anything from \"too big\" (RFC 4443 §3.2)") {
  Site site;
  CHECK(site.flood("10.1.0.", false) == kAll);
  CHECK_FALSE(site.told(IcmpErrorKind::time_exceeded, "10.1.0.7", false));
  CHECK(site.told(IcmpErrorKind::packet_too_big, "10.1.0.7", false));
  CHECK(site.told(IcmpErrorKind::packet_too_big, "10.1.0.10", false));  // one of the flood's
  CHECK(site.told(IcmpErrorKind::packet_too_big, "10.2.0.9", true));
}

TEST_CASE("icmp rates: a tunnel's other errors take nothing from its own \"too big\"") {
  Site site;
  CHECK(site.flood("10.2.0.", true) == kTunnels);
  CHECK_FALSE(site.told(IcmpErrorKind::time_exceeded, "10.2.0.200", true));
  CHECK(site.told(IcmpErrorKind::packet_too_big, "10.2.0.200", true));
}

TEST_CASE("icmp rates: \"too big\" of one family takes nothing from the other's") {
  Site site;
  std::uint32_t count = 0;
  for (int number = 0; number < 2000; ++number) {
    const std::string source = "10.1.0." + std::to_string(number % 100 + 10);
    count += site.told(IcmpErrorKind::packet_too_big, source, false) ? 1 : 0;
  }
  CHECK(count == kAll);
  CHECK_FALSE(site.told(IcmpErrorKind::packet_too_big, "10.1.0.7", false));
  CHECK(site.told(IcmpErrorKind::packet_too_big, "2001:db8:1::7", false));
}

}  // namespace culvert::dataplane::control::icmp_rates
