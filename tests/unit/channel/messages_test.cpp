#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/unit/channel/fixture.hpp"

using namespace culvert;
using namespace culvert::channel;
using namespace culvert::channel::test;

namespace {

/// What another process may put into a bool: any byte.
void write_raw(bool& field, std::uint8_t raw) { std::memcpy(&field, &raw, 1); }

struct BrokenSa {
  std::string what;
  std::string field;
  std::function<void(InstallSa&)> breaks;
};

const std::vector<BrokenSa> kBrokenSas = {
    {"SaId zero", "sa", [](InstallSa& sa) { sa.sa = SaId{0}; }},
    {"a manual SA's name", "sa", [](InstallSa& sa) { sa.sa = SaId{0x6d616e7500000000}; }},
    {"the last of a manual SA's names", "sa",
     [](InstallSa& sa) { sa.sa = SaId{0x6d616e75ffffffff}; }},
    {"a direction beyond the enum", "direction",
     [](InstallSa& sa) { sa.direction = Direction{2}; }},
    {"a mode beyond the enum", "mode", [](InstallSa& sa) { sa.mode = SaMode{2}; }},
    {"an esn byte of 2", "esn", [](InstallSa& sa) { write_raw(sa.esn, 2); }},
    {"a udp_encapsulation byte of 255", "udp_encapsulation",
     [](InstallSa& sa) { write_raw(sa.udp_encapsulation, 255); }},
    {"SPI 0", "spi", [](InstallSa& sa) { sa.spi = Spi{0}; }},
    {"SPI 255", "spi", [](InstallSa& sa) { sa.spi = Spi{255}; }},
    {"a replay window of 16", "replay_window", [](InstallSa& sa) { sa.replay_window = 16; }},
    {"a replay window of 1000", "replay_window", [](InstallSa& sa) { sa.replay_window = 1000; }},
    {"a replay window of 131072", "replay_window",
     [](InstallSa& sa) { sa.replay_window = 131072; }},
    {"an encryption that is not in the table", "suite",
     [](InstallSa& sa) { sa.suite.encryption = crypto::Encryption{3}; }},
    {"no encryption", "suite",
     [](InstallSa& sa) { sa.suite.encryption = crypto::Encryption::none; }},
    {"AES-GCM with a key of 200 bits", "suite", [](InstallSa& sa) { sa.suite.key_bits = 200; }},
    {"AES-GCM beside HMAC", "suite",
     [](InstallSa& sa) { sa.suite.integrity = crypto::Integrity::hmac_sha2_256_128; }},
    {"a key without its salt", "key", [](InstallSa& sa) { sa.key.length = 32; }},
    {"no key", "key", [](InstallSa& sa) { sa.key.length = 0; }},
    {"a key length beyond its array", "key", [](InstallSa& sa) { sa.key.length = 65535; }},
    {"a local family of 5", "local",
     [](InstallSa& sa) { sa.local.address.family = wire::Family{5}; }},
    {"a remote family of 0", "remote",
     [](InstallSa& sa) { sa.remote.address.family = wire::Family{0}; }},
    {"an IPv4 address with bytes behind it", "local",
     [](InstallSa& sa) { sa.local.address.bytes[4] = 1; }},
    {"IPv4 to IPv6", "remote", [](InstallSa& sa) { sa.remote = endpoint("2001:db8::7", 0); }},
    {"UDP encapsulation without ports", "local",
     [](InstallSa& sa) { sa.udp_encapsulation = true; }},
    {"UDP encapsulation on IKE's first port", "local",
     [](InstallSa& sa) {
       sa.udp_encapsulation = true;
       sa.local.port = 500;
       sa.remote.port = 4500;
     }},
    {"no local selectors", "local_selectors", [](InstallSa& sa) { sa.local_selectors.count = 0; }},
    {"17 selectors", "local_selectors", [](InstallSa& sa) { sa.local_selectors.count = 17; }},
    {"4 billion selectors", "remote_selectors",
     [](InstallSa& sa) { sa.remote_selectors.count = 0xFFFFFFFF; }},
    {"a selector whose last address is before its first", "local_selectors",
     [](InstallSa& sa) {
       std::swap(sa.local_selectors.items[0].first, sa.local_selectors.items[0].last);
     }},
    {"a selector from IPv4 to IPv6", "local_selectors",
     [](InstallSa& sa) { sa.local_selectors.items[0].last = address("2001:db8::1"); }},
    {"a selector of family 9", "remote_selectors",
     [](InstallSa& sa) { sa.remote_selectors.items[0].first.family = wire::Family{9}; }},
    {"ports backwards that are not OPAQUE", "local_selectors",
     [](InstallSa& sa) {
       sa.local_selectors.items[0].port_first = 443;
       sa.local_selectors.items[0].port_last = 80;
     }},
    {"a second selector that is broken", "remote_selectors",
     [](InstallSa& sa) {
       sa.remote_selectors.count = 2;
       sa.remote_selectors.items[1].first = address("10.0.0.9");
       sa.remote_selectors.items[1].last = address("10.0.0.1");
     }},
    {"local selectors of IPv4, remote ones of IPv6", "remote_selectors",
     [](InstallSa& sa) { sa.remote_selectors = selectors("2001:db8::/32"); }},
    {"transport mode with selectors of the other family", "local_selectors",
     [](InstallSa& sa) {
       sa.mode = SaMode::transport;
       sa.local_selectors = selectors("2001:db8:1::/64");
       sa.remote_selectors = selectors("2001:db8:2::/64");
     }},
};

}  // namespace

