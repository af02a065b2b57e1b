// What one SA or policy more, one less and a lookup cost does not follow from how many there are.
//
// Between the two sizes stands a factor of fifty, between their times may stand four: cold memory
// and a deeper ordered list are below that, what goes through the table is far beyond. Lookups are
// of the same few entries again and again, whose memory is warm in either table: what more entries
// cost in cache misses is docs/performance.md's matter, steps are this test's.
#include "tests/unit/dataplane/growth.hpp"

#include <memory>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "dataplane/tables/sad.hpp"
#include "dataplane/tables/spd.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"
#include "tests/unit/dataplane/sa_request.hpp"

namespace culvert::dataplane {
namespace {

using test::grows;
using test::is_constant;
using test::kMostTimes;
using test::times_as_long;

constexpr std::uint32_t kFew = 2000, kMany = 100'000;
constexpr std::uint32_t kChanges = 256;  ///< of a round
constexpr std::uint32_t kDear = 4;       ///< of a round, where each goes through the table
constexpr std::uint32_t kTouched = 32;   ///< entries that are looked up

// ---- SAs ----

/// So many SAs of either direction, and room for the changes of a round.
class Associations {
 public:
  explicit Associations(std::uint32_t count)
      : sad_(Sad::create(count + kChanges, 1, *engine_, reclaimer_).value()) {
    for (std::uint32_t number = 0; number < count; ++number) {
      const std::uint32_t spi = add();
      if (number % (count / kTouched) == 0) spis_.push_back(spi);
    }
  }

  /// One SA more and one less of either direction, again and again; nobody reads them.
  void change() {
    for (std::uint32_t change = 0; change < kChanges; ++change) change_one();
  }
  void change_and_go_through_all() {
    for (std::uint32_t change = 0; change < kDear; ++change) {
      change_one();
      sad_->for_each([this](const SaRecord& record) { seen_ += raw(record.slot); });
    }
  }
  void look_up() {
    for (std::uint32_t turn = 0; turn < kChanges; ++turn) {
      for (const std::uint32_t spi : spis_) {
        const InboundSa* const sa = sad_->inbound(spi);
        if (sa == nullptr) std::abort();
        seen_ += sad_->slot_of(*sa);
      }
    }
  }

 private:
  void change_one() {
    add();
    for (std::uint64_t id = next_id_ - 2; id < next_id_; ++id) {
      if (sad_->remove(channel::SaId{id}) != channel::Outcome::ok) std::abort();
    }
    reclaimer_.poll();
  }
  std::uint32_t add() {
    const auto leased = sad_->lease_spis(1);
    if (leased.empty()) std::abort();
    const auto spi = static_cast<std::uint32_t>(leased[0]);
    in_.sa = channel::SaId{next_id_++};
    in_.spi = leased[0];
    out_.sa = channel::SaId{next_id_++};
    if (!sad_->install(in_, 1) || !sad_->install(out_, 1)) std::abort();
    return spi;
  }

  Reclaimer reclaimer_{1};
  std::unique_ptr<crypto::esp::Engine> engine_ = crypto::esp::make_engine();
  channel::InstallSa in_ = test::sa_request(0, channel::Direction::in, 0);
  channel::InstallSa out_ = test::sa_request(0, channel::Direction::out, 0x10000);
  std::unique_ptr<Sad> sad_;
  std::uint64_t next_id_ = 1;
  std::vector<std::uint32_t> spis_;
  std::size_t seen_ = 0;
};

// ---- policies ----

wire::TrafficSelector selector_of(std::uint32_t address, std::uint8_t length) {
  return wire::TrafficSelector::of({wire::IpAddress::v4(address), length});
}
PolicyEntry policy(std::uint32_t number) {
  PolicyEntry entry;
  entry.rank = {1, std::uint64_t{number} * 2};
  entry.origin = PolicyOrigin::negotiated;
  entry.action = PolicyAction::protect;
  entry.policy = channel::PolicyId{number};
  entry.local = {selector_of(0x0a000000, 9)};
  entry.remote = {selector_of(0x20000000 + (number << 8U), 24)};
  return entry;
}

class GrownPolicies {
 public:
  explicit GrownPolicies(std::uint32_t count)
      : count_(count), spd_(1, reclaimer_, count + kChanges) {
    std::vector<PolicyEntry> all;
    for (std::uint32_t number = 0; number < count; ++number) all.push_back(policy(number));
    spd_.replace(std::move(all));
    for (std::uint32_t touched = 0; touched < kTouched; ++touched) {
      flows_.push_back(
          {.source = wire::IpAddress::v4(0x0a000001),
           .destination = wire::IpAddress::v4(0x20000007 + (touched * (count / kTouched) << 8U)),
           .source_port = 1234,
           .destination_port = 443,
           .protocol = wire::protocol::kTcp});
    }
  }

