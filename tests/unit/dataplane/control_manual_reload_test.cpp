// Manual SAs that come, go and change while the gateway runs.
#include <catch2/catch.hpp>

#include "tests/unit/dataplane/manual_gateway.hpp"

namespace culvert::dataplane::control::manual_reload {

TEST_CASE("manual reload: one that stays is the same SA, whatever comes and goes around it") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001);
  gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  const channel::SaId stays = gateway.inbound(0x1001)->spec.sa;

  gateway.add("more", kOut, 0x2002);
  std::swap(gateway.file.manual_sas[0], gateway.file.manual_sas[2]);
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.inbound(0x1001)->spec.sa == stays);
  CHECK(gateway.outbound_spis() == std::vector<std::uint32_t>{0x2002, 0x2001});
  CHECK(gateway.associations.is_manual(*gateway.inbound(0x1001)));

  std::erase_if(gateway.file.manual_sas, [](const ManualSa& sa) { return sa.direction == kOut; });
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.inbound(0x1001)->spec.sa == stays);
  CHECK(gateway.count(channel::Direction::out) == 0);
  CHECK(gateway.outbound_spis().empty());
}

TEST_CASE("manual reload: another key in the same file is another SA under the same SPI") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001);
  REQUIRE(gateway.reload() == "");
  const channel::SaId before = gateway.inbound(0x1001)->spec.sa;
  REQUIRE(gateway.reload() == "");
  REQUIRE(gateway.inbound(0x1001)->spec.sa == before);

  static_cast<void>(gateway.keys.write("key", kOtherKey));
  REQUIRE(gateway.reload() == "");
  REQUIRE(gateway.inbound(0x1001) != nullptr);
  CHECK(gateway.inbound(0x1001)->spec.sa != before);
  CHECK(gateway.count(channel::Direction::in) == 1);
}

TEST_CASE("manual reload: another SPI, and the traffic goes on with it") {
  Gateway gateway;
  ManualSa& sa = gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  sa.spi = 0x2002;
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.outbound_spis() == std::vector<std::uint32_t>{0x2002});
  CHECK(gateway.count(channel::Direction::out) == 1);
}

TEST_CASE("manual reload: under the same key and SPI numbers never go back (RFC 4303 §3.4.3)") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001);
  gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  gateway.receive(4999);
  gateway.receive(5000);
  gateway.sends().sequence.store(7000);

  for (ManualSa& sa : gateway.file.manual_sas) sa.replay_window = 64;
  const bool renamed = GENERATE(false, true);
  for (ManualSa& sa : gateway.file.manual_sas) {
    if (renamed) sa.name = "other";
    sa.id = config::manual_id(sa.name);
  }
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.verdict(5000) == ReplayVerdict::duplicate);
  CHECK(gateway.verdict(4999) == ReplayVerdict::duplicate);
  CHECK(gateway.verdict(5001) == ReplayVerdict::fresh);
  CHECK(gateway.sends().sequence.load() > 7000);

  static_cast<void>(gateway.keys.write("key", kOtherKey));
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.verdict(5000) == ReplayVerdict::fresh);
  CHECK(gateway.sends().sequence.load() == 0);
}

TEST_CASE("manual reload: one that was away goes on behind its numbers and IVs (RFC 4106 §3.1)") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001);
  gateway.add("pair", kOut, 0x2001);
  const auto sends = [&]() -> OutboundSa& { return gateway.sends(); };
  REQUIRE(gateway.reload() == "");
  gateway.receive(5000);
  sends().sequence.store(7000);
  const std::uint64_t last_iv = sends().iv(7000);

  const std::vector<ManualSa> both = std::exchange(gateway.file.manual_sas, {});
  REQUIRE(gateway.reload() == "");
  REQUIRE(gateway.reload() == "");  // and another one meanwhile
  REQUIRE(gateway.count(channel::Direction::out) == 0);
  gateway.file.manual_sas = both;
  const bool has_other_name = GENERATE(false, true);
  if (has_other_name) {
    for (ManualSa& sa : gateway.file.manual_sas) sa.id = config::manual_id(sa.name = "again");
  }
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.verdict(5000) != ReplayVerdict::fresh);
  CHECK(gateway.verdict(5001) == ReplayVerdict::fresh);
  const std::uint64_t next = sends().sequence.load() + 1;
  CHECK(next > 7000);
  CHECK(sends().iv(next) - last_iv > 1ULL << 40U);  // and of what is sent from now on, none is old

  // Another SPI is another SA to the peer, with numbers of its own; the IVs are the key's.
  const std::uint64_t second_iv = sends().iv(next);
  gateway.file.manual_sas[1].spi = 0x2002;
  REQUIRE(gateway.reload() == "");
  CHECK(sends().sequence.load() == 0);
  CHECK(sends().iv(1) - second_iv > 1ULL << 40U);
}