TEST_CASE("messages: an InstallSa as IKE sends it is valid") { CHECK(validate(install_sa())); }

TEST_CASE("messages: an InstallSa with one field broken is refused, and the field is named") {
  for (const BrokenSa& broken : kBrokenSas) {
    Request request = install_sa();
    broken.breaks(request.body.install_sa);
    const auto valid = validate(request);
    INFO(broken.what);
    REQUIRE_FALSE(valid);
    CHECK(valid.error().field == broken.field);
    CHECK_FALSE(valid.error().problem.empty());
  }
}

TEST_CASE("messages: what the RFCs allow an SA is allowed") {
  Request request = install_sa();
  InstallSa& sa = request.body.install_sa;
  SECTION("OPAQUE ports (RFC 7296 §3.13.1)") {
    sa.local_selectors.items[0].port_first = 65535;
    sa.local_selectors.items[0].port_last = 0;
  }
  SECTION("no replay check: manual keying (RFC 4303 §3.4.3)") { sa.replay_window = 0; }
  SECTION("the smallest and the largest window") { sa.replay_window = GENERATE(32U, 65536U); }
  SECTION("IPv6 inside of IPv4") {
    sa.local_selectors = selectors("2001:db8:1::/64");
    sa.remote_selectors = selectors("2001:db8:2::/64");
  }
  SECTION("names beside those of manual SAs") {
    sa.sa = SaId{GENERATE(0x6d616e74ffffffffU, 0x6d616e7600000000U)};
  }
  SECTION("sixteen selectors") {
    sa.remote_selectors.items.fill(sa.remote_selectors.items[0]);
    sa.remote_selectors.count = 16;
  }
  SECTION("UDP encapsulation (RFC 3948)") {
    sa.udp_encapsulation = true;
    sa.local.port = 4500;
    sa.remote.port = 32011;
  }
  CHECK(validate(request));
}

TEST_CASE("messages: requests of unknown type or without an id are refused") {
  CHECK_FALSE(validate(request(RequestType::none)));
  CHECK_FALSE(validate(request(RequestType{11})));
  CHECK_FALSE(validate(request(RequestType{0xFFFFFFFF})));
  CHECK_FALSE(validate(request(RequestType::take_snapshot, 0)));
  CHECK(validate(request(RequestType::take_snapshot)));
}

TEST_CASE("messages: KeepSpis names 1 to 64") {
  Request keep = request(RequestType::keep_spis);
  const auto with = [&](std::uint32_t count) {
    keep.body.keep_spis = KeepSpis{};
    keep.body.keep_spis.count = count;
    return validate(keep).has_value();
  };
  CHECK_FALSE(with(0));
  CHECK(with(1));
  CHECK(with(64));
  CHECK_FALSE(with(65));
}

TEST_CASE("messages: LeaseSpis asks for 1 to 64") {
  Request lease = request(RequestType::lease_spis);
  const auto with = [&](std::uint32_t count) {
    lease.body.lease_spis = LeaseSpis{count};
    return validate(lease).has_value();
  };
  CHECK_FALSE(with(0));
  CHECK(with(1));
  CHECK(with(64));
  CHECK_FALSE(with(65));
  CHECK_FALSE(with(0xFFFFFFFF));
}

TEST_CASE("messages: requests that name an SA or a policy name one") {
  Request made = request(RequestType::delete_sa);
  made.body.delete_sa = DeleteSa{};
  CHECK_FALSE(validate(made));
  made.type = RequestType::query_sa;
  CHECK_FALSE(validate(made));
  made.type = RequestType::delete_policy;
  CHECK_FALSE(validate(made));
  made.type = RequestType::switch_outbound;
  made.body.switch_outbound = {PolicyId{1}, SaId{0}};
  CHECK_FALSE(validate(made));
  made.body.switch_outbound = {PolicyId{1}, SaId{2}};
  CHECK(validate(made));
}

