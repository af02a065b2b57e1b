// IKE datagrams of the key daemon on their way to a link: they are cut for it.
#include "dataplane/control/ike_path.hpp"

#include <array>
#include <optional>

#include <catch2/catch.hpp>
#include <rte_mbuf.h>

#include "dataplane/control/forwarding.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip.hpp"
#include "wire/unaligned.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// A key daemon that has one datagram to send.
class OneDatagram final : public channel::Server {
 public:
  explicit OneDatagram(const channel::Datagram& datagram) : datagram_(datagram) {}
  std::optional<channel::Datagram> next_datagram() override {
    return std::exchange(datagram_, std::nullopt);
  }

  [[nodiscard]] std::span<const int> descriptors() const override { return {}; }
  bool poll() override { return false; }
  [[nodiscard]] bool connected() const override { return true; }
  [[nodiscard]] const std::string& held_problem() const override { return no_problem_; }
  std::optional<channel::Request> next_request() override { return std::nullopt; }
  bool send(const channel::Event&) override { return false; }
  std::size_t event_room() override { return 0; }
  bool send(const channel::Datagram&) override { return false; }
  std::size_t datagram_room() override { return 0; }
  void flush() override {}
  [[nodiscard]] const channel::ServerStatistics& statistics() const override { return statistics_; }

 private:
  std::optional<channel::Datagram> datagram_;
  std::string no_problem_;
  channel::ServerStatistics statistics_;
};

/// What is on the link of an IKE message of so many bytes on a link of that MTU, as IP packets.
std::vector<Packet> leaves(const std::string& from, const std::string& to, std::uint16_t mtu,
                           std::uint32_t bytes) {
  Gateway gateway;
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[1].name = "wan";
  const bool is_v4 = wire::IpAddress::parse(from)->is_v4();
  dataplane.interfaces[1].addresses = {wire::Prefix::parse(from + (is_v4 ? "/24" : "/64")).value()};
  dataplane.neighbors.push_back({"wan", wire::IpAddress::parse(to).value(), kTheirMac, {}});
  std::vector<PortInfo> ports = gateway.tables().ports.copy();
  ports[raw(kWan)].mtu = mtu;
  gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);

  const control::Instant now = std::chrono::hours{1};
  const control::Topology topology(dataplane);
  control::Forwarding forwarding(gateway.tables());
  REQUIRE(forwarding.install(topology).has_value());
  control::Packets packets(gateway.tables(), packet_pool(), gateway.context().inject);
  control::Neighbors neighbors(topology, *gateway.tables().spd, forwarding, packets);
  neighbors.topology_changed(now);
  channel::Datagram datagram;
  datagram.local = {wire::IpAddress::parse(from).value(), 500};
  datagram.remote = {wire::IpAddress::parse(to).value(), 500};
  datagram.length = bytes;
  OneDatagram key_daemon(datagram);
  control::IkePath path(topology, neighbors, packets, key_daemon, *gateway.tables().ike_spis, now);
  path.send_waiting(now);

  std::vector<Packet> all;
  for (const Packet& frame : gateway.serve_main_thread().wan) all.push_back(ip_of(frame));
  return all;
}

/// A datagram of the key daemon's and what the gateway counted of it.
struct Counted {
  std::uint64_t originated = 0, no_buffer = 0, refused = 0;
};
Counted counted(const std::string& from, const std::string& to, bool has_buffers) {
  Gateway gateway;
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[1].addresses = {wire::Prefix::parse("10.77.0.1/24").value()};
  const control::Instant now = std::chrono::hours{1};
  const control::Topology topology(dataplane);
  control::Forwarding forwarding(gateway.tables());
  control::Packets packets(gateway.tables(), packet_pool(), gateway.context().inject);
  control::Neighbors neighbors(topology, *gateway.tables().spd, forwarding, packets);
  channel::Datagram datagram;
  datagram.local = {wire::IpAddress::parse(from).value(), 500};
  datagram.remote = {wire::IpAddress::parse(to).value(), 500};
  datagram.length = 100;
  OneDatagram key_daemon(datagram);
  control::IkePath path(topology, neighbors, packets, key_daemon, *gateway.tables().ike_spis, now);
  std::vector<rte_mbuf*> taken;
  while (!has_buffers) {
    rte_mbuf* const buffer = rte_pktmbuf_alloc(packet_pool());
    if (buffer == nullptr) break;
    taken.push_back(buffer);
  }
  path.send_waiting(now);
  for (rte_mbuf* const buffer : taken) rte_pktmbuf_free(buffer);
  neighbors.stop();
  const WorkerCounters& counters = gateway.tables().main_counters();
  const auto dropped = [&](DropReason reason) {
    return counters
        .drops[static_cast<std::size_t>(DropDirection::local)][static_cast<std::size_t>(reason)]
        .read();
  };
  return {counters.originated.read(), dropped(DropReason::no_buffer),
          dropped(DropReason::ike_datagram_refused)};
}

