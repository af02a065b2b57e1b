// What a peer with the keys of an IKE SA can say inside SK: any exchange, any payloads, at any
// point of a conversation (payloads_stage.hpp), sealed as it seals them. A real machine goes on
// from its record there, and must keep its word to everybody after every message.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

#include "tests/fuzz/payloads_mutator.hpp"
#include "tests/fuzz/payloads_peer.hpp"

using namespace culvert;
using namespace culvert::payloads;

namespace {

using wire::ike::ExchangeType;

constexpr std::size_t kMostSteps = 24;
/// Of the machine that goes on: other than the seed of the stage, whose names must not come again.
constexpr std::uint64_t kLaterSeed = 8;
/// Of tasks that wait on one IKE SA: a few of the machine's own, and the operator's.
constexpr std::size_t kMostTasks = 16;
/// SPIs that the peer deletes before we know them.
constexpr std::size_t kMostEarlyDeletes = 64;

using IkeSas = std::map<std::uint64_t, ike::RecordedIkeSa>;

const std::vector<Snapshot>& snapshots() {
  static const std::vector<Snapshot> all = [] {
    std::vector<Snapshot> made;
    for (const StageInfo& info : kStages) made.push_back(take(info));
    return made;
  }();
  return all;
}

class Run {
 public:
  explicit Run(const Snapshot& from)
      : from_(from),
        world_(from.ends.a, from.ends.b, kLaterSeed, ike::Tuning{}),
        gateway_(*world_.gateways.at(static_cast<std::size_t>(from.side))),
        random_(crypto::ike::make_seeded_random(3)) {
    add_visitor(gateway_, from.side);
    world_.gateways.at(static_cast<std::size_t>(1 - from.side))->dead = true;
    memory_to_reuse() = from.memory;
    gateway_.memory = std::move(memory_to_reuse());
    gateway_.data_plane = from.data_plane;
    world_.now = from.now;
    world_.send = [this](Flying datagram) { sent_.push_back(std::move(datagram)); };
    world_.resume(from.side);
    look();
    require(ike_sas_.contains(from.own) && ike_sas_.contains(from.visitor), "resumed");
  }

  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() { memory_to_reuse() = std::move(gateway_.memory); }

  void step(const Step& step) {
    ++steps_;
    sent_.clear();
    switch (step.kind) {
      case StepKind::message:
      case StepKind::fragments:
        message(step);
        break;
      case StepKind::time:
        time(step.how);
        break;
      case StepKind::command:
        command(step.how);
        break;
      case StepKind::data_plane:
        data_plane(step.how);
        break;
      case StepKind::crash:
        crash(step.how);
        break;
    }
    if (gateway_.dead) {
      resumed_ = true;
      world_.resume(from_.side);
    }
    look();
    check();
  }

  void finish() {
    check_visitor();
    check_leaks();
  }

 private:
  /// So large that each time it would be mapped and unmapped.
  static simulation::RecordMemory& memory_to_reuse() {
    static simulation::RecordMemory memory;
    return memory;
  }

  void require(bool claim, const char* what) {
    if (claim) return;
    for (const std::string& line : world_.log) std::fprintf(stderr, "%s\n", line.c_str());
    for (const std::string& line : world_.violations()) std::fprintf(stderr, "%s\n", line.c_str());
    std::fprintf(stderr, "step %zu: not so: %s\n", steps_, what);
    std::abort();
  }

  // ---- what happens ----

  void message(const Step& step) {
    const ike::RecordedIkeSa* to = target(step.ike_sa);
    if (to == nullptr) return;
    const ike::IkeSa& ike = *to->ike;
    const auto header = Peer(ike, gateway_.secrets, *random_).header_of(step);
    const bool must_answer = step.kind == StepKind::message && !step.response && !step.in_clear &&
                             header.exchange == ExchangeType::informational &&
                             step.id == MessageId::fitting && ike.keys.inbound != nullptr &&
                             ike.state != ike::IkeState::auth_sent;
    speak(ike, step);
    if (must_answer) require(gateway_.dead || answers(header), "INFORMATIONAL is answered");
  }

