#include "tests/simulator/simulator.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "tests/simulator/nat.hpp"
#include "tests/simulator/world.hpp"

namespace culvert::simulation {
namespace {

using ike::CommandVerb;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// How bad the wires are in this schedule.
struct Weather {
  double loss = 0, duplication = 0, corruption = 0;
  milliseconds delay_most{10};
};
/// What the operators, the network and the crashes do.
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
  partition,  ///< nothing passes between two gateways for a while, in one direction or in both
  reload,     ///< another configuration, at one end and then at the other
  rebind,     ///< a NAT between forgets its mappings
};

/// Two gateways with a connection between them.
struct Link {
  /// Its place among the connections of each end, and the index of its first child there.
  struct End {
    int side = 0;
    std::size_t connection = 0;
    std::uint32_t first_index = 0;
  };
  std::array<End, 2> ends;
};

std::string name_of(int side) { return std::string(1, static_cast<char>('a' + side)); }
std::string address_of(int side) { return "192.0.2." + std::to_string(side + 1); }
std::string id_of(int side) { return name_of(side) + ".example.org"; }

constexpr int kBehindNat = 1;

class Schedule {
 public:
  Schedule(std::uint64_t seed, bool wide)
      : dice_(seed),
        wide_(wide),
        gentle_(chance(0.3)),
        sites_(draw_sites()),
        world_(sites_, seed, {}) {
    world_.send = [this](Flying datagram) { on_send(std::move(datagram)); };
    world_.packets_flow = gentle_;
    back_at_.resize(sites_.size());
    reload_at_.resize(sites_.size());
  }

  ScheduleOutcome run(std::uint64_t seed) {
    weather_ = draw_weather();
    for (int side = 0; side < sides(); ++side) world_.start(side);
    const int incidents = pick(2, 12) * static_cast<int>(links_.size());
    for (int i = 0; i < incidents; ++i) {
      advance(world_.now + milliseconds(pick(0, (gentle_ ? 8000 : 4000) / sides() * 2)));
      happen(draw_incident());
      // Things that collide happen at nearly the same time.
      if (chance(0.4)) {
        advance(world_.now + milliseconds(pick(0, 30)));
        happen(draw_incident());
      }
    }
    settle();
    check();
    return {seed, wide_, failures_, world_.log};
  }

 private:
  int pick(int least, int most) { return std::uniform_int_distribution<int>(least, most)(dice_); }
  bool chance(double probability) {
    return std::uniform_real_distribution<double>(0, 1)(dice_) < probability;
  }
  [[nodiscard]] int sides() const { return static_cast<int>(sites_.size()); }
  Link& draw_link() {
    return links_[static_cast<std::size_t>(pick(0, static_cast<int>(links_.size()) - 1))];
  }
  [[nodiscard]] GatewayOptions& options_of(const Link::End& end) {
    return sites_[static_cast<std::size_t>(end.side)][end.connection];
  }
  Gateway& gateway(int side) { return *world_.gateways.at(static_cast<std::size_t>(side)); }

  // ---- the gateways and their configurations ----

  /// Two gateways, or a hub with up to four others, two of which may have a connection, too.
  std::vector<Site> draw_sites() {
    const int count = chance(0.8) ? 2 : pick(3, 5);
    if (wide_ && count == 2 && chance(0.15)) nat_.emplace();
    std::vector<Site> sites(static_cast<std::size_t>(count));
    for (int side = 1; side < count; ++side) draw_link(sites, 0, side);
    if (count > 2 && chance(0.5)) draw_link(sites, 1, 2);
    return sites;
  }

