// Leases, SPIs, slots and what is refused.
#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "dataplane/tables/spi_table.hpp"
#include "tests/unit/dataplane/tables/sad_database.hpp"

namespace culvert::dataplane {
namespace {

using channel::Direction;
using channel::Outcome;
using channel::SaId;
using channel::Spi;
using test::all_zero;
using test::Database;
using test::kSlots;
using test::sa_request;

TEST_CASE("sad: a leased SPI is installed, found by its number, and gone when removed") {
  Database db;
  const std::uint32_t spi = db.lease();
  CHECK(spi >= channel::kFirstFreeSpi);
  CHECK(db.sad->inbound(spi) == nullptr);
  const auto slot = db.sad->install(sa_request(7, Direction::in, spi), 99);
  REQUIRE(slot);
  InboundSa* const found = db.sad->inbound(spi);
  REQUIRE(found != nullptr);
  CHECK(db.sad->slot_of(*found) == raw(*slot));
  CHECK(db.sad->place_of(spi) == found);
  CHECK(found->details->sa_id == 7);
  CHECK(db.sad->count(Direction::in) == 1);
  const SaRecord* const record = db.sad->find(SaId{7});
  REQUIRE(record != nullptr);
  CHECK(record->installed_tsc == 99);
  CHECK(db.sad->find_inbound(Spi{spi}) == record);
  CHECK(db.sad->remove(SaId{7}) == Outcome::ok);
  CHECK(db.sad->inbound(spi) == nullptr);
  CHECK(db.sad->find(SaId{7}) == nullptr);
  CHECK(db.sad->count(Direction::in) == 0);
  CHECK(db.sad->remove(SaId{7}) == Outcome::unknown_sa);
}

TEST_CASE("sad: the record keeps no key, and the caller's own is left alone") {
  Database db;
  auto request = sa_request(1, Direction::out, 0x1000);
  REQUIRE(db.try_install(request) == Outcome::ok);
  const SaRecord* const record = db.sad->find(SaId{1});
  CHECK(all_zero(record->spec.key.bytes.data(), record->spec.key.bytes.size()));
  CHECK(record->spec.key.length == 0);
  CHECK(request.key.length == 20);
}

TEST_CASE("sad: an SPI that was not leased is refused, and one of a neighbouring generation too") {
  Database db;
  const std::uint32_t spi = db.lease();
  CHECK(db.try_install(sa_request(1, Direction::in, spi + kSlots)) == Outcome::spi_not_leased);
  CHECK(db.try_install(sa_request(1, Direction::in, spi ^ 1U)) == Outcome::spi_not_leased);
  CHECK(db.try_install(sa_request(1, Direction::in, 0)) == Outcome::spi_not_leased);
  CHECK(db.try_install(sa_request(1, Direction::in, spi)) == Outcome::ok);
  CHECK(db.try_install(sa_request(2, Direction::in, spi)) == Outcome::duplicate);
}

TEST_CASE("sad: an SPI is expected from its lease until its SA is removed or its lease returned") {
  Database db;
  const std::uint32_t spi = db.lease(), other = db.lease();
  CHECK(db.sad->is_expected(spi));
  CHECK_FALSE(db.sad->is_expected(0));
  CHECK_FALSE(db.sad->is_expected(spi ^ 0x80000000U));
  REQUIRE(db.sad->install(sa_request(7, Direction::in, spi), 99));
  CHECK(db.sad->is_expected(spi));  // whoever has just missed the SA waits for it
  CHECK(db.sad->remove(SaId{7}) == Outcome::ok);
  CHECK_FALSE(db.sad->is_expected(spi));
  db.sad->abandon_leases();
  CHECK(db.sad->is_expected(other));
  CHECK(db.sad->keep_lease(Spi{other}));
  db.sad->abandon_leases();
  static_cast<void>(db.sad->lease_spis(1));
  CHECK_FALSE(db.sad->is_expected(other));
}

TEST_CASE("sad: a slot that is used again has another SPI; the stale one stays unknown") {
  Database db;
  std::set<std::uint32_t> seen;
  for (std::uint64_t round = 1; round <= 4 * kSlots; ++round) {
    const std::uint32_t spi = db.lease();
    CHECK(seen.insert(spi).second);
    REQUIRE(db.try_install(sa_request(round, Direction::in, spi)) == Outcome::ok);
    for (const std::uint32_t stale : seen) {
      if (stale != spi) CHECK(db.sad->inbound(stale) == nullptr);
    }
    REQUIRE(db.sad->remove(SaId{round}) == Outcome::ok);
    CHECK(db.try_install(sa_request(round, Direction::in, spi)) == Outcome::spi_not_leased);
    db.pass_grace();
    CHECK(db.try_install(sa_request(round, Direction::in, spi)) == Outcome::spi_not_leased);
  }
}

TEST_CASE("sad: a removed slot is not leased again before the grace period is over") {
  Database db;
  const auto all = db.sad->lease_spis(kSlots);
  REQUIRE(all.size() == kSlots);
  const auto spi = static_cast<std::uint32_t>(all.front());
  REQUIRE(db.try_install(sa_request(1, Direction::in, spi)) == Outcome::ok);
  REQUIRE(db.sad->remove(SaId{1}) == Outcome::ok);
  CHECK(db.sad->lease_spis(1).empty());
  db.pass_grace();
  CHECK(db.sad->lease_spis(1).size() == 1);
}

TEST_CASE("sad: leases that were not used return, with new SPIs; installed SAs stay") {
  Database db;
  const auto leased = db.sad->lease_spis(kSlots);
  REQUIRE(leased.size() == kSlots);
  CHECK(db.sad->lease_spis(1).empty());
  const auto used = static_cast<std::uint32_t>(leased[3]);
  REQUIRE(db.try_install(sa_request(1, Direction::in, used)) == Outcome::ok);
  db.sad->abandon_leases();
  CHECK(db.sad->inbound(used) != nullptr);
  CHECK(db.sad->lease_spis(1).size() == 1);
  CHECK(db.try_install(sa_request(2, Direction::in, static_cast<std::uint32_t>(leased[0]))) ==
        Outcome::spi_not_leased);
  const auto again = db.sad->lease_spis(kSlots);
  CHECK(again.size() == kSlots - 2);
  for (const Spi spi : again) CHECK(std::ranges::find(leased, spi) == leased.end());
}

TEST_CASE("sad: a lease of the key daemon before stays where the next one asks to keep it") {
  Database db;
  const auto leased = db.sad->lease_spis(4);
  CHECK_FALSE(db.sad->keep_lease(leased[0]));  // its owner is there
  db.sad->abandon_leases();
  CHECK(db.sad->keep_lease(leased[0]));
  CHECK_FALSE(db.sad->keep_lease(leased[0]));
  CHECK_FALSE(db.sad->keep_lease(Spi{0x12345678}));
  const auto fresh = db.sad->lease_spis(kSlots);
  CHECK(fresh.size() == kSlots - 1);
  CHECK(std::ranges::find(fresh, leased[0]) == fresh.end());
  CHECK_FALSE(db.sad->keep_lease(leased[1]));  // returned by now
  CHECK(db.try_install(sa_request(1, Direction::in, static_cast<std::uint32_t>(leased[0]))) ==
        Outcome::ok);
}

TEST_CASE("sad: manual SAs take any SPI from 256 on, and are found by it") {
  Database db;
  CHECK(db.try_manual(sa_request(1, Direction::in, 0)) == Outcome::invalid_field);
  CHECK(db.try_manual(sa_request(1, Direction::in, 255)) == Outcome::invalid_field);
  // The same low bits: all but one stand elsewhere than their number says.
  const std::uint32_t spis[] = {256, 0x1000, 0x2000, 0xfffffff0, 0xffffffff};
  std::uint64_t id = 1;
  for (const std::uint32_t spi : spis) {
    REQUIRE(db.try_manual(sa_request(id, Direction::in, spi)) == Outcome::ok);
    ++id;
  }
  for (std::size_t i = 0; i < std::size(spis); ++i) {
    CAPTURE(spis[i]);
    InboundSa* const sa = db.sad->inbound(spis[i]);
    REQUIRE(sa != nullptr);
    CHECK(sa->details->sa_id == i + 1);
    CHECK(db.try_manual(sa_request(100, Direction::in, spis[i])) == Outcome::duplicate);
  }
  REQUIRE(db.sad->remove(SaId{2}) == Outcome::ok);
  CHECK(db.sad->inbound(0x1000) == nullptr);
  CHECK(db.sad->inbound(0x2000) != nullptr);
  CHECK(db.sad->inbound(0x3000) == nullptr);
  REQUIRE(db.try_manual(sa_request(2, Direction::in, 0x1000)) == Outcome::ok);
  db.pass_grace();
  CHECK(db.sad->inbound(0x1000) != nullptr);
}

TEST_CASE("sad: a leased SPI is not given to a manual SA, and a manual one is not leased") {
  Database db;
  const std::uint32_t spi = db.lease();
  CHECK(db.try_manual(sa_request(1, Direction::in, spi)) == Outcome::duplicate);
  db.sad->abandon_leases();
  std::set<std::uint32_t> manual;
  for (std::uint64_t id = 1; id <= kSlots / 2; ++id) {
    const auto chosen = static_cast<std::uint32_t>(0x00300000 + id * 2);
    REQUIRE(db.try_manual(sa_request(id, Direction::in, chosen)) == Outcome::ok);
    manual.insert(chosen);
  }
  for (const Spi leased : db.sad->lease_spis(kSlots)) {
    CHECK_FALSE(manual.contains(static_cast<std::uint32_t>(leased)));
  }
}

TEST_CASE("sad: the same SaId twice is a duplicate, in either direction") {
  Database db;
  REQUIRE(db.try_install(sa_request(1, Direction::out, 0x5000)) == Outcome::ok);
  CHECK(db.try_install(sa_request(1, Direction::out, 0x5001)) == Outcome::duplicate);
  CHECK(db.try_manual(sa_request(1, Direction::in, 0x5001)) == Outcome::duplicate);
  CHECK(db.sad->count(Direction::out) == 1);
  CHECK(db.sad->count(Direction::in) == 0);
}

TEST_CASE("sad: at the limit there is no room, until one is removed and its grace has passed") {
  Database db;
  for (std::uint64_t id = 1; id <= kSlots; ++id) {
    REQUIRE(db.try_install(sa_request(id, Direction::out, 0x6000)) == Outcome::ok);
  }
  CHECK(db.try_install(sa_request(99, Direction::out, 0x6000)) == Outcome::no_room);
  REQUIRE(db.sad->remove(SaId{3}) == Outcome::ok);
  CHECK(db.try_install(sa_request(99, Direction::out, 0x6000)) == Outcome::no_room);
  db.pass_grace();
  CHECK(db.try_install(sa_request(99, Direction::out, 0x6000)) == Outcome::ok);
}

TEST_CASE("sad: manual SAs fill every slot and then there is no room, whatever their SPIs") {
  Database db;
  for (std::uint32_t n = 0; n < kSlots; ++n) {
    REQUIRE(db.try_manual(sa_request(n + 1, Direction::in, 0x1000 + n * kSlots)) == Outcome::ok);
  }
  CHECK(db.try_manual(sa_request(99, Direction::in, 0x9999)) == Outcome::no_room);
  // Come and go, so that the side table is used up many times over.
  for (std::uint32_t round = 0; round < 20 * kSlots; ++round) {
    const std::uint64_t id = round % kSlots + 1;
    REQUIRE(db.sad->remove(SaId{id}) == Outcome::ok);
    db.pass_grace();
    REQUIRE(db.try_manual(sa_request(id, Direction::in, 0x100000 + round * kSlots)) == Outcome::ok);
  }
}

TEST_CASE("sad: the slot that is unused for longest is taken, however often one was by its name") {
  SlotAllocator slots(kSlots);
  const SlotIndex named{3};
  for (int cycle = 0; cycle < 10'000; ++cycle) {
    REQUIRE(slots.take(named));
    REQUIRE_FALSE(slots.take(named));
    slots.give_back(named);
    slots.give_back(named);  // which it is
  }
  CHECK(slots.in_use() == 0);
  std::vector<std::uint32_t> taken;
  while (const auto slot = slots.take()) taken.push_back(static_cast<std::uint32_t>(*slot));
  CHECK(taken == std::vector<std::uint32_t>{0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 3});
  CHECK(slots.in_use() == kSlots);
}

TEST_CASE("sad: no reserved SPI finds anything, whichever SAs came and went (RFC 4303 §2.1)") {
  Database db;
  const auto finds_none = [&] {
    for (std::uint32_t spi = 0; spi < channel::kFirstFreeSpi; ++spi) {
      if (db.sad->inbound(spi) != nullptr) return false;
    }
    return true;
  };
  CHECK(finds_none());
  SECTION("where a removed cell is in front of another, in the run of SPI 1") {
    std::uint64_t id = 1;
    for (const std::uint32_t spi : {0x308U, 0x118U, 0x20fU, 0x15fU}) {
      REQUIRE(db.try_manual(sa_request(id++, Direction::in, spi)) == Outcome::ok);
    }
    REQUIRE(db.sad->remove(SaId{2}) == Outcome::ok);
    CHECK(finds_none());
    db.pass_grace();
    CHECK(finds_none());
    CHECK(db.sad->inbound(0x118) == nullptr);
    CHECK(db.sad->inbound(0x15f) != nullptr);
  }
  SECTION("wherever removed cells are") {
    std::minstd_rand random;
    std::vector<std::uint32_t> spis(kSlots, 0);
    for (int round = 0; round < 2000; ++round) {
      const std::uint64_t id = random() % kSlots;
      if (std::exchange(spis[id], 0) != 0) {
        REQUIRE(db.sad->remove(SaId{id + 1}) == Outcome::ok);
        REQUIRE(finds_none());
        db.pass_grace();
      } else {
        const auto spi = static_cast<std::uint32_t>(channel::kFirstFreeSpi + random() % 0x1000);
        if (db.try_manual(sa_request(id + 1, Direction::in, spi)) == Outcome::ok) spis[id] = spi;
      }
      REQUIRE(finds_none());
    }
  }
}

TEST_CASE(
    "sad: unsupported suites, wrong key sizes and windows beyond the limit are refused, and "
    "leave nothing behind") {
  Database db;
  const std::uint32_t spi = db.lease();
  auto wrong_suite = sa_request(1, Direction::in, spi);
  wrong_suite.suite = {crypto::Encryption::aes_cbc, 128, crypto::Integrity::none};
  CHECK(db.try_install(wrong_suite) == Outcome::unsupported_suite);
  auto wrong_bits = sa_request(1, Direction::in, spi);
  wrong_bits.suite.key_bits = 136;
  CHECK(db.try_install(wrong_bits) != Outcome::ok);
  auto short_key = sa_request(1, Direction::in, spi);
  short_key.key.length = 19;
  CHECK(db.try_install(short_key) == Outcome::invalid_field);
  auto wide_window = sa_request(1, Direction::in, spi);
  wide_window.replay_window = channel::kMaxReplayWindow + 1;
  CHECK(db.try_install(wide_window) == Outcome::invalid_field);
  CHECK(db.sad->count(Direction::in) == 0);
  CHECK(db.sad->inbound(spi) == nullptr);
  CHECK(db.try_install(sa_request(1, Direction::in, spi)) == Outcome::ok);  // the lease stayed
}

TEST_CASE("sad: an SA of any suite has its number and the salt behind the cipher key") {
  Database db;
  std::uint64_t id = 1;
  for (std::size_t i = 0; i < crypto::esp::kTransforms.size(); ++i) {
    const auto& [suite, form] = crypto::esp::kTransforms[i];
    INFO(suite.name());
    std::vector<std::uint8_t> keymat(suite.keymat_bytes());
    for (std::size_t at = 0; at < keymat.size(); ++at) {
      keymat[at] = static_cast<std::uint8_t>(at + 1);
    }
    std::array<std::uint8_t, 4> salt{};
    const auto behind = keymat.begin() + static_cast<std::ptrdiff_t>(suite.encryption_key_bytes());
    std::copy_n(behind, form.salt_bytes, salt.begin());
    const std::uint32_t spi = db.lease();
    auto in = sa_request(id++, Direction::in, spi);
    auto out = sa_request(id++, Direction::out, 0x1000);
    for (auto* request : {&in, &out}) {
      request->suite = suite;
      REQUIRE(request->key.assign(keymat));
      REQUIRE(db.try_install(*request) == Outcome::ok);
    }
    const InboundSa* const in_sa = db.sad->inbound(spi);
    REQUIRE(in_sa != nullptr);
    CHECK(static_cast<std::size_t>(in_sa->transform) == i);
    CHECK(in_sa->salt == wire::load_raw<std::uint32_t>(salt.data()));
    const OuterHeader& outer = db.sad->outbound(db.sad->find(out.sa)->slot)->outer();
    CHECK(static_cast<std::size_t>(outer.transform) == i);
    CHECK(outer.salt == wire::load_raw<std::uint32_t>(salt.data()));
    REQUIRE(db.sad->remove(in.sa) == Outcome::ok);
    REQUIRE(db.sad->remove(out.sa) == Outcome::ok);
    db.pass_grace();
  }
}

}  // namespace
}  // namespace culvert::dataplane