  /// One policy more and one less, in front, in the midst and at the end of the order.
  void change() {
    for (std::uint32_t change = 0; change < kChanges; ++change) change_one(change);
  }
  void change_and_go_through_all() {
    for (std::uint32_t change = 0; change < kDear; ++change) {
      change_one(change);
      seen_ += spd_.entries().size();
    }
  }
  void look_up() {
    const SpdSnapshot& snapshot = spd_.snapshot();
    for (std::uint32_t turn = 0; turn < kChanges; ++turn) {
      for (const FlowKey& flow : flows_) {
        const auto match = snapshot.find(flow, PacketOrigin::clear);
        if (match.entry == SpdSnapshot::kNoEntry) std::abort();
        seen_ += match.entry;
      }
    }
  }
  [[nodiscard]] std::size_t probes() const { return spd_.snapshot().probes(); }

 private:
  void change_one(std::uint32_t change) {
    PolicyEntry entry = policy(change % kTouched * (count_ / kTouched));
    ++entry.rank.place;
    entry.policy = channel::PolicyId{count_};
    spd_.insert(entry);
    if (!spd_.erase(entry.policy)) std::abort();
    reclaimer_.poll();
  }

  std::uint32_t count_;
  Reclaimer reclaimer_{1};
  Spd spd_;
  std::vector<FlowKey> flows_;
  std::size_t seen_ = 0;
};

}  // namespace

TEST_CASE("sad: an SA more, one less and a lookup cost the same beside 400 and 20 000 others") {
  test::need_dpdk();
  Associations few(kFew / 5), many(kMany / 5);  // of 8 kB each
  CHECK(times_as_long([&] { few.change(); }, [&] { many.change(); }, is_constant) <= kMostTimes);
  CHECK(times_as_long([&] { few.look_up(); }, [&] { many.look_up(); }, is_constant) <= kMostTimes);
}

TEST_CASE(
    "spd: a policy more, one less and a search cost the same among 2 000 and 100 000 others") {
  GrownPolicies few(kFew), many(kMany);
  CHECK(times_as_long([&] { few.change(); }, [&] { many.change(); }, is_constant) <= kMostTimes);
  CHECK(times_as_long([&] { few.look_up(); }, [&] { many.look_up(); }, is_constant) <= kMostTimes);
  CHECK(few.probes() == many.probes());
}

TEST_CASE("growth: a change that goes through the whole table is seen") {
  test::need_dpdk();
  // A fifth of the entries: they tell as much, and each such change is dear.
  SECTION("of SAs") {
    Associations few(kFew / 5), many(kMany / 5);
    CHECK(times_as_long([&] { few.change_and_go_through_all(); },
                        [&] { many.change_and_go_through_all(); }, grows) > kMostTimes);
  }
  SECTION("of policies") {
    GrownPolicies few(kFew / 5), many(kMany / 5);
    CHECK(times_as_long([&] { few.change_and_go_through_all(); },
                        [&] { many.change_and_go_through_all(); }, grows) > kMostTimes);
  }
}

}  // namespace culvert::dataplane