  void draw_link(std::vector<Site>& sites, int here, int there) {
    const bool pfs = chance(0.3);
    GatewayOptions options;
    options.name = name_of(here) + name_of(there);
    options.address = address_of(here);
    options.remote_address = address_of(there);
    options.id = id_of(here);
    options.remote_id = id_of(there);
    options.dpd_delay = chance(0.5) ? seconds(30) : seconds(0);
    // Small enough that all but the shortest messages come in pieces.
    if (chance(0.3)) options.fragment_size = static_cast<std::uint32_t>(pick(256, 400));
    if (chance(0.2)) options.mobike = config::Mobike::yes;
    if (chance(0.2)) options.childless = config::Childless::prefer;
    if (wide_ && chance(0.2)) options.encapsulation = config::Encapsulation::forced;
    if (wide_ && chance(0.1)) options.ppk_id = "shared";
    if (wide_ && chance(0.2)) options.reauth_time = seconds(pick(40, 120));
    const int children = pick(1, 3);
    for (int i = 0; i < children; ++i) {
      ChildOptions child;
      const std::string third = std::to_string(links_.size() * 8 + static_cast<std::size_t>(i));
      child.name = options.name + std::to_string(i);
      child.local_ts = "10." + std::to_string(here + 1) + "." + third + ".0/24";
      child.remote_ts = "10." + std::to_string(there + 1) + "." + third + ".0/24";
      child.esp_proposal = pfs ? "aes256gcm16-x25519" : "aes256gcm16,aes128gcm16";
      child.start_action = config::StartAction::start;
      child.rehearse_rekey = true;
      options.children.push_back(child);
    }
    GatewayOptions far = options;
    swap_ends(far);
    if (nat_) {
      // The far one dials, and it alone finds out that the other has forgotten it.
      options.remote_address.clear();
      options.dpd_delay = far.dpd_delay = seconds(30);
      options.mobike = far.mobike = config::Mobike::accept;
    }
    if (chance(0.5)) {
      for (ChildOptions& child : far.children) child.start_action = config::StartAction::trap;
    }
    Link link;
    for (const int at : {0, 1}) {
      Site& site = sites[static_cast<std::size_t>(at == 0 ? here : there)];
      std::uint32_t index = 0;
      for (const GatewayOptions& other : site) index += children_of(other);
      link.ends[static_cast<std::size_t>(at)] = {at == 0 ? here : there, site.size(), index};
      site.push_back(at == 0 ? options : far);
    }
    links_.push_back(link);
  }

  static void swap_ends(GatewayOptions& options) {
    std::swap(options.address, options.remote_address);
    std::swap(options.id, options.remote_id);
    for (ChildOptions& child : options.children) std::swap(child.local_ts, child.remote_ts);
  }
  static std::uint32_t children_of(const GatewayOptions& options) {
    return static_cast<std::uint32_t>(options.children.size());
  }

  Weather draw_weather() {
    if (gentle_) return {0, 0, 0, milliseconds(pick(1, 40))};
    return {chance(0.7) ? pick(0, 30) / 100.0 : 0.0, chance(0.5) ? 0.1 : 0.0,
            chance(0.3) ? pick(1, 10) / 100.0 : 0.0,
            milliseconds(pick(1, chance(0.2) ? 1500 : 100))};
  }

  // ---- what happens ----

  Incident draw_incident() {
    // Gentle schedules only rekey, crash and reload: in them not one packet may be lost.
    if (gentle_) {
      if (chance(0.35)) return Incident::crash;
      if (chance(0.15)) return Incident::reload;
      return chance(0.6) ? Incident::rekey_child : Incident::rekey_ike;
    }
    static constexpr std::array kBag{
        Incident::initiate,        Incident::rekey_child,   Incident::rekey_child,
        Incident::rekey_child,     Incident::rekey_ike,     Incident::rekey_ike,
        Incident::terminate_child, Incident::terminate_ike, Incident::kill,
        Incident::crash,           Incident::crash,         Incident::crash,
        Incident::acquire,         Incident::partition,     Incident::reload,
        Incident::lose_data_plane, Incident::rebind};
    const int most = static_cast<int>(kBag.size()) - (wide_ ? 1 : 2);
    return kBag[static_cast<std::size_t>(pick(0, most))];
  }

  void happen(Incident incident) {
    const Link& link = draw_link();
    const auto at = static_cast<std::size_t>(pick(0, 1));
    const Link::End& end = link.ends[at];
    const int side = end.side;
    const GatewayOptions& options = options_of(end);
    const int number = pick(0, static_cast<int>(options.children.size()) - 1);
    const std::string& child = options.children[static_cast<std::size_t>(number)].name;
    const auto command = [&](const char* words, CommandVerb verb, const std::string& what) {
      world_.note(name_of(side) + ": " + words + what);
      world_.command(side, verb, what);
    };
    switch (incident) {
      case Incident::initiate:
        return command("initiate ", CommandVerb::initiate, child);
      case Incident::rekey_child:
        return command("rekey ", CommandVerb::rekey_child, child);
      case Incident::rekey_ike:
        return command("rekey --ike ", CommandVerb::rekey_ike, options.name);
      case Incident::terminate_child:
        return command("terminate ", CommandVerb::terminate, child);
      case Incident::terminate_ike:
        return command("terminate ", CommandVerb::terminate, options.name);
      case Incident::kill:
        return world_.kill_and_restart(side);
      case Incident::crash:
        world_.note(name_of(side) + ": to be killed");
        gateway(side).dies_in = pick(0, chance(0.3) ? 30 : 8);
        gateway(side).tear = pick(0, 1000) / 1000.0;
        return;
      case Incident::lose_data_plane:
        return world_.restart_data_plane(side);
      case Incident::acquire:
        world_.note(name_of(side) + ": acquire " + child);
        return world_.acquire(side, end.first_index + static_cast<std::uint32_t>(number));
      case Incident::partition:
        return cut(link, at);
      case Incident::reload:
        return change(link, at);
      case Incident::rebind:
        if (!nat_) return;
        world_.note("-- the NAT forgets");
        return nat_->forget();
    }
  }

