#include "dataplane/tables/spd.hpp"

#include <atomic>
#include <random>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/model/policy_model.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/sa_request.hpp"
#include "tests/unit/dataplane/tables/one_worker.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::dataplane {
namespace {

using test::kWorker;

constexpr std::uint8_t kTcp = 6, kUdp = 17, kIcmp = 1;

PolicyEntry policy(PolicyAction action, std::initializer_list<std::string_view> local,
                   std::initializer_list<std::string_view> remote) {
  PolicyEntry entry;
  entry.action = action;
  for (const auto text : local) entry.local.push_back(wire::TrafficSelector::parse(text).value());
  for (const auto text : remote) entry.remote.push_back(wire::TrafficSelector::parse(text).value());
  return entry;
}
PolicyEntry protect(std::uint32_t child, std::uint32_t slot,
                    std::initializer_list<std::string_view> local,
                    std::initializer_list<std::string_view> remote) {
  PolicyEntry entry = policy(PolicyAction::protect, local, remote);
  entry.origin = PolicyOrigin::negotiated;
  entry.child_id = channel::ChildId{child};
  entry.policy = channel::PolicyId{1000 + child};
  entry.outbound = SlotIndex{slot};
  return entry;
}
FlowKey flow(std::string_view source, std::string_view destination, std::uint8_t protocol = kTcp,
             std::uint16_t source_port = 1234, std::uint16_t destination_port = 80) {
  return {test::address(source),
          test::address(destination),
          source_port,
          destination_port,
          protocol,
          true};
}

/// Policies without a worker online.
struct Policies {
  Reclaimer reclaimer{1};
  Spd spd{1, reclaimer};

  Verdict ask(const FlowKey& key, PacketOrigin origin = PacketOrigin::clear) {
    SlotIndex slot = kNoSlot;
    return ask(key, origin, slot);
  }
  Verdict ask(const FlowKey& key, PacketOrigin origin, SlotIndex& slot) {
    const SpdSnapshot& snapshot = spd.snapshot();
    return snapshot.verdict(snapshot.find(key, origin), slot);
  }
};

TEST_CASE("spd: an empty list matches nothing; default_policy decides") {
  Policies policies;
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1")) == Verdict::no_match);
}

TEST_CASE("spd: the first policy that matches wins, whatever comes behind (RFC 4301 §4.4.1)") {
  Policies policies;
  policies.spd.replace({policy(PolicyAction::bypass, {"10.1.0.0/24[tcp]"}, {"10.2.0.0/24[tcp/80]"}),
                        policy(PolicyAction::discard, {"10.1.0.0/24"}, {"10.2.0.0/25"}),
                        protect(1, 5, {"10.1.0.0/24"}, {"10.2.0.0/24"})});
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1")) == Verdict::bypass);
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1", kTcp, 1, 81)) == Verdict::discard);
  SlotIndex slot = kNoSlot;
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.200", kUdp), PacketOrigin::clear, slot) ==
        Verdict::protect);
  CHECK(slot == SlotIndex{5});
  CHECK(policies.ask(flow("10.1.1.1", "10.2.0.1")) == Verdict::no_match);
}

TEST_CASE(
    "spd: clear text that a protect policy wants protected violates it; what was decrypted or "
    "is ours does not (RFC 4301 §5.2)") {
  Policies policies;
  policies.spd.replace({protect(1, 5, {"10.1.0.0/24"}, {"10.2.0.0/24"})});
  const FlowKey from_peer = flow("10.2.0.9", "10.1.0.9");
  CHECK(policies.ask(from_peer, PacketOrigin::clear) == Verdict::cleartext_violation);
  CHECK(policies.ask(from_peer, PacketOrigin::tunnel) == Verdict::no_match);
  CHECK(policies.ask(from_peer, PacketOrigin::originated) == Verdict::no_match);
}

TEST_CASE("spd: a trap's reverse is protected too, although there is no SA yet") {
  Policies policies;
  policies.spd.replace(
      {protect(1, static_cast<std::uint32_t>(kNoSlot), {"10.1.0.0/24"}, {"10.2.0.0/24"})});
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1")) == Verdict::trap);
  CHECK(policies.ask(flow("10.2.0.1", "10.1.0.1")) == Verdict::cleartext_violation);
}

