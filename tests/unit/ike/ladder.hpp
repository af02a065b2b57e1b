// Two machines and a ladder between them: an arrow a line, checked as it is passed.
//
//   ladder("a --> b  IKE_SA_INIT request");   delivered
//   ladder("a --x b  IKE_SA_INIT request");   lost
//   ladder("a ==> b  IKE_SA_INIT request");   delivered, and a copy stays on the wire
//
// A line takes the oldest such datagram; lines in another order than sending reorder the network.
#pragma once

#include <algorithm>
#include <sstream>

#include <catch2/catch.hpp>

#include "tests/simulator/world.hpp"

namespace culvert::ladder {

using config::StartAction;
using ike::CommandVerb;
using ike::Failure;
using simulation::ChildOptions;
using simulation::Flying;
using simulation::Gateway;
using simulation::GatewayOptions;
using std::chrono::milliseconds;
using std::chrono::seconds;

inline constexpr int kA = 0, kB = 1;

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline GatewayOptions gateway_a() {
  GatewayOptions options;
  options.address = "192.0.2.1";
  options.remote_address = "192.0.2.2";
  options.id = "a.example.org";
  options.remote_id = "b.example.org";
  ChildOptions child;
  child.name = "office";
  child.local_ts = "10.1.0.0/24";
  child.remote_ts = "10.2.0.0/24";
  options.children = {child};
  return options;
}
inline GatewayOptions mirrored(GatewayOptions options) {
  std::swap(options.address, options.remote_address);
  std::swap(options.id, options.remote_id);
  for (ChildOptions& child : options.children) std::swap(child.local_ts, child.remote_ts);
  return options;
}

/// Of the other addresses it has kept none.
inline GatewayOptions moved_to(GatewayOptions options, const std::string& address) {
  options.address = address;
  options.other_addresses = {};
  return options;
}

/// A Delete follows its rekey without a pause, so that a ladder needs no time to pass.
inline ike::Tuning without_linger() {
  ike::Tuning tuning;
  tuning.replaced_sa_linger = std::chrono::milliseconds(0);
  return tuning;
}

class Ladder {
 public:
  explicit Ladder(const GatewayOptions& a = gateway_a()) : Ladder(a, mirrored(a)) {}
  Ladder(const GatewayOptions& a, const GatewayOptions& b,
         const ike::Tuning& tuning = without_linger(), std::uint64_t seed = 1)
      : world(a, b, seed, tuning) {
    world.send = [this](Flying datagram) { wire.push_back(std::move(datagram)); };
    world.after_step = [this] { watch(); };
  }
  ~Ladder() { CHECK(world.violations() == std::vector<std::string>{}); }
  Ladder(const Ladder&) = delete;
  Ladder& operator=(const Ladder&) = delete;

  void operator()(const std::string& line) {
    INFO(line);
    std::istringstream words(line);
    std::string from, arrow, to, exchange, kind;
    words >> from >> arrow >> to >> exchange >> kind;
    const int side = from == "a" ? kA : kB;
    const auto found = std::ranges::find_if(wire, [&](const Flying& datagram) {
      const auto header = simulation::header_of(datagram);
      return datagram.from == side && wire::ike::to_string(header.exchange) == exchange &&
             header.response == (kind == "response");
    });
    INFO("on the wire: " << on_the_wire());
    REQUIRE(found != wire.end());
    const Flying datagram = *found;
    if (arrow != "==>") wire.erase(found);
    if (arrow == "--x") return;
    world.deliver(datagram);
  }
  /// Time goes by; what the timers send is on the wire afterwards.
  void pass(ike::Instant span) { world.run_timers(world.now + span); }
  /// Delivers everything, oldest first, until the wire is silent.
  void run() {
    for (int i = 0; i < 500 && !wire.empty(); ++i) {
      const Flying datagram = wire.front();
      wire.erase(wire.begin());
      world.deliver(datagram);
    }
    CHECK(wire.empty());
  }
  void silent() {
    INFO("on the wire: " << on_the_wire());
    CHECK(wire.empty());
  }
  /// From now on a packet that would be lost fails the test.
  void expect_no_loss() { lossless_ = true; }

