// What a router says of packets that a worker has sent, and what becomes of it: smaller packets,
// for as long as the SA sends to that peer (RFC 4301 §8.2.1, RFC 8201).
#include <catch2/catch.hpp>

#include "dataplane/control/associations.hpp"
#include "runtime/log.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"
#include "tests/unit/dataplane/pipeline/sizes.hpp"
#include "tests/unit/dataplane/too_big_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;
using config::HeaderOptions;
using test::address;
using test::kLan;
using test::kWan;
using Frame = test::Packet;  // or an IP packet

wire::IpAddress router(bool is_v4) { return address(is_v4 ? "198.51.100.9" : "2001:db8:ff::9"); }

HeaderOptions cut_after() {
  HeaderOptions headers;
  headers.fragmentation = config::FragmentationOrder::after;
  return headers;
}

/// Main thread and worker of a gateway that sends.
struct Sending {
  explicit Sending(const HeaderOptions& headers = {}) : config(test::one_connection(headers)) {}

  channel::SaId install(std::uint32_t spi, const test::SaOptions& options = {}) {
    channel::InstallSa out = test::outbound_sa(options, spi);
    out.child_id = config::ChildId{};
    const bool is_transport = options.mode == channel::SaMode::transport;
    config.connections[0].children[0].mode =
        is_transport ? config::Mode::transport : config::Mode::tunnel;
    children.take(config, {});
    REQUIRE(associations.install(out, now) == channel::Outcome::ok);
    return out.sa;
  }
  /// An SA that its selectors' traffic takes.
  channel::SaId establish(std::uint32_t spi, const test::SaOptions& options = {}) {
    const channel::SaId sa = install(spi, options);
    gateway.protect(options.local_selectors[0], options.remote_selectors[0], sad().find(sa)->slot);
    return sa;
  }
  std::vector<Frame> send(std::size_t bytes, std::uint16_t fragment = 0x4000) {
    return gateway
        .receive(kLan, test::frame(test::ip_packet(test::of_size(bytes, false, fragment))))
        .wan;
  }
  /// As much of a packet as a router sends back.
  std::expected<void, DropReason> told_of(const Frame& ip, std::uint32_t mtu) {
    const auto header = wire::parse_ip(ip);
    REQUIRE(header);
    const bool is_v4 = wire::is_v4(ip.data());
    const wire::Bytes quoted = wire::Bytes(ip).first(header->payload_offset + 16U);
    const wire::IpAddress us = is_v4 ? wire::IpAddress::v4(wire::Bytes(ip).subspan(12, 4))
                                     : wire::IpAddress::v6(wire::Bytes(ip).subspan(8, 16));
    return associations.too_big(test::too_big_about(quoted, mtu, router(is_v4), us), now);
  }
  /// The SA's next packet would be one that a router says is too large.
  std::expected<void, DropReason> told(channel::SaId sa, std::uint16_t mtu) {
    const SaRecord& record = *sad().find(sa);
    const channel::InstallSa& spec = record.spec;
    Frame packet =
        test::ip_header(wire::protocol::kEsp, 1500, spec.local.address, spec.remote.address);
    packet.resize(packet.size() + 8);
    wire::store_u32(&packet[packet.size() - 8], static_cast<std::uint32_t>(spec.spi));
    wire::store_u32(&packet[packet.size() - 4],
                    static_cast<std::uint32_t>(sad().usage(record).sequence));
    return associations.too_big(
        test::too_big_about(packet, mtu, router(spec.local.address.is_v4()), spec.local.address),
        now);
  }
  void move(channel::SaId sa, const std::string& local, const std::string& remote,
            std::uint16_t port = 0) {
    channel::UpdateEndpoints update;
    update.sa = sa;
    update.local = {address(local), port};
    update.remote = {address(remote), port};
    REQUIRE(associations.update_endpoints(update, now) == channel::Outcome::ok);
  }
  void pass(Instant span) {
    now += span;
    associations.expire_path_mtus(now);
  }
  std::uint16_t path_mtu(channel::SaId sa) { return sad().path_mtu(*sad().find(sa)); }
  Sad& sad() { return *gateway.tables().sad; }

  test::Gateway gateway;
  config::Config config;
  Topology topology{config.dataplane};
  ChildDirectory children{config};
  std::unique_ptr<Steering> steering =
      Steering::create({}, 1, gateway.tables().sad->slots()).value();
  Associations associations{gateway.tables(), topology, children, *steering};
  Instant now = 1h;
};

const std::string kOurs = "198.51.100.1", kFirst = "198.51.100.2", kSecond = "198.51.100.3";

