// Readers as workers are beside the one writer, for the thread sanitizer above all: SAs come,
// change, stop and go, policies are replaced and change one by one, routes and neighbours change,
// and nobody reads what is being freed. usage: test_tables_race [ROUNDS of the writer, default 400]
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dataplane/tables/sa.hpp"
#include "dataplane/tables/tables.hpp"
#include "tests/unit/dataplane/dpdk_environment.hpp"
#include "tests/unit/dataplane/sa_request.hpp"
#include "tests/unit/finding.hpp"

namespace culvert::test {
namespace {

using namespace dataplane;

constexpr std::uint32_t kReaders = 3;
constexpr std::uint32_t kPairs = 8;   ///< of SAs that come and go
constexpr std::uint32_t kAtOnce = 5;  ///< sequence numbers
constexpr unsigned long kDefaultRounds = 400;

wire::Prefix host(std::uint32_t number) {
  return wire::Prefix::parse("10.2.0." + std::to_string(number + 1) + "/32").value();
}

class World {
 public:
  World() {
    need_dpdk();
    engine_ = crypto::esp::make_engine();
    config::Limits limits;
    limits.sas = 64;
    tables_ = Tables::create(limits, kReaders, *engine_).value();
    change_ports(1);
  }

  /// The number of things that a reader saw and must not see.
  std::uint64_t run(unsigned long rounds) {
    std::vector<std::thread> readers;
    for (std::uint32_t reader = 0; reader < kReaders; ++reader) {
      readers.emplace_back([this, reader] { read(WorkerId{static_cast<std::uint16_t>(reader)}); });
    }
    for (unsigned long round = 0; round < rounds; ++round) write(round);
    done_ = true;
    for (auto& reader : readers) reader.join();
    for (std::uint32_t pair = 0; pair < kPairs; ++pair) take_down(pair);
    tables_->reclaimer->drain();
    std::printf("%lu rounds, %llu packets looked up, %llu of them protected, %llu violations\n",
                rounds, static_cast<unsigned long long>(looked_up_.load()),
                static_cast<unsigned long long>(protected_.load()),
                static_cast<unsigned long long>(violations_.load()));
    if (violations_ != 0) std::printf("%s\n", kRace);
    return violations_ + (protected_ == 0 ? 1 : 0);
  }

 private:
  struct Pair {
    channel::SaId in{}, out{};
    SlotIndex slot = kNoSlot;
    bool is_up = false;
  };

  // ---- the main thread's part ----

  void write(unsigned long round) {
    const auto number = static_cast<std::uint32_t>(round % kPairs);
    Pair& pair = pairs_[number];
    if (pair.is_up) {
      take_down(number);
    } else {
      bring_up(number);
    }
    change_policies(number, round);
    change_route(number, round);
    change_ports(round);
    for (const Pair& other : pairs_) {
      if (other.is_up && round % 3 == 0) change_sas(other, round);
    }
    tables_->ike_spis->put(round % kPairs + 1);
    tables_->reclaimer->poll();
    std::this_thread::yield();
  }

  void bring_up(std::uint32_t number) {
    const auto leased = tables_->sad->lease_spis(1);
    if (leased.empty()) return;  // all slots wait for their grace period
    const auto spi = static_cast<std::uint32_t>(leased.front());
    Pair& pair = pairs_[number];
    pair.in = channel::SaId{++last_id_};
    pair.out = channel::SaId{++last_id_};
    if (!tables_->sad->install(request(pair.in, channel::Direction::in, spi), 1)) std::abort();
    const auto slot = tables_->sad->install(request(pair.out, channel::Direction::out, 0x7000), 1);
    if (!slot) {
      static_cast<void>(tables_->sad->remove(pair.in));
      return;
    }
    pair.slot = *slot;
    pair.is_up = true;
    spis_[number].store(spi, std::memory_order_relaxed);
  }
  static channel::InstallSa request(channel::SaId id, channel::Direction direction,
                                    std::uint32_t spi) {
    return sa_request(static_cast<std::uint64_t>(id), direction, spi);
  }

