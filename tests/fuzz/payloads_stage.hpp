// Where inputs of fuzz_payloads begin: two production machines come to some point of their
// conversation, always the same way, and one of them is taken from there as its record.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "ike/machine/record_codec.hpp"
#include "tests/simulator/world.hpp"

namespace culvert::payloads {

using ike::CommandVerb;
using simulation::Flying;
using simulation::Gateway;
using simulation::GatewayOptions;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// Believes a signature by its first octet: even ones are wrong, and one waits for what never comes
/// or comes when the input says so.
class ToySignatures final : public ike::SignatureSource {
 public:
  static constexpr std::string_view kAwaited = "status";
  static constexpr std::uint8_t kWaits = 0x40;

  std::expected<Proof, Problem> sign(const config::Connection&,
                                     std::optional<std::span<const std::uint16_t>>,
                                     wire::Bytes) const override {
    return Proof{14, {1, 2, 3, 4}, {{0x30, 0x03, 1, 1, 1}}, "toy", {{0x30, 0x00}}};
  }
  std::expected<Verified, Problem> verify(const Claim& claim) const override {
    const std::uint8_t first = claim.data.empty() ? 0 : claim.data.front();
    if (first == kWaits && claim.may_wait) {
      return std::unexpected(Problem{ike::Failure::signature_failed, "", std::string(kAwaited)});
    }
    if (first % 2 == 1 || first == kWaits) return Verified{"toy", "CN=toy", 4'000'000'000, {}};
    return std::unexpected(Problem{ike::Failure::signature_failed, "toy"});
  }
  std::vector<std::uint8_t> authority_hashes() const override {
    return std::vector<std::uint8_t>(20);
  }
  bool wants_statuses() const override { return true; }
};

struct Ends {
  GatewayOptions a, b;
};

inline GatewayOptions mirrored(GatewayOptions options) {
  std::swap(options.address, options.remote_address);
  std::swap(options.id, options.remote_id);
  for (auto& child : options.children) std::swap(child.local_ts, child.remote_ts);
  return options;
}

inline Ends plain_ends() {
  GatewayOptions a;
  a.address = "192.0.2.1";
  a.remote_address = "192.0.2.2";
  a.id = "a.example.org";
  a.remote_id = "b.example.org";
  simulation::ChildOptions office;
  office.name = "office";
  office.local_ts = "10.1.0.0/24,10.1.2.0/24";
  office.remote_ts = "10.2.0.0/24";
  simulation::ChildOptions lab;
  lab.name = "lab";
  lab.local_ts = "10.5.0.0/16";
  lab.remote_ts = "10.6.0.0/16";
  lab.esp_proposal = "aes256gcm16-x25519,aes128gcm16-x25519-esn";
  a.children = {office, lab};
  return {a, mirrored(a)};
}

/// Beside the connection that the input is about both gateways have another, with another peer.
inline void add_visitor(Gateway& gateway, int side) {
  GatewayOptions options;
  options.name = "visitor";
  options.address = "192.0.2.1";
  options.remote_address = "192.0.2.3";
  options.id = "a.example.org";
  options.remote_id = "c.example.org";
  simulation::ChildOptions guest;
  guest.name = "guest";
  guest.local_ts = "10.3.0.0/24";
  guest.remote_ts = "10.4.0.0/24";
  options.children = {guest};
  if (side == 1) options = mirrored(options);
  config::Connection connection = simulation::make_config(options).connections.front();
  connection.children.front().id =
      config::ChildId{gateway.config->connections.front().children.size()};
  gateway.config->connections.push_back(std::move(connection));
}

class Stage {
 public:
  explicit Stage(const Ends& ends) : world(ends.a, ends.b, 7, ike::Tuning{}) {
    for (int side = 0; side < 2; ++side) {
      add_visitor(gateway(side), side);
      gateway(side).boot();
    }
    world.send = [this](Flying datagram) { wire.push_back(std::move(datagram)); };
    world.command(0, CommandVerb::initiate, "guest");
    run();
  }

  [[nodiscard]] Gateway& gateway(int side) {
    return *world.gateways.at(static_cast<std::size_t>(side));
  }
  /// The oldest datagram of a side, delivered or lost.
  void deliver_from(int side) { hand_over(take_from(side)); }
  void lose_from(int side) { (void)take_from(side); }
  void run() {
    for (int i = 0; i < 200 && !wire.empty(); ++i) {
      const Flying datagram = wire.front();
      wire.pop_front();
      hand_over(datagram);
    }
  }
  void command(int side, CommandVerb verb, const std::string& name) {
    world.command(side, verb, name);
  }
  void pass(ike::Instant span) { world.run_timers(world.now + span); }
  /// The branch's child stands.
  void connect() {
    command(0, CommandVerb::initiate, "office");
    run();
    if (!world.why_not_usable(0).empty()) throw std::runtime_error(world.why_not_usable(0));
  }
  void half_open() {
    command(0, CommandVerb::initiate, "office");
    deliver_from(0);
  }
  void auth_sent() {
    half_open();
    deliver_from(1);
  }
  /// The initiator is heard at another address, and says so.
  void move() {
    connect();
    command(0, CommandVerb::rekey_child, "office");
    pass(seconds(5));
    const auto elsewhere = *wire::IpAddress::parse("192.0.2.9");
    for (auto at = wire.begin(); at != wire.end(); ++at) {
      if (at->local.address != elsewhere) continue;
      const Flying datagram = *at;
      wire.clear();
      hand_over(datagram);
      deliver_from(1);
      return;
    }
    throw std::runtime_error("nothing was sent from another address");
  }

