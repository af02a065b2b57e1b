// What the key daemon cannot do to a configured child, whoever speaks through it.
#include <catch2/catch.hpp>

#include "dataplane/control/policy_book.hpp"
#include "tests/unit/dataplane/main_thread.hpp"

namespace culvert::dataplane::control {
namespace {

using channel::Direction;
using channel::Outcome;

std::vector<wire::TrafficSelector> selectors(std::initializer_list<std::string_view> texts) {
  std::vector<wire::TrafficSelector> all;
  for (const auto text : texts) all.push_back(wire::TrafficSelector::parse(text).value());
  return all;
}
channel::SelectorSet set_of(std::initializer_list<std::string_view> texts) {
  channel::SelectorSet set;
  for (const auto& one : selectors(texts)) set.items[set.count++] = one;
  return set;
}

struct Site : test_main::MainThread {
  Site() : MainThread(1) {}

  config::Child& child() { return file.connections[0].children[0]; }
  void reload() { directory.take(file, {}); }
  channel::InstallSa request(Direction direction) {
    channel::InstallSa sa;
    sa.sa = channel::SaId{next++};
    sa.direction = direction;
    sa.spi = direction == Direction::in ? tables->sad->lease_spis(1).at(0)
                                        : channel::Spi{static_cast<std::uint32_t>(4096 + next)};
    sa.child_id = child().id;
    sa.suite = {crypto::Encryption::aes_gcm_16, 128, crypto::Integrity::none};
    sa.replay_window = direction == Direction::in ? 64 : 0;
    sa.local = {test::address("198.51.100.1"), 0};
    sa.remote = {test::address("198.51.100.2"), 0};
    sa.local_selectors = set_of({"10.1.0.0/16"});
    sa.remote_selectors = set_of({"10.2.0.0/16"});
    REQUIRE(sa.key.assign(std::vector<std::uint8_t>(20, 7)));
    return sa;
  }
  Outcome ask(const channel::InstallSa& sa) { return associations.install(sa, Instant{}); }
  Outcome ask_policy(channel::SaId outbound, std::initializer_list<std::string_view> remote) {
    channel::InstallPolicy policy;
    policy.policy = channel::PolicyId{next++};
    policy.child_id = child().id;
    policy.outbound = outbound;
    policy.local_selectors = set_of({"10.1.0.0/16"});
    policy.remote_selectors = set_of(remote);
    return book.install(policy);
  }

  PolicyBook book{*tables, file, directory};
  std::uint64_t next = 1;
};

}  // namespace

TEST_CASE("child terms: an SA is of its child's selectors, mode and suites, and has a window") {
  const Direction direction = GENERATE(Direction::in, Direction::out);
  Site site;
  channel::InstallSa sa = site.request(direction);
  Outcome expected = Outcome::invalid_field;
  SECTION("as configured") { expected = Outcome::ok; }
  SECTION("narrowed") {
    sa.local_selectors = set_of({"10.1.7.0/24[tcp]", "10.1.9.9/32"});
    expected = Outcome::ok;
  }
  SECTION("wider here") { sa.local_selectors = set_of({"0.0.0.0/0"}); }
  SECTION("wider there") { sa.remote_selectors = set_of({"10.2.0.0/16", "10.3.0.0/16"}); }
  SECTION("of nobody") { sa.remote_selectors = {}; }
  SECTION("of the other mode") { sa.mode = channel::SaMode::transport; }
  SECTION("in clear") {
    sa.suite = {crypto::Encryption::null, 0, crypto::Integrity::hmac_sha2_256_128};
    REQUIRE(sa.key.assign(std::vector<std::uint8_t>(32, 7)));
  }
  SECTION("of another length") {
    sa.suite.key_bits = 256;
    REQUIRE(sa.key.assign(std::vector<std::uint8_t>(36, 7)));
  }
  CHECK(site.ask(sa) == expected);
  CHECK((site.tables->sad->find(sa.sa) != nullptr) == (expected == Outcome::ok));
}

TEST_CASE("child terms: without a window nothing negotiated comes in (RFC 4303 §3.4.3)") {
  Site site;
  channel::InstallSa sa = site.request(Direction::in);
  sa.replay_window = 0;
  CHECK(site.ask(sa) == Outcome::invalid_field);
}

TEST_CASE("child terms: the form before the last change is still negotiated, none before that") {
  Site site;
  site.child().remote_ts = selectors({"10.9.0.0/16"});
  site.child().esp_proposals = {*crypto::parse_esp_proposal("aes256gcm16")};
  site.reload();
  CHECK(site.ask(site.request(Direction::out)) == Outcome::ok);
  // A reload that leaves the child as it is forgets nothing.
  site.reload();
  CHECK(site.ask(site.request(Direction::out)) == Outcome::ok);
  // Not of two forms at once.
  channel::InstallSa mixed = site.request(Direction::out);
  mixed.remote_selectors = set_of({"10.9.0.0/16"});
  CHECK(site.ask(mixed) == Outcome::invalid_field);

  site.child().remote_ts = selectors({"10.10.0.0/16"});
  site.reload();
  CHECK(site.ask(site.request(Direction::out)) == Outcome::invalid_field);
}

TEST_CASE("child terms: a child without remote_ts is for the peer's address") {
  Site site;
  site.file.connections[0].remote.address.reset();
  site.child().remote_ts.clear();
  site.directory = ChildDirectory(site.file);
  channel::InstallSa sa = site.request(Direction::out);
  SECTION("everything") {
    sa.remote_selectors = set_of({"0.0.0.0/0"});
    CHECK(site.ask(sa) == Outcome::invalid_field);
  }
  SECTION("another's") {
    sa.remote_selectors = set_of({"198.51.100.9/32"});
    CHECK(site.ask(sa) == Outcome::invalid_field);
  }
  SECTION("its own") {
    sa.remote_selectors = set_of({"198.51.100.2/32[tcp]", "198.51.100.2/32[udp]"});
    REQUIRE(site.ask(sa) == Outcome::ok);
    CHECK(site.ask_policy(sa.sa, {"0.0.0.0/0"}) == Outcome::invalid_field);
    CHECK(site.ask_policy(sa.sa, {"198.51.100.9/32"}) == Outcome::invalid_field);
    CHECK(site.ask_policy(sa.sa, {"198.51.100.2/32[tcp]"}) == Outcome::ok);
    CHECK(site.ask_policy(sa.sa, {"198.51.100.2/32[tcp]", "198.51.100.2/32[udp]"}) == Outcome::ok);
  }
  SECTION("behind a NAT, one host") {
    sa.udp_encapsulation = true;
    sa.local.port = sa.remote.port = 4500;
    sa.remote_selectors = set_of({"192.168.1.7/32"});
    REQUIRE(site.ask(sa) == Outcome::ok);
    CHECK(site.ask_policy(sa.sa, {"192.168.1.7/32"}) == Outcome::ok);
    CHECK(site.ask_policy(sa.sa, {"192.168.1.8/32"}) == Outcome::invalid_field);
    channel::InstallSa two = site.request(Direction::out);
    two.udp_encapsulation = true;
    two.local.port = two.remote.port = 4500;
    two.remote_selectors = set_of({"192.168.1.7/32", "192.168.1.8/32"});
    CHECK(site.ask(two) == Outcome::invalid_field);
  }
}

}  // namespace culvert::dataplane::control