  void cut(const Link& link, std::size_t at) {
    const Instant until = world_.now + milliseconds(pick(100, chance(0.3) ? 90'000 : 5'000));
    const int here = link.ends[at].side, there = link.ends[1 - at].side;
    const bool both = chance(0.5);
    cut_until_[{here, there}] = until;
    if (both) cut_until_[{there, here}] = until;
    world_.note("-- nothing passes from " + name_of(here) + " to " + name_of(there) +
                (both ? " and back" : ""));
  }

  /// Both files are changed; one daemon reads its own now, the other within seconds.
  void change(const Link& link, std::size_t at) {
    // One that is killed before it has recorded the new configuration comes back to other records.
    world_.expect_refusal = ike::NotResumed::configuration_changed;
    const auto what = pick(0, 5);
    const auto number = static_cast<std::size_t>(
        pick(0, static_cast<int>(options_of(link.ends[0]).children.size()) - 1));
    for (const Link::End& end : link.ends) {
      GatewayOptions& options = options_of(end);
      ChildOptions& child = options.children[number];
      const bool first = &end == link.ends.data();
      switch (what) {
        case 0:
          child.esp_proposal =
              child.esp_proposal == "aes128gcm16" ? "aes256gcm16-x25519" : "aes128gcm16";
          break;
        case 1: {
          // Wider or narrower, alike at both ends.
          std::string& ts = first ? child.local_ts : child.remote_ts;
          const bool wide = ts.ends_with("/24");
          ts.replace(ts.find('/'), 3, wide ? "/25" : "/24");
          break;
        }
        case 2:
          options.ike_proposal = options.ike_proposal == "aes128gcm16-prfsha256-x25519"
                                     ? "aes256gcm16-prfsha256-x25519"
                                     : "aes128gcm16-prfsha256-x25519";
          break;
        case 3:
          child.rekey_time = child.rekey_time == seconds(3600) ? seconds(2400) : seconds(3600);
          if (!nat_) options.dpd_delay = options.dpd_delay == seconds(0) ? seconds(30) : seconds(0);
          break;
        case 4: {
          // Who is to prove something else is authenticated anew.
          std::string& id = first ? options.id : options.remote_id;
          id = id.starts_with("new-") ? id.substr(4) : "new-" + id;
          break;
        }
        default:
          if (first == (at == 0)) {
            child.start_action = child.start_action == config::StartAction::start
                                     ? config::StartAction::trap
                                     : config::StartAction::start;
          }
      }
    }
    const int here = link.ends[at].side, there = link.ends[1 - at].side;
    reload_at_[static_cast<std::size_t>(there)] = world_.now + milliseconds(pick(0, 4000));
    reload_at_[static_cast<std::size_t>(here)] = world_.now;
  }

  // ---- the network ----

  void on_send(Flying datagram) {
    const bool passes = !nat_ || nat_->translate(datagram, datagram.from == kBehindNat);
    const int to = world_.receiver_of(datagram);
    if (to < 0 || !passes) return;
    const std::string arrow = name_of(datagram.from) + " --> " + name_of(to) + "  ";
    const auto cut = cut_until_.find({datagram.from, to});
    if ((cut != cut_until_.end() && world_.now < cut->second) || chance(weather_.loss)) {
      world_.note(arrow + describe(datagram) + "  LOST");
      return;
    }
    const int copies = chance(weather_.duplication) ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      Flying copy = datagram;
      copy.arrives =
          world_.now + milliseconds(pick(0, static_cast<int>(weather_.delay_most.count())));
      if (chance(weather_.corruption)) damage(copy);
      flying_.push_back(std::move(copy));
    }
  }