TEST_CASE("spd: bypass and discard hold for both directions of a flow") {
  Policies policies;
  policies.spd.replace({policy(PolicyAction::bypass, {"10.1.0.0/24[udp]"}, {"10.2.0.0/24[udp/53]"}),
                        policy(PolicyAction::discard, {"10.1.0.0/24"}, {"10.2.0.0/24"})});
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1", kUdp, 999, 53)) == Verdict::bypass);
  CHECK(policies.ask(flow("10.2.0.1", "10.1.0.1", kUdp, 53, 999)) == Verdict::bypass);
  CHECK(policies.ask(flow("10.2.0.1", "10.1.0.1", kUdp, 999, 53)) == Verdict::discard);
}

TEST_CASE(
    "spd: a fragment without ports meets selectors that ask for none, and OPAQUE "
    "(RFC 4301 §4.4.1.1, §7)") {
  Policies policies;
  FlowKey fragment = flow("10.1.0.1", "10.2.0.1", kUdp, 0, 0);
  fragment.ports_known = false;
  policies.spd.replace(
      {policy(PolicyAction::bypass, {"10.1.0.0/24[udp]"}, {"10.2.0.0/24[udp/53]"})});
  CHECK(policies.ask(fragment) == Verdict::no_match);
  PolicyEntry opaque = policy(PolicyAction::bypass, {"10.1.0.0/24[udp]"}, {"10.2.0.0/24[udp]"});
  opaque.remote[0].port_first = 65535;
  opaque.remote[0].port_last = 0;
  policies.spd.replace({opaque});
  CHECK(policies.ask(fragment) == Verdict::bypass);
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1", kUdp, 1, 65535)) == Verdict::no_match);
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1", kUdp, 1, 0)) == Verdict::no_match);
  policies.spd.replace({policy(PolicyAction::bypass, {"10.1.0.0/24[udp]"}, {"10.2.0.0/24"})});
  CHECK(policies.ask(fragment) == Verdict::bypass);
}

TEST_CASE("spd: ICMP type and code stand where ports do (RFC 4301 §4.4.1.1)") {
  Policies policies;
  PolicyEntry echo = policy(PolicyAction::bypass, {"10.1.0.0/24[icmp]"}, {"10.2.0.0/24[icmp]"});
  echo.local[0].port_first = echo.local[0].port_last = 8 << 8;
  policies.spd.replace({echo});
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1", kIcmp, 8 << 8, 8 << 8)) == Verdict::bypass);
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1", kIcmp, 3 << 8, 3 << 8)) == Verdict::no_match);
}

TEST_CASE("spd: rebind moves a negotiated policy's traffic by its id, and no other's") {
  Policies policies;
  policies.spd.replace({protect(1, 5, {"10.1.0.0/24"}, {"10.2.0.0/24"}),
                        protect(2, 6, {"10.1.0.0/24"}, {"10.3.0.0/24"})});
  const std::uint64_t generation = policies.spd.snapshot().generation();
  CHECK(policies.spd.rebind(channel::PolicyId{1002}, SlotIndex{9}));
  CHECK_FALSE(policies.spd.rebind(channel::PolicyId{7}, SlotIndex{9}));
  SlotIndex slot = kNoSlot;
  CHECK(policies.ask(flow("10.1.0.1", "10.3.0.1"), PacketOrigin::clear, slot) == Verdict::protect);
  CHECK(slot == SlotIndex{9});
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1"), PacketOrigin::clear, slot) == Verdict::protect);
  CHECK(slot == SlotIndex{5});
  CHECK(policies.spd.snapshot().generation() == generation);  // one store, no new version
  CHECK(policies.spd.entries()[1].outbound == SlotIndex{9});
}