  void take_down(std::uint32_t number) {
    Pair& pair = pairs_[number];
    if (!pair.is_up) return;
    for (const channel::SaId sa : {pair.in, pair.out}) {
      tables_->sad->stop(sa, StopCause::hard_time);
      claim(tables_->sad->stopped(*tables_->sad->find(sa)) != StopCause::none);
    }
    tables_->spd->unbind(pair.slot);
    static_cast<void>(tables_->sad->remove(pair.out));
    static_cast<void>(tables_->sad->remove(pair.in));
    pair.is_up = false;
  }

  /// What changes of SAs that carry packets, and what is asked about them.
  void change_sas(const Pair& pair, unsigned long round) {
    Sad& sad = *tables_->sad;
    const auto port = static_cast<std::uint16_t>(4500 + round % 7);
    for (const channel::SaId sa : {pair.in, pair.out}) {
      const channel::UpdateEndpoints moved{
          sa, {address("198.51.100.1"), 0}, {address("203.0.113.7"), port}};
      static_cast<void>(sad.update_endpoints(moved));
      sad.set_end(*sad.find(sa), kNeverEnds - round);
    }
    sad.set_path_mtu(pair.out, static_cast<std::uint16_t>(1300 + round % 100));
    claim(sad.usage(*sad.find(pair.out)).packets % kAtOnce == 0);
    static_cast<void>(sad.usage(*sad.find(pair.in)));  // the worker moves its window meanwhile
    const std::uint32_t spi = static_cast<std::uint32_t>(sad.find(pair.in)->spec.spi);
    const auto refused = sad.inbound(spi)->details->last_refusal.read();
    claim(!refused || refused->flow.source_port == refused->flow.destination_port);
  }

  PolicyEntry policy(std::uint32_t number) const {
    PolicyEntry entry;
    entry.rank = {1, number};
    entry.origin = PolicyOrigin::negotiated;
    entry.action = PolicyAction::protect;
    entry.policy = channel::PolicyId{number + 1};
    entry.local = {wire::TrafficSelector::parse("10.1.0.0/24").value()};
    entry.remote = {wire::TrafficSelector::parse(host(number).to_string()).value()};
    entry.outbound = pairs_[number].is_up ? pairs_[number].slot : kNoSlot;
    return entry;
  }
  /// All of them as by a reload, one that goes and comes again, or one with another SA, as it was.
  void change_policies(std::uint32_t number, unsigned long round) {
    Spd& spd = *tables_->spd;
    if (round / kPairs % 3 == 0) {
      std::vector<PolicyEntry> entries;
      for (std::uint32_t each = 0; each < kPairs; ++each) entries.push_back(policy(each));
      return spd.replace(std::move(entries));
    }
    if (round / kPairs % 3 == 1) {
      claim(spd.erase(channel::PolicyId{number + 1}));
      return spd.insert(policy(number));
    }
    claim(spd.rebind(channel::PolicyId{number + 1}, policy(number).outbound));
  }

  /// A host route and its neighbour, new ones in place of the old.
  void change_route(std::uint32_t number, unsigned long round) {
    auto& adjacencies = *tables_->adjacencies;
    const auto fresh = adjacencies.add_neighbor(PortId{0}, address("198.51.100.2"), 1500);
    if (!fresh) return;
    MacAddress mac{};
    mac.fill(static_cast<std::uint8_t>(round));
    adjacencies.resolve(*fresh, mac, mac);
    if (!tables_->fib->add(host(number), *fresh)) std::abort();
    if (const auto old = std::exchange(neighbors_[number], fresh)) {
      // The FIB changes one of two copies after a grace period: two pass before the index is free.
      tables_->reclaimer->retire([this, old] {
        tables_->reclaimer->retire([this, old] { tables_->adjacencies->release(*old); });
      });
    }
  }

  /// Another VLAN and MTU, which belong together.
  void change_ports(unsigned long round) {
    const auto number = static_cast<std::uint16_t>(1 + round % 4000);
    const PortInfo port{.mtu = number, .vlan = {{number, 0}}};
    tables_->ports.publish({port, port}, *tables_->reclaimer);
    if (neighbors_[0]) tables_->adjacencies->set_mtu(*neighbors_[0], number);
  }

  // ---- a worker's part ----

  void read(WorkerId self) {
    Reclaimer& reclaimer = *tables_->reclaimer;
    reclaimer.online(self);
    for (std::uint32_t number = 0; !done_.load(std::memory_order_relaxed);
         number = (number + 1) % kPairs) {
      receive(self, number);
      send(self, number);
      static_cast<void>(tables_->ike_spis->contains(number + 1));
      reclaimer.quiescent(self);
    }
    reclaimer.offline(self);
  }

