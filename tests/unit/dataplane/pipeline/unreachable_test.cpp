// What firewalls, routers and hosts say of ESP that a worker has sent: it is remembered for the
// SA's child. Whoever knows no packet of ours says nothing (RFC 4301 §6.1.1).
#include <array>

#include <catch2/catch.hpp>

#include "dataplane/control/associations.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"
#include "tests/unit/dataplane/pipeline/sizes.hpp"
#include "tests/unit/dataplane/too_big_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

using namespace std::chrono_literals;
using test::address;
using test::kLan;
using test::kWan;
using Frame = test::Packet;  // or an IP packet

constexpr std::uint8_t kProhibited = 13;

wire::IpAddress firewall(bool is_v4) { return address(is_v4 ? "198.51.100.9" : "2001:db8:ff::9"); }

/// Main thread and worker of a gateway with one SA that has sent a packet.
struct OneSa {
  explicit OneSa(const test::SaOptions& options = {}) {
    channel::InstallSa out = test::outbound_sa(options, 0x1000);
    out.child_id = config::ChildId{};
    REQUIRE(associations.install(out, 1h) == channel::Outcome::ok);
    sa = out.sa;
    gateway.protect(options.local_selectors[0], options.remote_selectors[0],
                    gateway.tables().sad->find(sa)->slot);
    const auto wan =
        gateway.receive(kLan, test::frame(test::ip_packet(test::of_size(100, false, 0x4000)))).wan;
    REQUIRE(wan.size() == 1);
    sent = test::ip_of(wan[0]);
    esp = sent.size() - wire::parse_ip(sent)->payload_bytes() +
          (options.udp ? wire::udp::kHeaderBytes : 0);
  }
  [[nodiscard]] Frame message(wire::Bytes quoted, std::uint8_t type, std::uint8_t code) const {
    const bool is_v4 = wire::is_v4(sent.data());
    const wire::IpAddress us = is_v4 ? wire::IpAddress::v4(wire::Bytes(sent).subspan(12, 4))
                                     : wire::IpAddress::v6(wire::Bytes(sent).subspan(8, 16));
    return test::icmp_about(quoted, type, code, 0, firewall(is_v4), us);
  }
  /// As much of a packet as a router quotes at least where it is ESP.
  bool told_of(const Frame& quoted, std::uint8_t type, std::uint8_t code) {
    return associations.unreachable(message(wire::Bytes(quoted).first(esp + 8), type, code));
  }
  [[nodiscard]] std::optional<Unreachable> shown() const {
    return associations.unreachable_of(config::ChildId{});
  }

  test::Gateway gateway;
  config::Config config = test::one_connection({});
  Topology topology{config.dataplane};
  ChildDirectory children{config};
  std::unique_ptr<Steering> steering =
      Steering::create({}, 1, gateway.tables().sad->slots()).value();
  Associations associations{gateway.tables(), topology, children, *steering};
  channel::SaId sa{};
  Frame sent;           ///< IP packet
  std::size_t esp = 0;  ///< where its ESP header begins
};

test::Result come(test::Gateway& gateway, bool is_v4, std::uint8_t type, std::uint8_t code) {
  const Frame quoted = test::ip_header(50, 100, address(is_v4 ? "198.51.100.1" : "2001:db8:ff::1"),
                                       address(is_v4 ? "203.0.113.7" : "2001:db8:7::7"));
  const Frame message = test::icmp_about(quoted, type, code, 0, firewall(is_v4),
                                         address(is_v4 ? "198.51.100.1" : "2001:db8:ff::1"));
  return gateway.receive(kWan, test::frame(message));
}

}  // namespace

TEST_CASE("unreachable: destination unreachable to us goes to the main thread, whatever its code") {
  const bool is_v4 = GENERATE(true, false);
  for (const std::uint8_t code : std::array<std::uint8_t, 9>{0, 1, 2, 3, 5, 6, 9, 10, 13}) {
    test::Gateway gateway;
    const test::Result result = come(gateway, is_v4, is_v4 ? 3 : 1, code);
    REQUIRE(result.punts.size() == 1);
    CHECK(result.punts[0].what.reason == PuntReason::path_unreachable);
  }
}

TEST_CASE("unreachable: of a flood the main thread hears no more than one each millisecond") {
  test::Gateway gateway;
  gateway.worker().next_unreachable = ~0ULL;
  const test::Result result = come(gateway, true, 3, kProhibited);
  CHECK(result.punts.empty());
  CHECK(result.dropped(DropReason::icmp_ignored) == 1);
  gateway.worker().next_unreachable = 0;
  CHECK(come(gateway, true, 3, kProhibited).punts.size() == 1);
  CHECK(gateway.worker().next_unreachable != 0);
}