  /// The usual beginning.
  void connect() {
    initiate(kA);
    (*this)("a --> b  IKE_SA_INIT request");
    (*this)("b --> a  IKE_SA_INIT response");
    (*this)("a --> b  IKE_AUTH request");
    (*this)("b --> a  IKE_AUTH response");
    silent();
    REQUIRE(world.why_not_usable(0).empty());
  }
  ike::CommandId initiate(int side, const std::string& name = "office") {
    return world.command(side, CommandVerb::initiate, name);
  }
  ike::CommandId rekey(int side, const std::string& name = "office") {
    return world.command(side, CommandVerb::rekey_child, name);
  }
  ike::CommandId rekey_ike(int side) {
    return world.command(side, CommandVerb::rekey_ike, "branch");
  }
  /// Exactly one pair a child, at both ends, and nothing else.
  void converged(std::size_t children = 1) {
    for (std::uint32_t index = 0; index < children; ++index) {
      CHECK(world.why_not_usable(index) == "");
    }
    for (const auto& gateway : world.gateways) {
      INFO(gateway->name);
      CHECK(gateway->data_plane.sas.size() == 2 * children);
      CHECK(gateway->data_plane.policies.size() == children);
      CHECK(gateway->data_plane.leased.empty());
      CHECK(gateway->machine->ike_sas(world.now).size() == 1);
    }
  }
  [[nodiscard]] Gateway& gateway(int side) {
    return *world.gateways.at(static_cast<std::size_t>(side));
  }
  [[nodiscard]] ike::IkeSaStatus ike_sa(int side) {
    const auto all = gateway(side).machine->ike_sas(world.now);
    REQUIRE(!all.empty());
    return all.front();
  }
  [[nodiscard]] ike::ConnectionStatus connection(int side) {
    return gateway(side).machine->connections(world.now).front();
  }
  [[nodiscard]] std::size_t reported(int side, const std::string& event) {
    return static_cast<std::size_t>(
        std::ranges::count(gateway(side).reports, event, &ike::Report::event));
  }
  [[nodiscard]] const ike::CommandDone* outcome(int side, ike::CommandId id) {
    const auto found = std::ranges::find(gateway(side).done, id, &ike::CommandDone::command);
    return found == gateway(side).done.end() ? nullptr : &*found;
  }
  /// Delivers what is sent, second by second.
  void settle(int for_seconds = 20) {
    for (int i = 0; i < for_seconds; ++i) {
      run();
      pass(seconds(1));
    }
    run();
  }
  /// Delivers all but the CREATE_CHILD_SA exchange that `initiator` has begun, for tenths of a
  /// second.
  void without_the_exchange_of(int initiator, int tenths) {
    for (int i = 0; i < tenths; ++i) {
      std::erase_if(wire, [&](const Flying& datagram) {
        const auto header = simulation::header_of(datagram);
        return header.exchange == wire::ike::ExchangeType::create_child_sa &&
               header.response == (datagram.from != initiator);
      });
      run();
      pass(milliseconds(100));
    }
  }
  [[nodiscard]] std::string on_the_wire() const {
    std::string text;
    for (const Flying& datagram : wire) {
      text += (datagram.from == kA ? "[a: " : "[b: ") + simulation::describe(datagram) + "] ";
    }
    return text;
  }

  simulation::World world;
  std::vector<Flying> wire;

 private:
  void watch() {
    if (!lossless_) return;
    const std::string why = world.why_not_usable(0);
    if (!why.empty()) FAIL("a packet is lost: " << why);
  }
  bool lossless_ = false;
};

}  // namespace culvert::ladder