  void damage(Flying& datagram) {
    auto& bytes = datagram.bytes;
    if (bytes.empty()) return;
    const auto place = static_cast<std::size_t>(pick(0, static_cast<int>(bytes.size()) - 1));
    if (chance(0.2)) {
      bytes.resize(place);
    } else {
      bytes[place] ^= static_cast<std::uint8_t>(1U << static_cast<unsigned>(pick(0, 7)));
    }
    datagram.damaged = true;
  }

  /// Everything until `until`, in the order of time.
  void advance(Instant until) {
    for (int guard = 0; guard < 400'000; ++guard) {
      if (return_of_daemons(until)) continue;
      const auto next = std::ranges::min_element(flying_, {}, &Flying::arrives);
      const auto timer = world_.next_timer();
      const bool datagram_first = next != flying_.end() && (!timer || next->arrives <= *timer);
      const Instant when = datagram_first ? next->arrives : timer.value_or(until + seconds(1));
      if (const auto back = next_return(); back && *back < std::min(when, until)) {
        world_.now = std::max(world_.now, *back);
        continue;
      }
      if (when > until) {
        world_.now = until;
        return;
      }
      if (datagram_first) {
        const Flying datagram = std::move(*next);
        flying_.erase(next);
        world_.now = std::max(world_.now, datagram.arrives);
        world_.note(name_of(datagram.from) + " --> " + name_of(world_.receiver_of(datagram)) +
                    "  " + describe(datagram) + (datagram.damaged ? "  DAMAGED" : ""));
        world_.deliver(datagram);
      } else {
        world_.run_timers(when);
      }
      watch();
    }
    failures_.push_back("no end: the machines talk without pause");
    world_.now = until;
  }

  /// A dead key daemon is started again a while later; a living one reads its new configuration
  /// when it is told. True: one did.
  bool return_of_daemons(Instant until) {
    for (int side = 0; side < sides(); ++side) {
      const auto at = static_cast<std::size_t>(side);
      if (!gateway(side).dead) {
        back_at_[at].reset();
        if (!reload_at_[at] || *reload_at_[at] > world_.now || world_.now > until) continue;
        reload_at_[at].reset();
        world_.reconfigure(side, sites_[at]);
        return true;
      }
      if (!back_at_[at]) back_at_[at] = world_.now + milliseconds(pick(0, 1500));
      if (*back_at_[at] > world_.now || world_.now > until) continue;
      back_at_[at].reset();
      world_.resume(side);
      return true;
    }
    return false;
  }
  [[nodiscard]] std::optional<Instant> next_return() {
    std::optional<Instant> next;
    for (int side = 0; side < sides(); ++side) {
      const auto at = static_cast<std::size_t>(side);
      const auto& when = gateway(side).dead ? back_at_[at] : reload_at_[at];
      if (when && (!next || *when < *next)) next = when;
    }
    return next;
  }

  // ---- what must hold ----

  /// Gentle schedules: what once was usable stays usable, at every moment.
  void watch() {
    if (!gentle_ || !failures_.empty()) return;
    for (const Link& link : links_) {
      const std::uint32_t children = children_of(options_of(link.ends[0]));
      for (std::uint32_t number = 0; number < children; ++number) {
        for (const std::size_t from : {0U, 1U}) watch(link, number, from);
      }
    }
  }
  void watch(const Link& link, std::uint32_t number, std::size_t from) {
    const std::string why = why_not_reaching(link, number, from);
    const auto key = std::tuple(&link, number, from);
    if (why.empty()) {
      usable_.insert(key);
    } else if (usable_.contains(key) && failures_.empty()) {
      world_.note("PACKET LOST: " + why);
      failures_.push_back("a packet of " + options_of(link.ends[0]).children[number].name +
                          " from " + name_of(link.ends[from].side) + " is lost: " + why);
    }
  }
  std::string why_not_reaching(const Link& link, std::uint32_t number, std::size_t from) {
    return world_.why_not_reaching(link.ends[from].side, link.ends[from].first_index + number,
                                   link.ends[1 - from].side);
  }

