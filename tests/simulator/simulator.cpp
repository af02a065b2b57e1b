#include "tests/simulator/simulator.hpp"

#include <algorithm>
#include <random>
#include <set>

#include "tests/simulator/world.hpp"

namespace culvert::simulation {
namespace {

using ike::CommandVerb;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// How bad the wires are in this schedule.
struct Weather {
  double loss = 0, duplication = 0;
  milliseconds delay_most{10};
};
/// What the operators and the crashes do.
enum class Incident : std::uint8_t {
  initiate,
  rekey_child,
  rekey_ike,
  terminate_child,
  terminate_ike,
  kill,
  crash,  ///< killed at one of its next effects, and a new one goes on from the record
  lose_data_plane,
  acquire,
};

class Schedule {
 public:
  explicit Schedule(std::uint64_t seed)
      : dice_(seed), options_(draw_options()), world_(options_[0], options_[1], seed, tuning()) {
    world_.send = [this](Flying datagram) { on_send(std::move(datagram)); };
  }

  ScheduleOutcome run(std::uint64_t seed) {
    weather_ = draw_weather();
    for (int side = 0; side < 2; ++side) world_.start(side);
    const int incidents = pick(2, 12);
    for (int i = 0; i < incidents; ++i) {
      advance(world_.now + milliseconds(pick(0, gentle_ ? 8000 : 4000)));
      happen(draw_incident());
      // Things that collide happen at nearly the same time.
      if (chance(0.4)) {
        advance(world_.now + milliseconds(pick(0, 30)));
        happen(draw_incident());
      }
    }
    settle();
    check();
    return {seed, failures_, world_.log};
  }

 private:
  static ike::Tuning tuning() { return {}; }
  int pick(int least, int most) { return std::uniform_int_distribution<int>(least, most)(dice_); }
  bool chance(double probability) {
    return std::uniform_real_distribution<double>(0, 1)(dice_) < probability;
  }

  std::array<GatewayOptions, 2> draw_options() {
    gentle_ = chance(0.3);
    const bool both_start = chance(0.5);
    const bool pfs = chance(0.3);
    GatewayOptions a;
    a.address = "192.0.2.1";
    a.remote_address = "192.0.2.2";
    a.id = "a.example.org";
    a.remote_id = "b.example.org";
    a.dpd_delay = chance(0.5) ? seconds(10) : seconds(0);
    // Small enough that all but the shortest messages come in pieces.
    if (chance(0.3)) a.fragment_size = static_cast<std::uint32_t>(pick(256, 400));
    if (chance(0.2)) a.mobike = config::Mobike::yes;
    if (chance(0.2)) a.childless = config::Childless::prefer;
    const int children = pick(1, 3);
    for (int i = 0; i < children; ++i) {
      ChildOptions child;
      const std::string third = std::to_string(i);
      child.name = "child" + third;
      child.local_ts = "10.1." + third + ".0/24";
      child.remote_ts = "10.2." + third + ".0/24";
      child.esp_proposal = pfs ? "aes256gcm16-x25519" : "aes256gcm16,aes128gcm16";
      child.start_action = config::StartAction::start;
      child.rehearse_rekey = true;
      a.children.push_back(child);
    }
    GatewayOptions b = a;
    std::swap(b.address, b.remote_address);
    std::swap(b.id, b.remote_id);
    for (ChildOptions& child : b.children) {
      std::swap(child.local_ts, child.remote_ts);
      if (!both_start) child.start_action = config::StartAction::trap;
    }
    children_ = children;
    return {a, b};
  }
  Weather draw_weather() {
    if (gentle_) return {0, 0, milliseconds(pick(1, 40))};
    return {chance(0.7) ? pick(0, 30) / 100.0 : 0.0, chance(0.5) ? 0.1 : 0.0,
            milliseconds(pick(1, chance(0.2) ? 1500 : 100))};
  }
  Incident draw_incident() {
    // Gentle schedules only rekey and crash: in them not one packet may be lost.
    if (gentle_) {
      if (chance(0.35)) return Incident::crash;
      return chance(0.6) ? Incident::rekey_child : Incident::rekey_ike;
    }
    static constexpr std::array kBag{
        Incident::initiate,        Incident::rekey_child,    Incident::rekey_child,
        Incident::rekey_child,     Incident::rekey_ike,      Incident::rekey_ike,
        Incident::terminate_child, Incident::terminate_ike,  Incident::kill,
        Incident::crash,           Incident::crash,          Incident::crash,
        Incident::acquire,         Incident::lose_data_plane};
    return kBag[static_cast<std::size_t>(pick(0, kBag.size() - 1))];
  }