/// Whether a host on the link is asked for when IKE speaks to it after packets to all others have
/// taken what may be asked.
bool is_asked_for_in_a_scan(const std::string& to, const std::vector<std::string>& peers) {
  Gateway gateway;
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[1].name = "wan";
  dataplane.interfaces[1].addresses = {wire::Prefix::parse("10.77.0.1/16").value()};
  dataplane.routes.push_back({wire::Prefix::parse("0.0.0.0/0").value(),
                              wire::IpAddress::parse("10.77.0.254").value(),
                              {}});
  std::vector<wire::IpAddress> configured;
  for (const std::string& peer : peers) configured.push_back(wire::IpAddress::parse(peer).value());
  gateway.tables().peers.publish(std::move(configured), *gateway.tables().reclaimer);
  const control::Instant now = std::chrono::hours{1};
  const control::Topology topology(dataplane);
  control::Forwarding forwarding(gateway.tables());
  control::Packets packets(gateway.tables(), packet_pool(), gateway.context().inject);
  control::Neighbors neighbors(topology, *gateway.tables().spd, forwarding, packets);
  constexpr auto kScanned =
      static_cast<std::uint32_t>(control::NeighborTable::kNewResolutions.burst) + 1;
  for (std::uint32_t host = 0; host < kScanned; ++host) {
    neighbors.send({kWan, wire::IpAddress::v4(0x0a4d0100U + host)}, packets.make(Packet(40, 0x45)),
                   {}, now);
    static_cast<void>(gateway.serve_main_thread());
  }
  channel::Datagram datagram;
  datagram.local = {wire::IpAddress::parse("10.77.0.1").value(), 500};
  datagram.remote = {wire::IpAddress::parse(to).value(), 500};
  datagram.length = 100;
  OneDatagram key_daemon(datagram);
  control::IkePath path(topology, neighbors, packets, key_daemon, *gateway.tables().ike_spis, now);
  path.send_waiting(now);
  const std::size_t questions = gateway.serve_main_thread().wan.size();
  neighbors.stop();
  return questions == 1;
}

std::vector<std::size_t> sizes_of(const std::vector<Packet>& packets) {
  std::vector<std::size_t> sizes;
  for (const Packet& packet : packets) sizes.push_back(packet.size());
  return sizes;
}

}  // namespace

TEST_CASE("ike path: a message over IPv4 is cut for the link that it leaves by (RFC 791 §3.2)") {
  constexpr std::uint32_t kHeaders = 20 + 8;
  const auto pieces = leaves("10.77.0.1", "10.77.0.2", 1000, 1200);
  REQUIRE(pieces.size() == 2);
  CHECK(sizes_of(pieces) == std::vector<std::size_t>{996, 20 + 1208 - 976});
  CHECK(wire::load_u16(pieces[0].data() + wire::ipv4::kIdentification) ==
        wire::load_u16(pieces[1].data() + wire::ipv4::kIdentification));
  CHECK(leaves("10.77.0.1", "10.77.0.2", 576, 1200).size() == 3);
  CHECK(leaves("10.77.0.1", "10.77.0.2", 1000, 1000 - kHeaders).size() == 1);
  CHECK(leaves("10.77.0.1", "10.77.0.2", 1400, 1400 - kHeaders).size() == 1);
}

TEST_CASE("ike path: what no buffer is left for is counted once") {
  const Counted without = counted("10.77.0.1", "10.77.0.2", false);
  CHECK(without.no_buffer == 1);
  CHECK(without.originated == 1);
  CHECK(without.refused == 0);
}

TEST_CASE("ike path: what may not leave is counted, from elsewhere and without a route") {
  const std::string from = GENERATE("10.77.0.1", "10.77.0.9");
  const Counted refused = counted(from, from == "10.77.0.1" ? "192.0.2.1" : "10.77.0.2", true);
  CHECK(refused.refused == 1);
  CHECK(refused.originated == 1);
}

TEST_CASE(
    "ike path: a peer and a gateway on the link are asked for also during a scan (RFC 6583)") {
  CHECK(is_asked_for_in_a_scan("10.77.0.9", {"10.77.0.9"}));
  CHECK(is_asked_for_in_a_scan("10.77.0.254", {}));
  CHECK_FALSE(is_asked_for_in_a_scan("10.77.0.10", {"10.77.0.9"}));
}

TEST_CASE("ike path: a message over IPv6 is cut where 1280 bytes do not hold it (RFC 8200 §5)") {
  CHECK(sizes_of(leaves("2001:db8:77::1", "2001:db8:77::2", 1280, 1232)) ==
        std::vector<std::size_t>{1280});
  CHECK(leaves("2001:db8:77::1", "2001:db8:77::2", 1280, 1233).size() == 2);
}