/// An SA that has sent a packet, so that a router may speak of it.
channel::SaId sender(Sending& site) {
  const channel::SaId sa = site.establish(0x1000);
  REQUIRE(site.send(100).size() == 1);
  return sa;
}

std::size_t ip_bytes(const Frame& frame) { return frame.size() - 14; }

}  // namespace

TEST_CASE("path MTU learnt: of the first piece of a sealed packet, it bounds the next pieces") {
  const bool outer_v6 = GENERATE(false, true);
  Sending site(cut_after());
  test::SaOptions options = test::with_families(outer_v6, false);
  options.udp = GENERATE(false, true);
  const channel::SaId sa = site.establish(0x1000, options);
  const auto pieces = site.send(1500, 0);
  REQUIRE(pieces.size() == 2);
  REQUIRE(ip_bytes(pieces[0]) > 1492);
  CHECK(site.told_of(test::ip_of(pieces[1]), 1400).error() == DropReason::icmp_ignored);
  CHECK(site.path_mtu(sa) == kNoPathMtu);
  CHECK(site.told_of(test::ip_of(pieces[0]), 1400));
  CHECK(site.path_mtu(sa) == 1400);
  for (const Frame& piece : site.send(1500, 0)) CHECK(ip_bytes(piece) <= 1400);
  // The pieces that are sent now are believed again.
  CHECK(site.told_of(test::ip_of(site.send(1500, 0).at(0)), 1300));
  for (const Frame& piece : site.send(1500, 0)) CHECK(ip_bytes(piece) <= 1300);
}

TEST_CASE("path MTU learnt: of a packet with its own extension headers in transport mode") {
  const std::string here = "2001:db8:ff::1", there = "2001:db8:ff::2";
  Sending site;
  test::SaOptions options;
  options.mode = channel::SaMode::transport;
  options.udp = GENERATE(false, true);
  options.outer_local = here;
  options.outer_remote = there;
  options.local_selectors = {here + "/128"};
  options.remote_selectors = {there + "/128"};
  const channel::SaId sa = site.establish(0x1000, options);
  const std::uint8_t type = GENERATE(as<std::uint8_t>{}, 0, 43, 60);
  // Padding; and as a routing header one of type 1 without addresses, nothing of which is left.
  const test::Packet plain = test::ip_packet({.source = here,
                                              .destination = there,
                                              .protocol = 17,
                                              .payload = test::udp(1, 2, test::Packet(1350, 7))});
  const test::Packet extended = test::behind_extension(
      plain, type, {0, 0, 1, static_cast<std::uint8_t>(type == 43 ? 0 : 4), 0, 0, 0, 0});
  const auto send = [&] {
    return site.gateway.inject(extended, {InjectKind::outbound_local, kWan, false});
  };
  const auto sent = send().wan;
  REQUIRE(sent.size() == 1);
  CHECK(site.told_of(test::ip_of(sent[0]), 1300));
  CHECK(site.path_mtu(sa) == 1300);
}

TEST_CASE("path MTU learnt: an SA that moves has what is known of its new peer, else the link's") {
  Sending site;
  const channel::SaId sa = sender(site);
  REQUIRE(site.told(sa, 1300));
  REQUIRE(site.path_mtu(sa) == 1300);

  // Nothing is known of the second peer.
  site.move(sa, kOurs, kSecond);
  CHECK(site.path_mtu(sa) == kNoPathMtu);
  site.pass(1min);
  REQUIRE(site.told(sa, 1400));
  CHECK(site.path_mtu(sa) == 1400);

  // What was known of the first is over: the SA has nothing to do with it.
  site.pass(9min);
  CHECK(site.path_mtu(sa) == 1400);
  site.pass(1min);
  CHECK(site.path_mtu(sa) == kNoPathMtu);
}

TEST_CASE("path MTU learnt: an SA that moves to a known peer returns to the link's with it") {
  Sending site;
  const channel::SaId sa = sender(site);
  REQUIRE(site.told(sa, 1300));
  site.move(sa, kOurs, kSecond);
  site.pass(5min);
  REQUIRE(site.told(sa, 1400));

  site.move(sa, kOurs, kFirst);
  CHECK(site.path_mtu(sa) == 1300);
  site.pass(5min);
  CHECK(site.path_mtu(sa) == kNoPathMtu);
  site.move(sa, kOurs, kSecond);
  CHECK(site.path_mtu(sa) == 1400);
  site.pass(5min);
  CHECK(site.path_mtu(sa) == kNoPathMtu);
}