TEST_CASE("spd: when an SA goes, every policy that used it becomes a trap: never a bypass") {
  Policies policies;
  policies.spd.replace({protect(1, 5, {"10.1.0.0/24"}, {"10.2.0.0/24"}),
                        protect(2, 5, {"10.1.0.0/24"}, {"10.3.0.0/24"}),
                        protect(3, 6, {"10.1.0.0/24"}, {"10.4.0.0/24"})});
  policies.spd.unbind(SlotIndex{5});
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1")) == Verdict::trap);
  CHECK(policies.ask(flow("10.1.0.1", "10.3.0.1")) == Verdict::trap);
  CHECK(policies.ask(flow("10.1.0.1", "10.4.0.1")) == Verdict::protect);
  const SpdSnapshot& snapshot = policies.spd.snapshot();
  CHECK(snapshot.child_id(snapshot.find(flow("10.1.0.1", "10.3.0.1"), PacketOrigin::clear)) ==
        channel::ChildId{2});
}

TEST_CASE(
    "spd: packet counts of policies that stay go on through a new version, wherever they stand") {
  Policies policies;
  const PolicyEntry first = protect(1, 5, {"10.1.0.0/24"}, {"10.2.0.0/24"});
  const PolicyEntry second = protect(2, 6, {"10.1.0.0/24"}, {"10.3.0.0/24"});
  policies.spd.replace({first, second});
  const auto count = [&](std::string_view to, std::uint64_t packets) {
    const SpdSnapshot& snapshot = policies.spd.snapshot();
    snapshot.count(snapshot.find(flow("10.1.0.1", to), PacketOrigin::clear), kWorker, packets);
  };
  count("10.2.0.1", 3);
  count("10.3.0.1", 4);
  count("10.9.0.1", 100);  // nobody's
  policies.spd.replace(
      {policy(PolicyAction::discard, {"10.9.0.0/24"}, {"10.9.0.0/24"}), second, first});
  count("10.2.0.1", 1);
  const auto entries = policies.spd.entries();
  CHECK(entries[0].packets == 0);
  CHECK(entries[1].packets == 4);
  CHECK(entries[2].packets == 4);
  policies.spd.replace({second});
  policies.spd.replace({first, second});
  CHECK(policies.spd.entries()[0].packets == 0);  // it was gone in between
  CHECK(policies.spd.entries()[1].packets == 4);
}

class RandomPolicies {
 public:
  explicit RandomPolicies(std::uint64_t seed) : random_(seed) {}

  /// Among few addresses, so that policies overlap.
  wire::IpAddress address(bool is_v4) {
    wire::IpAddress made = test::address(is_v4 ? "10.0.0.0" : "2001:db8::");
    made.bytes[made.size() - 2] = static_cast<std::uint8_t>(random_() % 2 == 0 ? 0 : 0xff);
    made.bytes[made.size() - 1] = static_cast<std::uint8_t>(random_() % 16 * 16 + random_() % 2);
    return made;
  }
  std::uint8_t protocol() {
    constexpr std::uint8_t kSome[] = {1, 6, 17, 47, 50, 58};
    return kSome[random_() % std::size(kSome)];
  }
  std::uint16_t port() {
    return static_cast<std::uint16_t>(random_() % 8 == 0 ? 65535 : random_() % 12);
  }

  wire::TrafficSelector selector(bool is_v4) {
    wire::TrafficSelector made;
    made.first = address(is_v4);
    made.last = address(is_v4);
    if (made.last < made.first) std::swap(made.first, made.last);
    if (random_() % 3 == 0) return made;
    made.protocol = protocol();
    switch (random_() % 4) {
      case 0:
        made.port_first = 65535;  // OPAQUE
        made.port_last = 0;
        break;
      case 1:
        break;
      default:
        made.port_first = port();
        made.port_last = std::max(made.port_first, port());
    }
    return made;
  }
  std::vector<PolicyEntry> list() {
    std::vector<PolicyEntry> entries(random_() % 30);
    for (PolicyEntry& entry : entries) {
      entry.action = static_cast<PolicyAction>(random_() % 3);
      entry.child_id = channel::ChildId{random_() % 5};
      const bool is_v4 = random_() % 2 == 0;
      for (std::uint64_t n = random_() % 3 + 1; n > 0; --n) entry.local.push_back(selector(is_v4));
      // Now and then of both families.
      for (std::uint64_t n = random_() % 3 + 1; n > 0; --n) {
        entry.remote.push_back(selector(random_() % 8 == 0 ? !is_v4 : is_v4));
      }
      if (random_() % 2 == 0) entry.outbound = SlotIndex{static_cast<std::uint32_t>(random_() % 9)};
    }
    return entries;
  }
  FlowKey packet() {
    const bool is_v4 = random_() % 2 == 0;
    FlowKey key{address(is_v4), address(is_v4), port(), port(), protocol(), random_() % 4 != 0};
    if (key.protocol == 1 || key.protocol == 58) key.destination_port = key.source_port;
    if (!key.ports_known) {
      key.source_port = key.destination_port = 0;
      if (!is_v4 && random_() % 3 == 0) key.protocol = 60;  // all that a later fragment names
    }
    return key;
  }
  PacketOrigin origin() { return static_cast<PacketOrigin>(random_() % 3); }