  void speak(const ike::IkeSa& ike, const Step& step) {
    for (auto& octets : Peer(ike, gateway_.secrets, *random_).say(step)) {
      Flying datagram{1 - from_.side, ike.remote, ike.local, std::move(octets), {}, false};
      if (step.endpoint == 1) datagram.local.port = datagram.remote.port = 4500;
      if (step.endpoint == 2) datagram.local.port = static_cast<std::uint16_t>(40000 + step.cut);
      if (step.endpoint == 3) datagram.local.address = *wire::IpAddress::parse("198.51.100.7");
      world_.deliver(datagram);
    }
  }

  [[nodiscard]] bool answers(const wire::ike::Header& request) const {
    return std::ranges::any_of(sent_, [&](const Flying& datagram) {
      const auto answer = simulation::header_of(datagram);
      return answer.response && answer.message_id == request.message_id &&
             answer.initiator_spi == request.initiator_spi;
    });
  }

  ike::RecordedIkeSa* target(std::uint8_t which) {
    std::vector<ike::RecordedIkeSa*> others;
    for (auto& [spi, recorded] : ike_sas_) {
      if (spi == from_.visitor) continue;
      if (spi == from_.own && which == 0) return &recorded;
      if (spi != from_.own) others.push_back(&recorded);
    }
    return others.empty() ? nullptr : others[which % others.size()];
  }