TEST_CASE("unreachable: no policy for our own address keeps from us what routers say of our ESP") {
  const bool is_v4 = GENERATE(true, false);
  test::Gateway gateway;
  const test::SaOptions options = test::with_families(!is_v4, !is_v4);
  gateway.protect(is_v4 ? "198.51.100.1/32" : "2001:db8:ff::1/128", is_v4 ? "0.0.0.0/0" : "::/0",
                  gateway.install(test::outbound_sa(options)));
  const auto punted_as = [&](std::uint8_t type, std::uint8_t code) {
    const test::Result result = come(gateway, is_v4, type, code);
    REQUIRE(result.punts.size() == 1);
    return result.punts[0].what.reason;
  };
  gateway.worker().next_unreachable = 0;
  CHECK(punted_as(is_v4 ? 3 : 2, is_v4 ? 4 : 0) == PuntReason::path_too_big);
  CHECK(punted_as(is_v4 ? 3 : 1, is_v4 ? kProhibited : 1) == PuntReason::path_unreachable);
  // All else is to come encrypted.
  for (const std::uint8_t type :
       is_v4 ? std::array<std::uint8_t, 3>{8, 11, 12} : std::array<std::uint8_t, 3>{3, 4, 128}) {
    CAPTURE(type);
    const test::Result result = come(gateway, is_v4, type, 0);
    CHECK(result.punts.empty());
    CHECK(result.dropped(DropReason::cleartext_violates_policy) == 1);
  }
  // A policy that discards by name is heeded.
  test::Gateway silent;
  silent.policy(PolicyAction::discard, is_v4 ? "198.51.100.1/32" : "2001:db8:ff::1/128",
                is_v4 ? "0.0.0.0/0" : "::/0");
  const test::Result discarded = come(silent, is_v4, is_v4 ? 3 : 2, is_v4 ? 4 : 0);
  CHECK(discarded.dropped(DropReason::policy_discard) == 1);
}

TEST_CASE("unreachable: what is said of a packet that an SA sent is remembered for its child") {
  const bool outer_v6 = GENERATE(false, true);
  test::SaOptions options = test::with_families(outer_v6, false);
  options.udp = GENERATE(false, true);
  OneSa site(options);
  CHECK_FALSE(site.shown());
  const std::uint8_t type = outer_v6 ? 1 : 3;
  CHECK(site.told_of(site.sent, type, 0));
  CHECK(site.told_of(site.sent, type, 1));
  REQUIRE(site.shown());
  CHECK(site.shown()->from == firewall(!outer_v6));
  CHECK(site.shown()->to == address(options.outer_remote));
  CHECK(site.shown()->is_in_udp == options.udp);
  CHECK(site.shown()->code == 1);
  CHECK(site.shown()->messages == 2);
  CHECK(site.shown()->tsc != 0);
  // It outlives the SA, whose successor has said nothing yet.
  CHECK(site.associations.remove(site.sa) == channel::Outcome::ok);
  CHECK(site.shown());
}

TEST_CASE("unreachable: nothing is done about it") {
  OneSa site;
  REQUIRE(site.told_of(site.sent, 3, kProhibited));
  const SaRecord& record = *site.gateway.tables().sad->find(site.sa);
  CHECK(site.associations.is_live(record));
  CHECK(site.gateway.tables().sad->path_mtu(record) == kNoPathMtu);
  CHECK(site.gateway.receive(kLan, test::frame(test::ip_packet(test::of_size(100, false, 0x4000))))
            .wan.size() == 1);
}

TEST_CASE("unreachable: who quotes no packet of ours, or says something else, is not heard") {
  test::SaOptions options = test::with_families(GENERATE(false, true), false);
  options.udp = GENERATE(false, true);
  OneSa site(options);
  const bool is_v4 = wire::is_v4(site.sent.data());
  const std::uint8_t type = is_v4 ? 3 : 1;
  const auto forged = [&](std::size_t at) {
    Frame quoted = site.sent;
    quoted.at(at) ^= 1;
    return site.told_of(quoted, type, 1);
  };
  CHECK_FALSE(forged(site.esp + 3));                        // another SPI
  CHECK_FALSE(forged(site.esp + 4));                        // a sequence number that was not sent
  CHECK_FALSE(forged(is_v4 ? 15U : 23U));                   // from another address
  CHECK_FALSE(forged(is_v4 ? 19U : 39U));                   // to another address
  CHECK_FALSE(forged(is_v4 ? 9U : 6U));                     // of another protocol
  CHECK_FALSE(site.told_of(site.sent, is_v4 ? 11 : 3, 0));  // time exceeded
  CHECK_FALSE(site.told_of(site.sent, is_v4 ? 3 : 2, is_v4 ? 4 : 0));  // too big: another's
  // Not as much as the sequence number.
  const wire::Bytes little = wire::Bytes(site.sent).first(site.esp + 7);
  CHECK_FALSE(site.associations.unreachable(site.message(little, type, 1)));
  Frame damaged = site.message(wire::Bytes(site.sent).first(site.esp + 8), type, 1);
  damaged.back() ^= 1;
  CHECK_FALSE(site.associations.unreachable(damaged));
  // Plain where the SA sends in UDP, and the other way round.
  const std::size_t ip_bytes = site.esp - (options.udp ? wire::udp::kHeaderBytes : 0);
  Frame other(site.sent.begin(), site.sent.begin() + static_cast<std::ptrdiff_t>(ip_bytes));
  other[is_v4 ? 9 : 6] = options.udp ? 50 : 17;
  if (!options.udp) other.resize(other.size() + wire::udp::kHeaderBytes);
  other.insert(other.end(), site.sent.begin() + static_cast<std::ptrdiff_t>(site.esp),
               site.sent.end());
  CHECK_FALSE(site.associations.unreachable(site.message(
      wire::Bytes(other).first(other.size() - site.sent.size() + site.esp + 8), type, 1)));
  CHECK_FALSE(site.shown());
  // The true one after all of these.
  CHECK(site.told_of(site.sent, type, 1));
  // And an SA that is gone sends nothing that anybody could speak of.
  CHECK(site.associations.remove(site.sa) == channel::Outcome::ok);
  CHECK_FALSE(site.told_of(site.sent, type, 1));
  CHECK(site.shown()->messages == 1);
}

}  // namespace culvert::dataplane::control