TEST_CASE("messages: an InstallPolicy has selectors and an outbound SA") {
  CHECK(validate(install_policy()));
  Request broken = install_policy();
  SECTION("no SA") { broken.body.install_policy.outbound = SaId{0}; }
  SECTION("no name") { broken.body.install_policy.policy = PolicyId{0}; }
  SECTION("too many selectors") { broken.body.install_policy.remote_selectors.count = 99; }
  CHECK_FALSE(validate(broken));
}

TEST_CASE("messages: UpdateEndpoints stays within one address family") {
  Request made = request(RequestType::update_endpoints);
  made.body.update_endpoints = {SaId{1}, endpoint("198.51.100.1", 4500),
                                endpoint("203.0.113.9", 1024)};
  CHECK(validate(made));
  made.body.update_endpoints.remote = endpoint("2001:db8::9", 1024);
  CHECK_FALSE(validate(made));
  made.body.update_endpoints.remote = endpoint("203.0.113.9", 4500);
  made.body.update_endpoints.local.port = 0;
  CHECK(validate(made));
  // ESP in UDP is taken on 4500 alone.
  made.body.update_endpoints.local.port = 500;
  CHECK(validate(made).error().field == "local");
}

TEST_CASE("messages: a completion stays within its enum and its array") {
  Event event = completion(5);
  Completion& body = event.body.completion;
  CHECK(validate(event));
  SECTION("an outcome beyond the enum") { body.outcome = Outcome{11}; }
  SECTION("65 SPIs") {
    body.spis.fill(Spi{0x1000});
    body.spi_count = 65;
  }
  SECTION("a reserved SPI") {
    body.spi_count = 2;
    body.spis[0] = Spi{256};
    body.spis[1] = Spi{17};
  }
  SECTION("for no request") { body.request = RequestId{0}; }
  CHECK_FALSE(validate(event));
}

TEST_CASE("messages: events with a field out of range are refused") {
  Event event;
  SECTION("none") { event.type = EventType::none; }
  SECTION("a type beyond the enum") { event.type = EventType{9}; }
  SECTION("an expiry without a cause we know") {
    event = soft_expire(4);
    event.body.soft_expire.cause = ExpiryCause{4};
  }
  SECTION("an expiry of SA 0") { event = soft_expire(0); }
  SECTION("an acquire from IPv4 to IPv6") {
    event.type = EventType::acquire;
    event.body.acquire = {ChildId{1}, address("10.1.0.1"), address("2001:db8::1"), 6, 1, 2};
  }
  SECTION("an unknown SPI from nowhere") {
    event.type = EventType::unknown_spi;
    event.body.unknown_spi = {Spi{1}, {}, {}};
    event.body.unknown_spi.from.address.family = wire::Family{1};
  }
  SECTION("a peer that moved to no address") {
    event.type = EventType::peer_moved;
    event.body.peer_moved = {SaId{1}, {}};
    event.body.peer_moved.seen.address.family = wire::Family{7};
  }
  SECTION("a snapshot in no direction") {
    event.type = EventType::snapshot_sa;
    event.body.snapshot_sa = {SaId{1}, ChildId{1}, Direction{3}, Spi{256}, {}, {}, false};
  }
  SECTION("a snapshot whose boolean is 3") {
    event.type = EventType::snapshot_sa;
    event.body.snapshot_sa = {SaId{1}, ChildId{1}, Direction::in, Spi{256}, {}, {}, false};
    write_raw(event.body.snapshot_sa.udp_encapsulation, 3);
  }
  CHECK_FALSE(validate(event));
}

TEST_CASE("messages: a datagram has two endpoints of one family and a possible length") {
  Datagram made = datagram(300);
  REQUIRE(validate(made));
  SECTION("longer than its array") { made.length = kMaxDatagramBytes + 1; }
  SECTION("4 GiB long") { made.length = 0xFFFFFFFF; }
  SECTION("empty") { made.length = 0; }
  SECTION("from port 0") { made.local.port = 0; }
  SECTION("to port 0") { made.remote.port = 0; }
  SECTION("to another family") { made.remote = endpoint("2001:db8::7", 500); }
  SECTION("a keepalive byte of 9") { write_raw(made.keepalive, 9); }
  CHECK_FALSE(validate(made));
}

TEST_CASE("messages: a keepalive needs no bytes, a full datagram has all of them") {
  Datagram keepalive = datagram(0);
  keepalive.keepalive = true;
  CHECK(validate(keepalive));
  CHECK(validate(datagram(kMaxDatagramBytes)));
}

TEST_CASE("messages: every outcome has a word, and a value beyond them is unknown") {
  for (std::uint32_t value = 0; value <= static_cast<std::uint32_t>(Outcome::over_budget);
       ++value) {
    CHECK(to_string(Outcome{value}) != "unknown");
  }
  CHECK(to_string(Outcome{99}) == "unknown");
}