  void time(std::uint8_t how) {
    static constexpr std::array kSpans{
        milliseconds(0),      milliseconds(300),     milliseconds(1'000),    milliseconds(6'000),
        milliseconds(35'000), milliseconds(130'000), milliseconds(3'700'000)};
    milliseconds span = kSpans[how % kSpans.size()];
    // Once is enough, and dear.
    if (long_time_) span = std::min(span, milliseconds(6'000));
    const auto next = world_.next_timer();
    const bool to_next = span.count() == 0 && next;
    if (span > seconds(60)) long_time_ = true;
    world_.run_timers(to_next ? std::min(*next, world_.now + seconds(60)) : world_.now + span);
  }

  void command(std::uint8_t how) {
    static constexpr std::array kVerbs{CommandVerb::initiate, CommandVerb::terminate,
                                       CommandVerb::rekey_child, CommandVerb::rekey_ike};
    static constexpr std::array kNames{"office", "lab", "branch"};
    if (how % 32U >= 28) {
      world_.acquire(from_.side, how % 2U);
      return;
    }
    world_.command(from_.side, kVerbs[how % 4U], kNames[how / 4U % 3U]);
  }

  void data_plane(std::uint8_t how) {
    simulation::DataPlane& plane = gateway_.data_plane;
    channel::Event event;
    const auto sa = plane.sas.empty() ? plane.sas.end()
                                      : std::next(plane.sas.begin(),
                                                  static_cast<long>(how / 8U % plane.sas.size()));
    switch (how % 8U) {
      case 0:
        plane.next_install = channel::Outcome::no_room;
        refused_ = true;
        return;
      case 1:
        plane.spis_exhausted = !plane.spis_exhausted;
        return;
      case 2:
        plane.idle_milliseconds = how / 8U * 1000U;
        return;
      case 3:
        restarted_ = true;
        world_.restart_data_plane(from_.side);
        return;
      case 4:
        world_.status_came(from_.side, ToySignatures::kAwaited);
        return;
      case 5:
      case 6:
        if (sa == plane.sas.end() || sa->second.sa.child_id > config::ChildId{1}) return;
        event.type =
            how % 8U == 5 ? channel::EventType::soft_expire : channel::EventType::hard_expire;
        event.body.soft_expire = {sa->first, channel::ExpiryCause::bytes};
        if (how % 8U == 6) event.body.hard_expire = {sa->first, channel::ExpiryCause::bytes};
        break;
      default:
        if (sa == plane.sas.end()) return;
        event.type = channel::EventType::peer_moved;
        event.body.peer_moved = {sa->first, {*wire::IpAddress::parse("198.51.100.7"), 4501}};
    }
    world_.event(from_.side, event);
  }

  void crash(std::uint8_t how) {
    if (how % 2U == 0) {
      world_.kill(from_.side);
      return;
    }
    gateway_.dies_in = how / 2U % 8U;
    gateway_.tear = (how / 16U) / 16.0;
  }

  // ---- what must hold ----

  /// The IKE SAs as they are on record. Most are as they were at the last look.
  void look() {
    const auto& recorded = gateway_.recorded;
    std::erase_if(ike_sas_, [&](const auto& known) {
      return !recorded.contains({ike::RecordKind::ike_sa, known.first});
    });
    for (const auto& [name, octets] : recorded) {
      if (name.kind != ike::RecordKind::ike_sa) continue;
      auto& seen = seen_[name.id];
      if (seen == octets && ike_sas_.contains(name.id)) continue;
      auto ike_sa = ike::decode_ike_sa(copy_of(name, octets));
      require(ike_sa.has_value(), "a record parses");
      ike_sas_.insert_or_assign(name.id, std::move(*ike_sa));
      seen = octets;
    }
  }

  void check_violations() {
    for (const std::string& violation : world_.violations()) {
      // What was refused its place is taken away all the same.
      const bool follows = refused_ && violation.find("unknown_") != std::string::npos;
      require(follows, violation.c_str());
    }
  }

  void check() {
    check_violations();
    require(ike_sas_.size() <= 4 + steps_, "IKE SAs are bounded");
    std::set<channel::Spi> known;
    for (const auto& [spi, recorded] : ike_sas_) {
      const ike::IkeSa& ike = *recorded.ike;
      require(ike.queue.size() <= kMostTasks + steps_, "tasks are bounded");
      require(ike.peer_addresses.size() <= 8, "addresses are bounded");
      require(recorded.children.size() <= 4 + steps_, "children are bounded");
      if (ike.exchange) {
        require(ike.exchange->deleted_early.size() <= kMostEarlyDeletes,
                "early deletes are bounded");
        known.insert(ike.exchange->inbound_spi);
        known.insert(ike.exchange->task.orphan);
      }
      for (const ike::Task& task : ike.queue) known.insert(task.orphan);
      for (const ike::ChildSa& child : recorded.children) {
        known.insert(child.inbound_spi);  // leased while its SA is refused
        const bool whole = gateway_.data_plane.find(child.inbound_sa) != nullptr &&
                           gateway_.data_plane.find(child.outbound_sa) != nullptr;
        require(whole || child.redundant || child.state == ike::ChildState::deleting,
                "a child's SAs are there");
      }
    }
    for (const channel::Spi spi : gateway_.data_plane.leased) {
      require(known.contains(spi), "a leased SPI is known");
    }
    for (const Flying& datagram : sent_) check_sent(datagram);
  }

  /// The peer can open what it is sent, and it is a message.
  void check_sent(const Flying& datagram) {
    const auto message = wire::ike::parse_message(datagram.bytes);
    require(message.has_value(), "what is sent parses");
    const auto& header = message->header;
    const auto found =
        ike_sas_.find(header.from_initiator ? header.initiator_spi : header.responder_spi);
    if (found == ike_sas_.end() || found->second.ike->keys.outbound == nullptr) return;
    const wire::Bytes raw(datagram.bytes);
    for (const auto& payload : message->payloads) {
      const auto& key = *found->second.ike->keys.outbound;
      if (const auto* piece = std::get_if<wire::ike::EncryptedFragment>(&payload)) {
        require(key.open(raw.first(piece->associated_bytes), piece->sealed).has_value(),
                "a fragment that is sent opens");
      }
      const auto* whole = std::get_if<wire::ike::Encrypted>(&payload);
      if (whole == nullptr) continue;
      const auto chain = key.open(raw.first(whole->associated_bytes), whole->sealed);
      require(chain.has_value(), "what is sent opens");
      const auto payloads = wire::ike::parse_payloads(whole->first_inner, chain->view());
      require(payloads.has_value(), "what is sent parses inside");
      const bool is_error = ike::find_error(*payloads) != nullptr;
      require(is_error || wire::ike::check_presence(header.exchange, header.response, *payloads),
              "what is sent has what belongs there");
    }
  }

  /// Somebody else's tunnel never notices.
  void check_visitor() {
    if (long_time_ || restarted_) return;
    const auto found = ike_sas_.find(from_.visitor);
    require(found != ike_sas_.end(), "the visitor is still there");
    const ike::IkeSa& ike = *found->second.ike;
    require(ike.state == ike::IkeState::established && found->second.children.size() == 1,
            "the visitor's tunnel stands");
    require(gateway_.data_plane.outbound_of(found->second.children.front().child_id) != nullptr,
            "the visitor's traffic passes");
    gateway_.dies_in.reset();
    sent_.clear();
    Step liveness;
    liveness.exchange = static_cast<std::uint8_t>(ExchangeType::informational);
    const auto request = Peer(ike, gateway_.secrets, *random_).header_of(liveness);
    speak(ike, liveness);
    require(sent_.size() == 1 && answers(request), "the visitor is answered");
    check_sent(sent_.front());
  }

  [[nodiscard]] std::set<channel::SaId> known_sas() {
    look();
    std::set<channel::SaId> known;
    for (const auto& [spi, recorded] : ike_sas_) {
      for (const ike::ChildSa& child : recorded.children) {
        known.insert(child.inbound_sa);
        known.insert(child.outbound_sa);
      }
    }
    return known;
  }

  /// What nobody controls any more goes when its grace ends. An SA that a crash left may wait for
  /// its connection.
  void check_leaks() {
    if (resumed_) return;
    const auto before = known_sas();
    std::set<channel::SaId> left;
    for (const auto& [id, sa] : gateway_.data_plane.sas) {
      if (!before.contains(id)) left.insert(id);
    }
    world_.run_timers(world_.now + ike::Tuning{}.old_sa_grace + seconds(1));
    const auto after = known_sas();
    for (const auto& [id, sa] : gateway_.data_plane.sas) {
      require(!left.contains(id) || after.contains(id), "no SA is left that nobody knows");
    }
    for (const auto& [id, policy] : gateway_.data_plane.policies) {
      require(gateway_.data_plane.find(policy.outbound) != nullptr, "a policy has its SA");
    }
    check_violations();
  }

  const Snapshot& from_;
  simulation::World world_;
  Gateway& gateway_;
  std::unique_ptr<crypto::ike::Random> random_;
  std::vector<Flying> sent_;
  IkeSas ike_sas_;
  std::map<std::uint64_t, std::vector<std::uint8_t>> seen_;  ///< what ike_sas_ was read from
  std::size_t steps_ = 0;
  bool long_time_ = false, restarted_ = false, resumed_ = false, refused_ = false;
};

}  // namespace

/// A run allocates a MiB or a few, much of it 64 KiB at a time. What it frees stays poisoned to its
/// end, and not for two hundred runs more, which is page faults and cache misses.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=16:malloc_context_size=12:allocator_release_to_os_interval_ms=-1";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  Run run(snapshots()[data[0] % kStages.size()]);
  InputReader input(data + 1, size - 1);
  for (std::size_t steps = 0; steps < kMostSteps; ++steps) {
    const auto step = input.next();
    if (!step) break;
    run.step(*step);
  }
  run.finish();
  return 0;
}