 private:
  std::mt19937_64 random_;
};

bool is_same(const SpdSnapshot::Match& ours, const std::optional<model::PolicyHit>& models) {
  if (!models) return ours.entry == SpdSnapshot::kNoEntry;
  return ours.entry == models->index && ours.reverse == models->reverse &&
         ours.unclear == models->unclear;
}

TEST_CASE("spd: random lists and packets agree with a look at every policy in turn") {
  const std::uint64_t seed = test::random_seed();
  CAPTURE(seed);
  RandomPolicies random(seed);
  Policies policies;
  std::uint64_t wrong = 0, matched = 0, unclear = 0;
  for (int list = 0; list < 300; ++list) {
    const auto entries = random.list();
    policies.spd.replace(entries);
    policies.reclaimer.poll();
    const SpdSnapshot& snapshot = policies.spd.snapshot();
    for (int probe = 0; probe < 300; ++probe) {
      const FlowKey key = random.packet();
      const PacketOrigin origin = random.origin();
      const SpdSnapshot::Match ours = snapshot.find(key, origin);
      const auto models = model::first_policy(entries, key, origin);
      matched += models ? 1 : 0;
      unclear += models && models->unclear ? 1 : 0;
      const auto shown = model::first_policy(entries, key, origin, true);
      const bool agrees = is_same(ours, models) && is_same(snapshot.find_shown(key, origin), shown);
      if (!agrees) {
        UNSCOPED_INFO("list " << list << " probe " << probe << ": " << key.source.to_string() << ":"
                              << key.source_port << " > " << key.destination.to_string() << ":"
                              << key.destination_port << " protocol " << int{key.protocol});
        ++wrong;
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(matched > 10000);  // it was worth asking
  CHECK(unclear > 1000);
}

/// A list that changes policy by policy beside the Spd under test; each has a child of its own, by
/// which it is known.
class ChangingPolicies {
 public:
  explicit ChangingPolicies(RandomPolicies& random) : random_(random) {}

  void change(Spd& spd, std::uint64_t what) {
    if (what % 3 != 0 || list_.empty()) return add(spd);
    const auto gone = list_.begin() + static_cast<std::ptrdiff_t>(what / 3 % list_.size());
    CHECK(spd.erase(gone->policy));
    CHECK_FALSE(spd.erase(gone->policy));
    list_.erase(gone);
  }
  [[nodiscard]] const std::vector<PolicyEntry>& list() const { return list_; }

 private:
  void add(Spd& spd) {
    auto some = random_.list();
    if (some.empty()) return;
    PolicyEntry entry = std::move(some.front());
    entry.origin = PolicyOrigin::negotiated;
    entry.child_id = channel::ChildId{++last_};
    entry.policy = channel::PolicyId{last_};
    entry.rank = {entry.outbound == kNoSlot ? 1U : 0U, ~std::uint64_t{last_}};  // newest first
    spd.insert(entry);
    list_.insert(std::ranges::upper_bound(list_, entry.rank, {}, &PolicyEntry::rank), entry);
  }

  RandomPolicies& random_;
  std::vector<PolicyEntry> list_;
  std::uint32_t last_ = 0;
};

TEST_CASE("spd: policies that come and go one by one leave the list that holds the others") {
  const std::uint64_t seed = test::random_seed();
  CAPTURE(seed);
  RandomPolicies random(seed);
  std::mt19937_64 dice(seed);
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer, 16);  // it has to be built anew on the way
  ChangingPolicies changing(random);
  std::uint64_t wrong = 0, matched = 0;
  std::uint64_t last_generation = spd.snapshot().generation();
  for (int step = 0; step < 300; ++step) {
    const std::size_t before = changing.list().size();
    changing.change(spd, dice());
    if (step % 3 == 0) reclaimer.poll();
    const SpdSnapshot& snapshot = spd.snapshot();
    if (changing.list().size() != before && snapshot.generation() <= last_generation) ++wrong;
    last_generation = snapshot.generation();
    for (int probe = 0; probe < 100; ++probe) {
      const FlowKey key = random.packet();
      const PacketOrigin origin = random.origin();
      const auto ours = snapshot.find(key, origin);
      const auto models = model::first_policy(changing.list(), key, origin);
      matched += models ? 1 : 0;
      const bool agrees =
          models ? ours.entry != SpdSnapshot::kNoEntry && ours.reverse == models->reverse &&
                       ours.unclear == models->unclear &&
                       snapshot.child_id(ours) == changing.list()[models->index].child_id
                 : ours.entry == SpdSnapshot::kNoEntry;
      if (!agrees) ++wrong;
    }
  }
  CHECK(wrong == 0);
  CHECK(matched > 10'000);
  const auto entries = spd.entries();
  REQUIRE(entries.size() == changing.list().size());
  for (std::size_t index = 0; index < entries.size(); ++index) {
    CHECK(entries[index].policy == changing.list()[index].policy);
  }
}

TEST_CASE("spd: a policy that is added later is in force and bound like those of a whole list") {
  Policies policies;
  PolicyEntry behind = policy(PolicyAction::discard, {"10.0.0.0/8"}, {"10.0.0.0/8"});
  behind.rank = {2, 0};
  policies.spd.replace({behind});
  PolicyEntry added = protect(1, 5, {"10.1.0.0/24"}, {"10.2.0.0/24"});
  added.rank = {1, 0};
  policies.spd.insert(added);
  SlotIndex slot = kNoSlot;
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1"), PacketOrigin::clear, slot) == Verdict::protect);
  CHECK(slot == SlotIndex{5});
  CHECK(policies.ask(flow("10.2.0.1", "10.1.0.1")) == Verdict::cleartext_violation);
  CHECK(policies.spd.rebind(added.policy, SlotIndex{7}));
  const std::uint64_t era = policies.reclaimer.era();
  policies.spd.unbind(SlotIndex{5});  // nobody's any more: no flow is put in question
  CHECK(policies.reclaimer.era() == era);
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1"), PacketOrigin::clear, slot) == Verdict::protect);
  CHECK(slot == SlotIndex{7});
  policies.spd.unbind(SlotIndex{7});
  CHECK(policies.reclaimer.era() != era);
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1")) == Verdict::trap);
  CHECK(policies.spd.erase(added.policy));
  CHECK(policies.ask(flow("10.1.0.1", "10.2.0.1")) == Verdict::discard);
}

TEST_CASE("spd: whoever looks while a policy comes and goes meets it or what is behind it",
          "[threads]") {
  INFO(test::kRace);
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer, 64);
  PolicyEntry behind = policy(PolicyAction::discard, {"10.0.0.0/8"}, {"10.0.0.0/8"});
  behind.rank = {2, 0};
  spd.replace({behind});
  reclaimer.online(kWorker);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0}, rounds{0};
  std::thread reader([&] {
    std::uint64_t generation = 0;
    while (!stop.load()) {
      const SpdSnapshot& snapshot = spd.snapshot();
      if (snapshot.generation() < generation) wrong.fetch_add(1);
      generation = snapshot.generation();
      SlotIndex slot = kNoSlot;
      const auto match = snapshot.find(flow("10.1.0.1", "10.2.0.1"), PacketOrigin::clear);
      const Verdict verdict = snapshot.verdict(match, slot);
      snapshot.count(match, kWorker, 1);
      const bool is_added = verdict == Verdict::protect && slot >= SlotIndex{5};
      if (!is_added && verdict != Verdict::discard) wrong.fetch_add(1);
      rounds.fetch_add(1);
      reclaimer.quiescent(kWorker);
    }
    reclaimer.offline(kWorker);
  });
  for (std::uint32_t round = 0; round < 2000 || rounds.load() < 1000; ++round) {
    PolicyEntry added =
        protect(round, 5 + round % 7, {"10.1.0.0/24", "10.3.0.0/24"}, {"10.2.0.0/24"});
    added.rank = {1, round};
    spd.insert(added);
    reclaimer.poll();
    CHECK(spd.erase(added.policy));
    reclaimer.poll();
  }
  stop.store(true);
  reader.join();
  CHECK(wrong.load() == 0);
}

TEST_CASE("spd: a reader during replacements sees one version or the other, whole", "[threads]") {
  INFO(test::kRace);
  Reclaimer reclaimer(1);
  Spd spd(1, reclaimer);
  const auto version = [](std::uint32_t slot) {
    std::vector<PolicyEntry> entries;
    for (std::uint32_t child = 0; child < 20; ++child) {
      entries.push_back(protect(child, slot, {"10.1.0.0/24"}, {"10.2.0.0/24"}));
      entries.back().remote[0].first = entries.back().remote[0].last =
          wire::IpAddress::v4(0x0a020000U + child);
    }
    return entries;
  };
  spd.replace(version(1));
  reclaimer.online(kWorker);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> wrong{0}, rounds{0};
  std::thread reader([&] {
    std::uint64_t last_generation = 0;
    while (!stop.load()) {
      const SpdSnapshot& snapshot = spd.snapshot();
      if (snapshot.generation() < last_generation) wrong.fetch_add(1);
      last_generation = snapshot.generation();
      for (std::uint32_t child = 0; child < 20; ++child) {
        FlowKey key = flow("10.1.0.1", "10.2.0.0");
        key.destination = wire::IpAddress::v4(0x0a020000U + child);
        const auto match = snapshot.find(key, PacketOrigin::clear);
        SlotIndex slot = kNoSlot;
        const Verdict verdict = snapshot.verdict(match, slot);
        snapshot.count(match, kWorker, 1);
        if (verdict == Verdict::trap) continue;  // unbound for a moment
        if (verdict != Verdict::protect || snapshot.child_id(match) != channel::ChildId{child})
          wrong.fetch_add(1);
      }
      reclaimer.quiescent(kWorker);
      rounds.fetch_add(1);
    }
    reclaimer.offline(kWorker);
  });
  for (std::uint32_t round = 0; round < 500 || rounds.load() < 100; ++round) {
    spd.replace(version(round % 7));
    static_cast<void>(spd.rebind(channel::PolicyId{1003}, SlotIndex{8}));
    spd.unbind(SlotIndex{8});
    reclaimer.poll();
  }
  stop.store(true);
  reader.join();
  std::uint64_t counted = 0;
  for (const PolicyEntry& entry : spd.entries()) counted += entry.packets;
  CHECK(counted == rounds.load() * 20);
  CHECK(wrong.load() == 0);
}

TEST_CASE("spd: policies by the thousand are counted apart, by each worker, from zero") {
  constexpr std::uint32_t kWorkers = 3;
  PolicyCounters counters(kWorkers);
  std::vector<PolicyCounters::Taken> taken;
  for (std::uint64_t n = 0; n < 2000; ++n) {
    taken.push_back(counters.take());
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
      taken.back().place.of(static_cast<WorkerId>(worker)).add(3 * n + worker);
    }
  }
  for (std::uint64_t n = 0; n < taken.size(); ++n) {
    for (std::uint32_t worker = 0; worker < kWorkers; ++worker) {
      REQUIRE(taken[n].place.of(static_cast<WorkerId>(worker)).read() == 3 * n + worker);
    }
  }
  taken.resize(1000);
  for (int n = 0; n < 3000; ++n) {
    taken.push_back(counters.take());
    REQUIRE(taken.back().place.of(kWorker).read() == 0);
  }
  REQUIRE(taken[999].place.of(kWorker).read() == 3 * 999);
}

}  // namespace
}  // namespace culvert::dataplane