  simulation::World world;
  std::deque<Flying> wire;
  std::function<void(const Flying&)> before_delivery;

 private:
  Flying take_from(int side) {
    for (auto at = wire.begin(); at != wire.end(); ++at) {
      if (at->from != side) continue;
      const Flying datagram = *at;
      wire.erase(at);
      return datagram;
    }
    throw std::runtime_error("a stage expects a datagram that is not there");
  }
  void hand_over(const Flying& datagram) {
    if (before_delivery) before_delivery(datagram);
    world.deliver(datagram);
  }
};

struct StageInfo {
  const char* name;
  Ends (*ends)();
  void (*play)(Stage&);
  int side;  ///< whose machine the input is about
};

namespace ends {

template <typename Change>
Ends changed(Change change) {
  Ends both = plain_ends();
  change(both.a);
  change(both.b);
  return both;
}
inline Ends mobile() {
  Ends both = changed([](GatewayOptions& o) { o.mobike = config::Mobike::yes; });
  both.a.other_addresses = {"192.0.2.9"};
  return both;
}
inline Ends post_quantum() {
  return changed([](GatewayOptions& o) { o.ppk_id = "shared"; });
}
inline Ends signatures() {
  return changed([](GatewayOptions& o) {
    static const ToySignatures toy;
    o.auth = o.remote_auth = config::AuthMethod::pubkey;
    o.signatures = &toy;
  });
}
inline Ends childless() {
  return changed([](GatewayOptions& o) { o.childless = config::Childless::prefer; });
}
inline Ends natted() {
  return changed([](GatewayOptions& o) { o.encapsulation = config::Encapsulation::forced; });
}
inline Ends watchful() {
  return changed([](GatewayOptions& o) { o.dpd_delay = seconds(10); });
}
inline Ends small_pieces() {
  return changed([](GatewayOptions& o) { o.fragment_size = 220; });
}
inline Ends chained() {
  return changed([](GatewayOptions& o) { o.ike_proposal = "aes256-sha512-x25519"; });
}
inline Ends transport() {
  return changed([](GatewayOptions& o) {
    o.children.front().mode = config::Mode::transport;
    const bool first = o.address == "192.0.2.1";
    o.children.front().local_ts = first ? "192.0.2.1/32" : "192.0.2.2/32";
    o.children.front().remote_ts = first ? "192.0.2.2/32" : "192.0.2.1/32";
  });
}
inline Ends roaming() {
  Ends both = plain_ends();
  both.b.remote_address.clear();
  both.b.remote_id.clear();
  return both;
}
inline Ends renewed() {
  return changed([](GatewayOptions& o) {
    o.reauth_time = seconds(30);
    for (auto& child : o.children) {
      child.start_action = config::StartAction::start;
      child.rehearse_rekey = true;
    }
  });
}

}  // namespace ends

inline void connected(Stage& stage) { stage.connect(); }
template <int side, CommandVerb verb>
void asked(Stage& stage) {
  stage.connect();
  const bool whole = verb == CommandVerb::rekey_ike;
  stage.command(side, verb, whole ? "branch" : "office");
}
template <int side, CommandVerb verb>
void answered(Stage& stage) {
  asked<side, verb>(stage);
  stage.deliver_from(side);
}
/// Both ask at once; `side` has got the other's request.
template <int side, CommandVerb verb>
void crossed(Stage& stage) {
  asked<side, verb>(stage);
  stage.command(1 - side, verb, verb == CommandVerb::rekey_ike ? "branch" : "office");
  stage.deliver_from(1 - side);
}
inline void half_open(Stage& stage) { stage.half_open(); }
inline void auth_sent(Stage& stage) { stage.auth_sent(); }

// The first octet of an input is a place in this table: new ones come last.
inline constexpr std::array kStages = std::to_array<StageInfo>({
    {"established_initiator", plain_ends, connected, 0},
    {"established_responder", plain_ends, connected, 1},
    {"child_rekey_out", plain_ends, asked<0, CommandVerb::rekey_child>, 0},
    {"child_rekey_out_responder", plain_ends, asked<1, CommandVerb::rekey_child>, 1},
    {"ike_rekey_out", plain_ends, asked<0, CommandVerb::rekey_ike>, 0},
    {"ike_rekey_out_responder", plain_ends, asked<1, CommandVerb::rekey_ike>, 1},
    {"half_open", plain_ends, half_open, 1},
    {"auth_sent", plain_ends, auth_sent, 0},
    {"child_out", plain_ends,
     [](Stage& stage) {
       stage.connect();
       stage.command(0, CommandVerb::initiate, "lab");
     },
     0},
    {"delete_child_out", plain_ends, asked<0, CommandVerb::terminate>, 0},
    {"delete_ike_out", plain_ends,
     [](Stage& stage) {
       stage.connect();
       stage.command(1, CommandVerb::terminate, "branch");
     },
     1},
    {"child_rekey_answered", plain_ends, answered<0, CommandVerb::rekey_child>, 1},
    {"ike_rekey_answered", plain_ends, answered<0, CommandVerb::rekey_ike>, 1},
    {"child_rekey_crossed", plain_ends, crossed<0, CommandVerb::rekey_child>, 0},
    {"child_rekey_crossed_responder", plain_ends, crossed<1, CommandVerb::rekey_child>, 1},
    {"ike_rekey_crossed", plain_ends, crossed<0, CommandVerb::rekey_ike>, 0},
    {"ike_rekey_crossed_responder", plain_ends, crossed<1, CommandVerb::rekey_ike>, 1},
    {"mobike", ends::mobile, connected, 0},
    {"mobike_responder", ends::mobile, connected, 1},
    {"address_update_out", ends::mobile, [](Stage& stage) { stage.move(); }, 0},
    {"route_check_out", ends::mobile,
     [](Stage& stage) {
       stage.move();
       stage.deliver_from(0);
     },
     1},
    {"liveness_out", ends::watchful,
     [](Stage& stage) {
       stage.connect();
       stage.pass(seconds(11));
     },
     0},
    {"ppk_auth_sent", ends::post_quantum, auth_sent, 0},
    {"ppk_half_open", ends::post_quantum, half_open, 1},
    {"signature_auth_sent", ends::signatures, auth_sent, 0},
    {"signature_half_open", ends::signatures, half_open, 1},
    {"childless_auth_sent", ends::childless, auth_sent, 0},
    {"childless_half_open", ends::childless, half_open, 1},
    {"nat", ends::natted, connected, 0},
    {"nat_responder", ends::natted, connected, 1},
    {"small_pieces_auth_sent", ends::small_pieces, auth_sent, 0},
    {"small_pieces_half_open", ends::small_pieces, half_open, 1},
    {"chained_ciphers", ends::chained, connected, 1},
    {"transport", ends::transport, connected, 1},
    {"roaming_peer", ends::roaming, connected, 1},
    {"roaming_peer_half_open", ends::roaming, half_open, 1},
    {"renewed", ends::renewed, connected, 0},
    {"init_sent", plain_ends,
     [](Stage& stage) { stage.command(0, CommandVerb::initiate, "office"); }, 0},
    // Half-open beside one that stands: its peer was killed, or both began at once.
    {"returned_half_open", plain_ends,
     [](Stage& stage) {
       stage.connect();
       stage.world.kill_and_restart(0);
       stage.deliver_from(0);
     },
     1},
    {"both_began", plain_ends,
     [](Stage& stage) {
       stage.command(0, CommandVerb::initiate, "office");
       stage.command(1, CommandVerb::initiate, "office");
       stage.deliver_from(0);
     },
     1},
});

struct Snapshot {
  Ends ends;
  int side = 0;
  simulation::RecordMemory memory;
  simulation::DataPlane data_plane{0};
  ike::Instant now{};
  std::uint64_t own = 0, visitor = 0;  ///< our SPIs of the IKE SAs
};
inline ike::Record copy_of(const ike::RecordName& name, const std::vector<std::uint8_t>& octets) {
  return {name, crypto::SecretBytes(crypto::Bytes(octets))};
}

/// The stage as its machine's record, and what its data plane holds.
inline Snapshot take(const StageInfo& info) {
  Snapshot taken;
  taken.ends = info.ends();
  taken.side = info.side;
  Stage stage(taken.ends);
  info.play(stage);
  Gateway& gateway = stage.gateway(info.side);
  taken.memory = gateway.memory;
  taken.data_plane = gateway.data_plane;
  taken.now = stage.world.now;
  std::uint64_t rank = ~0ULL;
  for (const auto& [name, octets] : gateway.recorded) {
    const auto recorded = ike::decode_ike_sa(copy_of(name, octets));
    if (!recorded) continue;
    if (recorded->connection == "visitor" && recorded->ike->state == ike::IkeState::established) {
      taken.visitor = name.id;
    } else if (recorded->ike->created_rank < rank) {
      rank = recorded->ike->created_rank;
      taken.own = name.id;
    }
  }
  if (taken.own == 0 || taken.visitor == 0) throw std::runtime_error(info.name);
  return taken;
}

}  // namespace culvert::payloads
