#include "dataplane/tables/sad.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/sa_request.hpp"

namespace culvert::dataplane {
namespace {

using channel::Direction;
using channel::Outcome;
using channel::SaId;
using channel::Spi;
using test::sa_request;

constexpr WorkerId kWorker{0};
constexpr std::uint32_t kSlots = 16;

/// A SAD whose one worker is online: grace periods end when the test says so.
struct Database {
  Reclaimer reclaimer{1};
  std::unique_ptr<crypto::esp::Engine> engine = crypto::esp::make_engine();
  std::unique_ptr<Sad> sad = Sad::create(kSlots, 1, *engine, reclaimer).value();

  Database() { reclaimer.online(kWorker); }
  ~Database() { reclaimer.offline(kWorker); }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void pass_grace() {
    reclaimer.quiescent(kWorker);
    reclaimer.poll();
  }
  std::uint32_t lease() {
    const auto spis = sad->lease_spis(1);
    REQUIRE(spis.size() == 1);
    return static_cast<std::uint32_t>(spis.front());
  }
  Outcome try_install(const channel::InstallSa& request) {
    const auto slot = sad->install(request, 1);
    return slot ? Outcome::ok : slot.error();
  }
  Outcome try_manual(const channel::InstallSa& request) {
    const auto slot = sad->install_manual(request, 1);
    return slot ? Outcome::ok : slot.error();
  }
};

bool all_zero(const void* memory, std::size_t bytes) {
  const auto* const first = static_cast<const std::uint8_t*>(memory);
  return std::all_of(first, first + bytes, [](std::uint8_t byte) { return byte == 0; });
}

TEST_CASE("sad: a leased SPI is installed, found by its number, and gone when removed") {
  Database db;
  const std::uint32_t spi = db.lease();
  CHECK(spi >= channel::kFirstFreeSpi);
  CHECK(db.sad->inbound(spi) == nullptr);
  const auto slot = db.sad->install(sa_request(7, Direction::in, spi), 99);
  REQUIRE(slot);
  InboundSa* const found = db.sad->inbound(spi);
  REQUIRE(found != nullptr);
  CHECK(found->slot == *slot);
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
  db.sad->return_leases();
  CHECK(db.sad->inbound(used) != nullptr);
  CHECK(db.try_install(sa_request(2, Direction::in, static_cast<std::uint32_t>(leased[0]))) ==
        Outcome::spi_not_leased);
  const auto again = db.sad->lease_spis(kSlots);
  CHECK(again.size() == kSlots - 1);
  for (const Spi spi : again) CHECK(std::ranges::find(leased, spi) == leased.end());
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
  db.sad->return_leases();
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

TEST_CASE(
    "sad: unsupported suites, wrong key sizes and windows beyond the limit are refused, and "
    "leave nothing behind") {
  Database db;
  const std::uint32_t spi = db.lease();
  auto wrong_suite = sa_request(1, Direction::in, spi);
  wrong_suite.suite = {crypto::Encryption::aes_cbc, 128, crypto::Integrity::hmac_sha2_256_128};
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

TEST_CASE("sad: the key stays whole for workers through the grace period and is zero after it") {
  Database db;
  const std::uint32_t spi = db.lease();
  REQUIRE(db.try_install(sa_request(1, Direction::in, spi, 256)) == Outcome::ok);
  const auto out = db.sad->install(sa_request(2, Direction::out, 0x7000, 256), 1);
  REQUIRE(out);
  InboundSa& in_sa = *db.sad->inbound(spi);
  OutboundSa& out_sa = *db.sad->outbound(*out);
  const crypto::esp::ExpandedKey* const in_key = in_sa.key;
  const crypto::esp::ExpandedKey* const out_key = out_sa.key;
  const crypto::esp::ExpandedKey before = *in_key;
  REQUIRE_FALSE(all_zero(in_key, sizeof(*in_key)));
  REQUIRE_FALSE(all_zero(out_key, sizeof(*out_key)));
  REQUIRE(in_sa.salt != 0);
  REQUIRE(db.sad->remove(SaId{1}) == Outcome::ok);
  REQUIRE(db.sad->remove(SaId{2}) == Outcome::ok);
  db.reclaimer.poll();
  CHECK(std::memcmp(in_key, &before, sizeof(before)) == 0);
  CHECK_FALSE(all_zero(out_key, sizeof(*out_key)));
  CHECK(out_sa.stopped.load());  // but no packet more
  db.pass_grace();
  CHECK(all_zero(in_key, sizeof(*in_key)));
  CHECK(all_zero(out_key, sizeof(*out_key)));
  CHECK(in_sa.salt == 0);
  CHECK(out_sa.headers[0].salt == 0);
  CHECK(out_sa.headers[1].salt == 0);
}

TEST_CASE("sad: what a removed SA points at is not left behind for a worker to follow") {
  Database db;
  const auto out = db.sad->install(sa_request(1, Direction::out, 0x7000), 1);
  REQUIRE(out);
  REQUIRE(db.sad->remove(SaId{1}) == Outcome::ok);
  db.pass_grace();
  CHECK(db.sad->outbound(*out)->stopped.load());
  CHECK(db.sad->outbound(*out)->details == nullptr);
  CHECK(db.sad->outbound(*out)->key == nullptr);
}

TEST_CASE("sad: an SA that takes over a slot begins anew: window, counts, sequence") {
  Database db;
  for (std::uint64_t id = 1; id <= 2 * kSlots; ++id) {
    const auto slot = db.sad->install(sa_request(id, Direction::out, 0x7000), 1);
    REQUIRE(slot);
    OutboundSa& out = *db.sad->outbound(*slot);
    CHECK(out.sequence.load() == 0);
    CHECK(out.bytes.load() == 0);
    CHECK(reserve_sequence(out, 10, SharedAdd(1)).first == 1);
    out.bytes = 100;
    const std::uint32_t spi = db.lease();
    REQUIRE(db.try_install(sa_request(1000 + id, Direction::in, spi)) == Outcome::ok);
    InboundSa& in = *db.sad->inbound(spi);
    CHECK(in.replay_window().commit(1) == ReplayVerdict::fresh);
    CHECK(in.replay_window().commit(1) == ReplayVerdict::duplicate);
    CHECK(in.packets.load() == 0);
    in.packets = 5;
    REQUIRE(db.sad->remove(SaId{id}) == Outcome::ok);
    REQUIRE(db.sad->remove(SaId{1000 + id}) == Outcome::ok);
    db.pass_grace();
  }
}

TEST_CASE("sad: update_endpoints changes where packets go and come from, nothing else") {
  Database db;
  auto request = sa_request(1, Direction::out, 0x8000);
  request.udp_encapsulation = true;
  request.local.port = 4500;
  request.remote.port = 4500;
  const auto out = db.sad->install(request, 1);
  REQUIRE(out);
  auto inbound_request = sa_request(2, Direction::in, db.lease());
  REQUIRE(db.try_install(inbound_request) == Outcome::ok);
  OutboundSa& sa = *db.sad->outbound(*out);
  const std::uint32_t salt = sa.outer().salt;
  REQUIRE(reserve_sequence(sa, 5, SharedAdd(1)).count == 5);
  channel::UpdateEndpoints update;
  for (const std::uint32_t last : {9U, 10U, 11U}) {
    update.sa = SaId{1};
    update.local = {test::address("198.51.100.1"), 4500};
    update.remote = {wire::IpAddress::v4(0xcb007100U + last),
                     static_cast<std::uint16_t>(4000 + last)};
    // The second set may be in use by the worker: the change waits for it, so it must report.
    db.pass_grace();
    REQUIRE(db.sad->update_endpoints(update) == Outcome::ok);
    CHECK(sa.details->outer().remote == update.remote);
    CHECK(sa.outer().bytes[19] == last);
    CHECK(wire::load_u16(sa.outer().bytes.data() + 22) == 4000 + last);
    CHECK(sa.outer().salt == salt);
    CHECK(sa.outer().spi == wire::Be32{0x8000}.raw());
    CHECK(db.sad->find(SaId{1})->spec.remote == update.remote);
  }
  CHECK(reserve_sequence(sa, 1, SharedAdd(1)).first == 6);
  update.sa = SaId{2};
  REQUIRE(db.sad->update_endpoints(update) == Outcome::ok);
  CHECK(db.sad->find_inbound(inbound_request.spi)->spec.remote == update.remote);
}

TEST_CASE("sad: update_endpoints refuses another family and unknown SAs") {
  Database db;
  REQUIRE(db.try_install(sa_request(1, Direction::out, 0x8000)) == Outcome::ok);
  channel::UpdateEndpoints update;
  update.sa = SaId{1};
  update.local = {test::address("2001:db8::1"), 0};
  update.remote = {test::address("2001:db8::2"), 0};
  CHECK(db.sad->update_endpoints(update) == Outcome::invalid_field);
  update.sa = SaId{9};
  CHECK(db.sad->update_endpoints(update) == Outcome::unknown_sa);
}

TEST_CASE("sad: stopping an SA keeps it visible with the first cause") {
  Database db;
  const auto out = db.sad->install(sa_request(1, Direction::out, 0x8000), 1);
  REQUIRE(out);
  db.sad->stop(SaId{1}, StopCause::hard_time);
  db.sad->stop(SaId{1}, StopCause::hard_bytes);
  CHECK(db.sad->outbound(*out)->stopped.load());
  CHECK(db.sad->stopped(*db.sad->find(SaId{1})) == StopCause::hard_time);
}

TEST_CASE("sad: an unknown outbound slot is nobody") {
  Database db;
  CHECK(db.sad->outbound(kNoSlot) == nullptr);
  CHECK(db.sad->outbound(SlotIndex{kSlots}) == nullptr);
}

TEST_CASE(
    "sad: a reader that looks SPIs up while the main thread installs and removes sees an SA "
    "whole or not at all") {
  Database db;
  std::array<std::atomic<std::uint32_t>, 8> spis{};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0}, found{0};
  std::thread reader([&] {
    while (!stop.load()) {
      for (auto& cell : spis) {
        const std::uint32_t spi = cell.load(std::memory_order_relaxed);
        const InboundSa* const sa = spi == 0 ? nullptr : db.sad->inbound(spi);
        if (sa == nullptr) continue;
        found.fetch_add(1);
        // The id says which SPI was installed with it.
        if (sa->details == nullptr || sa->key == nullptr || sa->details->sa_id >> 32U != spi) {
          wrong.fetch_add(1);
        }
      }
      db.reclaimer.quiescent(kWorker);
    }
  });
  std::array<std::uint64_t, 8> ids{};
  for (std::uint64_t round = 0; round < 3000 || found.load() < 100; ++round) {
    const std::size_t at = round % spis.size();
    if (ids[at] != 0) static_cast<void>(db.sad->remove(SaId{ids[at]}));
    ids[at] = 0;
    db.reclaimer.poll();
    const auto leased = db.sad->lease_spis(1);
    if (leased.empty()) continue;
    const auto spi = static_cast<std::uint32_t>(leased.front());
    ids[at] = std::uint64_t{spi} << 32U | (round + 1);
    if (!db.sad->install(sa_request(ids[at], Direction::in, spi), 1)) ids[at] = 0;
    spis[at].store(spi, std::memory_order_relaxed);
  }
  stop.store(true);
  reader.join();
  CHECK(wrong.load() == 0);
}

}  // namespace
}  // namespace culvert::dataplane