  void happen(Incident incident) {
    const int side = pick(0, 1);
    const int index = pick(0, children_ - 1);
    const std::string child = "child" + std::to_string(index);
    const std::string who = side == 0 ? "a" : "b";
    switch (incident) {
      case Incident::initiate:
        world_.note(who + ": initiate " + child);
        world_.command(side, CommandVerb::initiate, child);
        return;
      case Incident::rekey_child:
        world_.note(who + ": rekey " + child);
        world_.command(side, CommandVerb::rekey_child, child);
        return;
      case Incident::rekey_ike:
        world_.note(who + ": rekey --ike branch");
        world_.command(side, CommandVerb::rekey_ike, "branch");
        return;
      case Incident::terminate_child:
        world_.note(who + ": terminate " + child);
        world_.command(side, CommandVerb::terminate, child);
        return;
      case Incident::terminate_ike:
        world_.note(who + ": terminate branch");
        world_.command(side, CommandVerb::terminate, "branch");
        return;
      case Incident::kill:
        world_.kill_and_restart(side);
        return;
      case Incident::crash:
        world_.note(who + ": to be killed");
        world_.gateways.at(static_cast<std::size_t>(side))->dies_in = pick(0, chance(0.3) ? 30 : 8);
        world_.gateways.at(static_cast<std::size_t>(side))->tear = pick(0, 1000) / 1000.0;
        return;
      case Incident::lose_data_plane:
        world_.restart_data_plane(side);
        return;
      case Incident::acquire:
        world_.note(who + ": acquire " + child);
        world_.acquire(side, static_cast<std::uint32_t>(index));
        return;
    }
  }

  void on_send(Flying datagram) {
    const std::string arrow = datagram.from == 0 ? "a --> b  " : "b --> a  ";
    if (chance(weather_.loss)) {
      world_.note(arrow + describe(datagram) + "  LOST");
      return;
    }
    const int copies = chance(weather_.duplication) ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      datagram.arrives =
          world_.now + milliseconds(pick(0, static_cast<int>(weather_.delay_most.count())));
      flying_.push_back(datagram);
    }
  }

  /// Everything until `until`, in the order of time.
  void advance(Instant until) {
    for (int guard = 0; guard < 200'000; ++guard) {
      if (revive(until)) continue;
      const auto next = std::ranges::min_element(flying_, {}, &Flying::arrives);
      const auto timer = world_.next_timer();
      const bool datagram_first = next != flying_.end() && (!timer || next->arrives <= *timer);
      const Instant when = datagram_first ? next->arrives : timer.value_or(until + seconds(1));
      if (const auto back = next_revival(); back && *back < std::min(when, until)) {
        world_.now = std::max(world_.now, *back);
        continue;
      }
      if (when > until) {
        world_.now = until;
        return;
      }
      if (datagram_first) {
        const Flying datagram = *next;
        flying_.erase(next);
        world_.now = std::max(world_.now, datagram.arrives);
        world_.note((datagram.from == 0 ? "a --> b  " : "b --> a  ") + describe(datagram));
        world_.deliver(datagram);
      } else {
        world_.run_timers(when);
      }
      watch();
    }
    failures_.push_back("no end: the machines talk without pause");
    world_.now = until;
  }

  /// A dead key daemon is started again a while later. True: one was.
  bool revive(Instant until) {
    for (int side = 0; side < 2; ++side) {
      const auto at = static_cast<std::size_t>(side);
      if (!world_.gateways.at(at)->dead) {
        back_at_.at(at).reset();
        continue;
      }
      if (!back_at_.at(at)) back_at_.at(at) = world_.now + milliseconds(pick(0, 1500));
      if (*back_at_.at(at) > world_.now || world_.now > until) continue;
      back_at_.at(at).reset();
      world_.resume(side);
      return true;
    }
    return false;
  }
  [[nodiscard]] std::optional<Instant> next_revival() const {
    std::optional<Instant> next;
    for (const auto& back : back_at_) {
      if (back && (!next || *back < *next)) next = back;
    }
    return next;
  }

