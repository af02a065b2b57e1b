// An SA's end and its changes: wiping, taking over a slot, endpoints, readers meanwhile.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "tests/unit/dataplane/tables/sad_database.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

using channel::Direction;
using channel::Outcome;
using channel::SaId;
using test::all_zero;
using test::Database;
using test::kSlots;
using test::kWorker;
using test::sa_request;

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

TEST_CASE("sad: an SA that goes puts flows in question only where they name it") {
  Database db;
  REQUIRE(db.try_install(sa_request(1, Direction::in, db.lease())) == Outcome::ok);
  REQUIRE(db.try_install(sa_request(2, Direction::out, 0x7000)) == Outcome::ok);
  const std::uint64_t era = db.reclaimer.era();
  REQUIRE(db.sad->remove(SaId{1}) == Outcome::ok);
  CHECK(db.reclaimer.era() == era);
  REQUIRE(db.sad->remove(SaId{2}) == Outcome::ok);
  CHECK(db.reclaimer.era() != era);
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
    CHECK(out.bytes_left.load() == ~0ULL);
    CHECK(out.ends_at.load() == kNeverEnds);
    CHECK(reserve_sequence(out, 10, SharedAdd(1)).first == 1);
    out.bytes_left = 100;
    out.ends_at = 7;
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

TEST_CASE("sad: when an SA ends is told of each direction, and may be told again") {
  Database db;
  const auto slot = db.sad->install(sa_request(1, Direction::out, 0x8000), 1);
  REQUIRE(slot);
  const std::uint32_t spi = db.lease();
  REQUIRE(db.try_install(sa_request(2, Direction::in, spi)) == Outcome::ok);
  const OutboundSa& out = *db.sad->outbound(*slot);
  const InboundSa& in = *db.sad->inbound(spi);
  for (const SaId id : {SaId{1}, SaId{2}}) {
    const SaRecord& record = *db.sad->find(id);
    CHECK(db.sad->end_of(record) == kNeverEnds);
    db.sad->set_end(record, 1000);
    db.sad->set_end(record, 500 * raw(id));
    CHECK(db.sad->end_of(record) == 500 * raw(id));
  }
  CHECK_FALSE(has_ended(out, 499));
  CHECK(has_ended(out, 500));
  CHECK_FALSE(has_ended(in, 999));
  CHECK(has_ended(in, 1000));
}

TEST_CASE("sad: bytes are counted from none, with a hard limit and without one") {
  for (const std::uint64_t limit : {std::uint64_t{0}, std::uint64_t{5000}}) {
    CAPTURE(limit);
    Database db;
    auto out = sa_request(1, Direction::out, 0x8000);
    out.lifetime.hard_bytes = limit;
    const std::uint32_t spi = db.lease();
    auto in = sa_request(2, Direction::in, spi);
    in.lifetime.hard_bytes = limit;
    const auto slot = db.sad->install(out, 1);
    REQUIRE(slot);
    REQUIRE(db.try_install(in) == Outcome::ok);
    const SharedAdd shared(1);
    CHECK(db.sad->usage(*db.sad->find(SaId{1})).bytes == 0);
    CHECK(shared.take(db.sad->outbound(*slot)->bytes_left, 4999));
    CHECK(shared.take(db.sad->inbound(spi)->bytes_left, 5000));
    CHECK(db.sad->usage(*db.sad->find(SaId{1})).bytes == 4999);
    CHECK(db.sad->usage(*db.sad->find(SaId{2})).bytes == 5000);
    CHECK(shared.take(db.sad->inbound(spi)->bytes_left, 1) == (limit == 0));
  }
}

TEST_CASE("sad: what an SA counts beside its packets goes on beyond 32 bits") {
  Database db;
  constexpr std::uint64_t kNearly = 0xffff'ffff;
  constexpr auto kReason = static_cast<std::size_t>(DropReason::replay_duplicate);
  const std::uint32_t spi = db.lease();
  REQUIRE(db.try_install(sa_request(1, Direction::in, spi)) == Outcome::ok);
  const auto slot = db.sad->install(sa_request(2, Direction::out, 0x7000), 1);
  REQUIRE(slot);
  InboundDetails& in = *db.sad->inbound(spi)->details;
  SaDetails& out = *db.sad->outbound(*slot)->details;
  in.count_drop(DropReason::replay_duplicate, kNearly);
  out.count_drop(DropReason::replay_duplicate, kNearly);
  in.ecn_alarms[0] = in.late[3] = in.missed[3] = in.resynchronized = kNearly;
  in.count_drop(DropReason::replay_duplicate, 2);
  out.count_drop(DropReason::replay_duplicate, 2);
  for (int more = 0; more < 2; ++more) {
    in.count_alarm(EcnAlarm::not_ect_in_ect0);
    in.count_late(7, false);
    in.count_late(7, true);
    ++in.resynchronized;
  }
  const SaTraffic into = db.sad->traffic(*db.sad->find(SaId{1}));
  CHECK(into.drops[kReason] == kNearly + 2);
  CHECK(into.ecn_alarms[0] == kNearly + 2);
  CHECK(into.late.accepted[3] == kNearly + 2);
  CHECK(into.late.missed[3] == kNearly + 2);
  CHECK(into.resynchronized == kNearly + 2);
  CHECK(db.sad->traffic(*db.sad->find(SaId{2})).drops[kReason] == kNearly + 2);
}

TEST_CASE("sad: an unknown outbound slot is nobody") {
  Database db;
  CHECK(db.sad->outbound(kNoSlot) == nullptr);
  CHECK(db.sad->outbound(SlotIndex{kSlots}) == nullptr);
}

TEST_CASE(
    "sad: a reader that looks SPIs up while the main thread installs and removes sees an SA "
    "whole or not at all",
    "[threads]") {
  INFO(test::kRace);
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