  void receive(WorkerId self, std::uint32_t number) {
    InboundSa* const sa = tables_->sad->inbound(spis_[number].load(std::memory_order_relaxed));
    if (sa == nullptr) {
      static_cast<void>(tables_->sad->is_expected(spis_[number].load(std::memory_order_relaxed)));
      return;
    }
    claim(sa->key != nullptr && sa->details != nullptr);
    claim(sa->details->outer().remote.address == address_of_peer_);
    sa->details->count_drop(DropReason::replay_duplicate);
    if (tables_->sad->slot_of(*sa) % kReaders != raw(self)) return;  // its window has one writer
    const std::uint64_t next = sa->highest + 1;
    claim(sa->replay_window().commit(next) == ReplayVerdict::fresh);
    sa->packets.store(next, std::memory_order_relaxed);
    claim(!has_ended(*sa, next));
    claim(SharedAdd(1).take(sa->bytes_left, 100));
    RefusedPacket refused;
    refused.flow.source_port = refused.flow.destination_port = static_cast<std::uint16_t>(next);
    sa->details->last_refusal.record(refused);
  }

  void send(WorkerId self, std::uint32_t number) {
    FlowKey flow;
    flow.source = client_;
    flow.destination = hosts_[number];
    flow.protocol = 17;
    const SpdSnapshot& policies = tables_->spd->snapshot();
    const SpdSnapshot::Match match = policies.find(flow, PacketOrigin::clear);
    SlotIndex slot = kNoSlot;
    const Verdict verdict = policies.verdict(match, slot);
    policies.count(match, self, 1);
    looked_up_.fetch_add(1, std::memory_order_relaxed);
    claim(verdict == Verdict::protect || verdict == Verdict::trap || verdict == Verdict::no_match);
    if (verdict == Verdict::protect) {
      OutboundSa& sa = *tables_->sad->outbound(slot);
      claim(sa.key != nullptr && sa.details != nullptr);
      claim(reserve_sequence(sa, kAtOnce, SharedAdd(kReaders)).count == kAtOnce);
      claim(SharedAdd(kReaders).take(sa.bytes_left, 100));
      claim(!has_ended(sa, 1));
      claim(sa.outer().ip_bytes == 20);
      protected_.fetch_add(1, std::memory_order_relaxed);
    }
    const Adjacency& next = (*tables_->adjacencies)[tables_->fib->lookup(hosts_[number])];
    if (next.kind.load(std::memory_order_acquire) == AdjacencyKind::resolved) {
      claim(next.ethernet[0] == next.ethernet[11]);  // one address, not halves of two
      claim(next.mtu() != 0);
    }
    claim(tables_->ports.size() == 2);
    const PortInfo& port = tables_->ports[1];
    claim(port.mtu == port.vlan.id[0]);
  }

  void claim(bool good) {
    if (!good) violations_.fetch_add(1, std::memory_order_relaxed);
  }

  static std::array<wire::IpAddress, kPairs> all_hosts() {
    std::array<wire::IpAddress, kPairs> made;
    for (std::uint32_t number = 0; number < kPairs; ++number) made[number] = host(number).address;
    return made;
  }

  std::unique_ptr<crypto::esp::Engine> engine_;
  std::unique_ptr<Tables> tables_;
  const wire::IpAddress client_ = address("10.1.0.9"), address_of_peer_ = address("203.0.113.7");
  const std::array<wire::IpAddress, kPairs> hosts_ = all_hosts();
  std::array<Pair, kPairs> pairs_;
  std::array<std::optional<AdjacencyIndex>, kPairs> neighbors_;
  std::uint64_t last_id_ = 0;
  std::array<std::atomic<std::uint32_t>, kPairs> spis_{};
  std::atomic<bool> done_{false};
  std::atomic<std::uint64_t> looked_up_{0}, protected_{0}, violations_{0};
};

}  // namespace
}  // namespace culvert::test

int main(int argc, char** argv) {
  const unsigned long rounds =
      argc > 1 ? std::strtoul(argv[1], nullptr, 0) : culvert::test::kDefaultRounds;
  const auto world = std::make_unique<culvert::test::World>();
  return world->run(rounds) == 0 ? 0 : 1;
}