  /// The network heals; the operators ask for everything; long enough for every retry.
  void settle() {
    weather_ = {0, 0, 0, milliseconds(5)};
    cut_until_.clear();
    for (const auto& one : world_.gateways) one->dies_in.reset();
    world_.note("-- the network heals");
    advance(world_.now + seconds(150));
    end_reauthentication();
    for (const Link& link : links_) {
      for (const Link::End& end : link.ends) {
        for (const ChildOptions& child : options_of(end).children) {
          world_.command(end.side, CommandVerb::initiate, child.name);
          advance(world_.now + milliseconds(pick(0, 3)));
        }
      }
    }
    advance(world_.now + seconds(200));
    world_.note("-- quiescence");
  }

  /// Whoever authenticates anew every minute or two is never at rest.
  void end_reauthentication() {
    for (int side = 0; side < sides(); ++side) {
      const auto at = static_cast<std::size_t>(side);
      for (GatewayOptions& options : sites_[at]) {
        if (options.reauth_time == seconds(0)) continue;
        options.reauth_time = seconds(0);
        reload_at_[at] = world_.now;
      }
    }
  }

  void check() {
    for (const Link& link : links_) {
      for (std::uint32_t number = 0; number < children_of(options_of(link.ends[0])); ++number) {
        for (const std::size_t from : {0U, 1U}) {
          const std::string why = why_not_reaching(link, number, from);
          if (why.empty()) continue;
          failures_.push_back(options_of(link.ends[0]).children[number].name + ": " + why);
        }
      }
    }
    std::set<std::vector<std::uint8_t>> keys;
    for (int side = 0; side < sides(); ++side) {
      check(side);
      for (const auto& key : gateway(side).data_plane.outbound_keys_used) {
        if (!keys.insert(key).second) failures_.push_back("two sides sent with the same key");
      }
    }
    for (const std::string& violation : world_.violations()) failures_.push_back(violation);
  }

  void check(int side) {
    const Gateway& here = gateway(side);
    const Site& site = sites_[static_cast<std::size_t>(side)];
    std::size_t expected = 0;
    for (const GatewayOptions& options : site) expected += options.children.size();
    const auto expect = [&](std::size_t seen, std::size_t wanted, const std::string& what) {
      if (seen == wanted) return;
      failures_.push_back(here.name + ": " + std::to_string(seen) + " " + what + ", expected " +
                          std::to_string(wanted));
    };
    expect(here.data_plane.sas.size(), 2 * expected, "SAs in the data plane");
    expect(here.data_plane.policies.size(), expected, "policies in the data plane");
    if (nat_ && side != kBehindNat) {
      for (const auto& [id, sa] : here.data_plane.sas) {
        const bool is_outbound = sa.sa.direction == channel::Direction::out;
        if (is_outbound && !nat_->is_open(sa.sa.remote)) {
          failures_.push_back(here.name + ": ESP goes to " + sa.sa.remote.to_string() +
                              ", where the NAT lets nothing in");
        }
      }
    }
    for (const channel::Spi spi : here.data_plane.leased) {
      char text[16];
      std::snprintf(text, sizeof(text), "%08x", static_cast<unsigned>(spi));
      failures_.push_back(here.name + ": SPI " + text + " is leased and not returned");
    }
    const auto ike_sas = here.machine->ike_sas(world_.now);
    expect(ike_sas.size(), site.size(), "IKE SAs");
    std::size_t children = 0;
    for (const auto& ike : ike_sas) children += ike.children.size();
    expect(children, expected, "children");
  }

  std::mt19937_64 dice_;
  bool wide_;
  bool gentle_;
  std::vector<Link> links_;
  std::optional<Nat> nat_;   ///< in front of the second of two
  std::vector<Site> sites_;  ///< as the files are now
  World world_;
  Weather weather_;
  std::vector<Flying> flying_;
  std::map<std::pair<int, int>, Instant> cut_until_;  ///< by sender and receiver
  std::vector<std::optional<Instant>> back_at_, reload_at_;
  std::set<std::tuple<const Link*, std::uint32_t, std::size_t>> usable_;
  std::vector<std::string> failures_;
};

}  // namespace

ScheduleOutcome run_schedule(std::uint64_t seed, bool wide) {
  return Schedule(seed, wide).run(seed);
}

std::string to_text(const ScheduleOutcome& outcome) {
  std::string text = "seed " + std::to_string(outcome.seed) + "\n";
  for (const std::string& line : outcome.log) text += line + "\n";
  for (const std::string& failure : outcome.failures) text += "FAILED: " + failure + "\n";
  return text + "replay: scripts/simulate --seed " + std::to_string(outcome.seed) +
         " --schedules 1 --verbose" + (outcome.wide ? " --wide\n" : "\n");
}

}  // namespace culvert::simulation