  /// Gentle schedules: what once was usable stays usable, at every moment.
  void watch() {
    if (!gentle_ || !failures_.empty()) return;
    for (int index = 0; index < children_; ++index) {
      for (int from = 0; from < 2; ++from) {
        const std::string why = world_.why_not_reaching(from, static_cast<std::uint32_t>(index));
        const auto key = std::pair(from, index);
        if (why.empty()) {
          usable_.insert(key);
        } else if (usable_.contains(key)) {
          world_.note("PACKET LOST: " + why);
          failures_.push_back("a packet of child" + std::to_string(index) + " from " +
                              (from == 0 ? "a" : "b") + " is lost: " + why);
          return;
        }
      }
    }
  }

  /// The network heals; the operators ask for everything; long enough for every retry.
  void settle() {
    weather_ = {0, 0, milliseconds(5)};
    for (const auto& gateway : world_.gateways) gateway->dies_in.reset();
    world_.note("-- the network heals");
    advance(world_.now + seconds(150));
    for (int side = 0; side < 2; ++side) {
      for (int index = 0; index < children_; ++index) {
        world_.command(side, CommandVerb::initiate, "child" + std::to_string(index));
        advance(world_.now + milliseconds(pick(0, 3)));
      }
    }
    advance(world_.now + seconds(200));
    world_.note("-- quiescence");
  }

  void check() {
    for (int index = 0; index < children_; ++index) {
      const std::string why = world_.why_not_usable(static_cast<std::uint32_t>(index));
      if (!why.empty()) failures_.push_back("child" + std::to_string(index) + ": " + why);
    }
    const auto expected = static_cast<std::size_t>(children_);
    for (const auto& gateway : world_.gateways) {
      const auto expect = [&](std::size_t seen, std::size_t wanted, const std::string& what) {
        if (seen == wanted) return;
        failures_.push_back(gateway->name + ": " + std::to_string(seen) + " " + what +
                            ", expected " + std::to_string(wanted));
      };
      expect(gateway->data_plane.sas.size(), 2 * expected, "SAs in the data plane");
      expect(gateway->data_plane.policies.size(), expected, "policies in the data plane");
      expect(gateway->data_plane.leased.size(), 0, "SPIs leased and not returned");
      const auto ike_sas = gateway->machine->ike_sas(world_.now);
      expect(ike_sas.size(), 1, "IKE SAs");
      std::size_t children = 0;
      for (const auto& ike : ike_sas) children += ike.children.size();
      expect(children, expected, "children");
    }
    for (const std::string& violation : world_.violations()) failures_.push_back(violation);
    std::set<std::vector<std::uint8_t>> keys = world_.gateways[0]->data_plane.outbound_keys_used;
    for (const auto& key : world_.gateways[1]->data_plane.outbound_keys_used) {
      if (!keys.insert(key).second) failures_.push_back("both sides sent with the same key");
    }
  }

  std::mt19937_64 dice_;
  bool gentle_ = false;
  int children_ = 1;
  std::array<GatewayOptions, 2> options_;
  World world_;
  Weather weather_;
  std::vector<Flying> flying_;
  std::array<std::optional<Instant>, 2> back_at_;
  std::set<std::pair<int, int>> usable_;
  std::vector<std::string> failures_;
};

}  // namespace

ScheduleOutcome run_schedule(std::uint64_t seed) { return Schedule(seed).run(seed); }

std::string to_text(const ScheduleOutcome& outcome) {
  std::string text = "seed " + std::to_string(outcome.seed) + "\n";
  for (const std::string& line : outcome.log) text += line + "\n";
  for (const std::string& failure : outcome.failures) text += "FAILED: " + failure + "\n";
  return text + "replay: scripts/simulate --seed " + std::to_string(outcome.seed) +
         " --schedules 1 --verbose\n";
}

}  // namespace culvert::simulation