TEST_CASE("manual reload: a key whose numbers are used up is refused (RFC 4303 §3.3.3)") {
  Gateway gateway;
  gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  const SlotIndex slot = gateway.tables->spd->entries().front().outbound;
  gateway.tables->sad->outbound(slot)->sequence.store(0xfffffff0);
  const bool is_away = GENERATE(false, true);
  const std::vector<ManualSa> before = gateway.file.manual_sas;
  if (is_away) {
    gateway.file.manual_sas.clear();
    REQUIRE(gateway.reload() == "");
    gateway.file.manual_sas = before;
  } else {
    gateway.file.manual_sas[0].headers.hop_limit = 9;
  }
  const std::string error = gateway.reload();
  CAPTURE(error);
  CHECK(error.starts_with(
      "manual SA \"pair\": the sequence numbers under this key and SPI are used"));
  CHECK(error.find(before[0].key_file) != std::string::npos);
  CHECK(gateway.count(channel::Direction::out) == (is_away ? 0 : 1));
  // What the message says helps.
  static_cast<void>(gateway.keys.write("key", kOtherKey));
  CHECK(gateway.reload() == "");
  CHECK(gateway.count(channel::Direction::out) == 1);
}

TEST_CASE("manual keys: what is remembered is bounded, and says nothing of a key") {
  const auto random = crypto::ike::make_seeded_random(1);
  ManualKeys keys(*random, 2);
  ManualKeys others(*random, 2);
  const std::vector<std::uint8_t> key(20, 7);
  CHECK(keys.digest(key) == keys.digest(key));
  CHECK(keys.digest(key) != others.digest(key));
  const ManualKeys::Use use{keys.digest(key), channel::Direction::out, channel::Spi{300}};
  CHECK(keys.highest(use) == nullptr);
  keys.used(use, 5);
  keys.used(use, 4);
  REQUIRE(keys.highest(use) != nullptr);
  CHECK(*keys.highest(use) == 5);
  CHECK(keys.has_room(1));
  CHECK_FALSE(keys.has_room(2));
}

TEST_CASE("manual keys: the IVs of SAs under one key never meet, wherever their numbers begin") {
  const auto random = crypto::ike::make_seeded_random(1);
  ManualKeys keys(*random, 2);
  const auto key = keys.digest(std::vector<std::uint8_t>(20, 7));
  const auto first_iv = [&](std::uint64_t first_sequence) {
    return (std::uint64_t{keys.take_iv_start(key, first_sequence)} << 32U) + first_sequence;
  };
  const std::uint64_t before = first_iv((1ULL << 48U) + 1);
  CHECK(first_iv(1) - before == 1ULL << 48U);
  CHECK(first_iv(1ULL << 62U) - before == (2ULL << 48U) - 1);
  // All of them, and not one more.
  while (keys.places_left(key) != 1) static_cast<void>(first_iv(1));
  CHECK(first_iv(1) - before == 0xffffULL << 48U);
  CHECK(keys.places_left(key) == 0);
  CHECK(keys.places_left(keys.digest(std::vector<std::uint8_t>(20, 8))) == 65536);
}

TEST_CASE("manual reload: what is refused leaves everything as it was") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001);
  gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  const channel::SaId inbound = gateway.inbound(0x1001)->spec.sa;
  const auto unchanged = [&](const std::string& why) {
    const std::string error = gateway.reload();
    CAPTURE(error);
    CHECK(error.find(why) != std::string::npos);
    CHECK(gateway.inbound(0x1001)->spec.sa == inbound);
    CHECK(gateway.outbound_spis() == std::vector<std::uint32_t>{0x2001});
    CHECK(gateway.count(channel::Direction::in) == 1);
    CHECK(gateway.count(channel::Direction::out) == 1);
  };
  gateway.file.manual_sas[1].spi = 0x2002;  // would be a change

  SECTION("a key that cannot be read") {
    gateway.add("more", kIn, 0x1002).key_file = "/nonexistent/key";
    unchanged("/nonexistent/key");
  }
  SECTION("an address that is none of ours") {
    gateway.add("more", kIn, 0x1002).local = test::address("198.51.100.9");
    unchanged("198.51.100.9");
  }
  SECTION("an SPI that the key daemon has leased") {
    const auto leased = static_cast<std::uint32_t>(gateway.tables->sad->lease_spis(1).front());
    gateway.add("more", kIn, leased);
    unchanged("another inbound SA");
  }
  SECTION("an SPI of an SA that was negotiated") {
    const channel::Spi leased = gateway.tables->sad->lease_spis(1).front();
    auto request = *install_request(gateway.file.manual_sas[0], channel::SaId{9});
    request.spi = leased;
    REQUIRE(gateway.tables->sad->install(request, 1));
    gateway.add("more", kIn, static_cast<std::uint32_t>(leased));
    const std::string error = gateway.reload();
    CHECK(error.find("another inbound SA") != std::string::npos);
    CHECK(gateway.outbound_spis() == std::vector<std::uint32_t>{0x2001});
  }
  SECTION("more than there is room for") {
    for (std::uint32_t more = 0; more < 16; ++more) {
      gateway.add("more" + std::to_string(more), kIn, 0x3000 + more);
    }
    unchanged("no room");
  }
}

TEST_CASE("manual reload: another default policy is in force with the list, and shown") {
  Gateway gateway;
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.tables->spd->snapshot().default_policy() == config::PolicyAction::discard);
  const std::uint64_t generation = gateway.tables->spd->snapshot().generation();
  gateway.file.default_policy = config::PolicyAction::bypass;
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.tables->spd->snapshot().default_policy() == config::PolicyAction::bypass);
  CHECK(gateway.tables->spd->snapshot().generation() != generation);
}

}  // namespace culvert::dataplane::control::manual_reload