TEST_CASE("path MTU learnt: another port of the address, behind a NAT, may be another peer's") {
  Sending site;
  test::SaOptions options;
  options.udp = true;
  const channel::SaId sa = site.establish(0x1000, options);
  REQUIRE(site.told_of(test::ip_of(site.send(1400).at(0)), 1300));
  const std::uint16_t port = site.sad().find(sa)->spec.remote.port;
  const channel::SaId same = site.install(0x1001, options);
  CHECK(site.path_mtu(same) == 1300);
  const channel::SaId other = site.install(0x1002, options);
  site.move(other, kOurs, kFirst, 1002);
  CHECK(site.path_mtu(other) == kNoPathMtu);
  ++site.sad().outbound(site.sad().find(other)->slot)->sequence;  // it has sent
  REQUIRE(site.told(other, 1200));
  CHECK(site.path_mtu(site.install(0x1003, options)) == 1300);

  site.move(other, kOurs, kFirst, port);
  CHECK(site.path_mtu(other) == 1300);
  site.pass(10min);
  for (const channel::SaId each : {sa, same, other}) CHECK(site.path_mtu(each) == kNoPathMtu);
}

TEST_CASE(
    "path MTU learnt: a router that quotes the addresses from before a move is not believed") {
  Sending site;
  const channel::SaId sa = sender(site);
  const auto sent = site.send(1400);
  site.move(sa, kOurs, kSecond);
  CHECK(site.told_of(test::ip_of(sent.at(0)), 1300).error() == DropReason::icmp_ignored);
  CHECK(site.path_mtu(sa) == kNoPathMtu);
}

TEST_CASE("path MTU learnt: the option's bound holds over a move") {
  HeaderOptions headers;
  headers.path_mtu = 1350;
  Sending site(headers);
  const channel::SaId sa = sender(site);
  REQUIRE(site.told(sa, 1300));
  site.move(sa, kOurs, kSecond);
  CHECK(site.path_mtu(sa) == 1350);
}

TEST_CASE(
    "path MTU learnt: an SA that began with it returns to the link's, one that is gone never") {
  Sending site;
  const channel::SaId old = sender(site);
  REQUIRE(site.told(old, 1300));
  const channel::SaId fresh = site.install(0x1001);
  CHECK(site.path_mtu(fresh) == 1300);
  REQUIRE(site.associations.remove(old) == channel::Outcome::ok);
  // Its name, again, for an SA to another peer.
  test::SaOptions elsewhere;
  elsewhere.outer_remote = kSecond;
  channel::InstallSa again = test::outbound_sa(elsewhere, 0x1000);
  again.sa = old;
  again.child_id = config::ChildId{};
  REQUIRE(site.associations.install(again, site.now) == channel::Outcome::ok);
  REQUIRE(site.path_mtu(old) == kNoPathMtu);
  site.sad().set_path_mtu(old, 1400);
  site.pass(10min);
  CHECK(site.path_mtu(fresh) == kNoPathMtu);
  CHECK(site.path_mtu(old) == 1400);
}

TEST_CASE("path MTU learnt: SAs of a peer that gives way at the bound return to the link's") {
  Sending site;
  const channel::SaId first = sender(site);
  REQUIRE(site.told(first, 1300));
  const channel::SaId fresh = site.install(0x1001);
  REQUIRE(site.path_mtu(fresh) == 1300);
  site.pass(1min);
  // One SA goes from peer to peer; each path is found small.
  test::SaOptions options = test::with_families(true, true);
  const channel::SaId wanderer = site.establish(0x2000, options);
  REQUIRE(site.gateway.receive(kLan, test::frame(test::ip_packet(test::of_size(100, true, 0))))
              .wan.size() == 1);
  runtime::set_log_level(runtime::Level::warning);
  for (std::uint32_t peer = 0; peer < PathMtus::kPeers; ++peer) {
    if (site.path_mtu(first) != 1300) FAIL("after " << peer);
    wire::IpAddress remote = address("2001:db8:ff::1:0:0");
    wire::store_u32(&remote.bytes[12], peer);
    channel::UpdateEndpoints update{wanderer, {address(options.outer_local), 0}, {remote, 0}};
    REQUIRE(site.associations.update_endpoints(update, site.now) == channel::Outcome::ok);
    REQUIRE(site.told(wanderer, 1400));
    site.now += std::chrono::milliseconds(1);  // as many a second as are believed
  }
  runtime::set_log_level(runtime::Level::info);
  CHECK(site.path_mtu(first) == kNoPathMtu);
  CHECK(site.path_mtu(fresh) == kNoPathMtu);
  CHECK(site.path_mtu(wanderer) == 1400);
}

}  // namespace culvert::dataplane::control
