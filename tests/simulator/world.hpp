// Gateways, a virtual clock and the wires between them. Tests move datagrams by hand; the simulator
// moves them by dice.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "ike/daemon/checkpoint.hpp"
#include "ike/machine/machine.hpp"
#include "tests/simulator/data_plane.hpp"
#include "tests/simulator/record_memory.hpp"
#include "wire/ike/message.hpp"

namespace culvert::simulation {

/// What a gateway's configuration says, in the words of the file.
struct ChildOptions {
  std::string name;
  std::string local_ts, remote_ts;
  std::string esp_proposal = "aes256gcm16";
  config::StartAction start_action = config::StartAction::trap;
  config::Mode mode = config::Mode::tunnel;
  std::chrono::seconds rekey_time{3600};
  std::chrono::seconds life_time{3960};
  bool rehearse_rekey = false;            ///< ladders are quiet unless told otherwise
  std::optional<std::uint32_t> number{};  ///< its identifier; nullopt: its place in the file
};
struct GatewayOptions {
  std::string name = "branch";
  std::string address, remote_address;  ///< empty remote address: %any
  std::string id, remote_id;
  std::string ike_proposal = "aes256gcm16-prfsha256-x25519";
  std::string psk = "correct horse battery staple";
  config::AuthMethod auth = config::AuthMethod::psk, remote_auth = config::AuthMethod::psk;
  std::string certificate;                           ///< a name that `signatures` knows
  const ike::SignatureSource* signatures = nullptr;  ///< outlives the gateway
  config::Encapsulation encapsulation = config::Encapsulation::automatic;
  config::Fragmentation fragmentation = config::Fragmentation::yes;
  std::uint32_t fragment_size = 1280;
  config::Mobike mobike = config::Mobike::accept;
  config::Childless childless = config::Childless::allow;
  std::chrono::seconds reauth_time{0};
  std::string ppk_id, ppk = "thirty-two octets beyond quantum";
  bool ppk_required = false;
  std::vector<std::string> other_addresses;  ///< of ours towards the peer
  bool names_address = true;                 ///< the connection says from which of ours
  std::string address_elsewhere;             ///< of ours, not on the interface towards the peer
  std::chrono::seconds rekey_time{14400}, dpd_delay{0};
  std::vector<ChildOptions> children;
};
/// What a gateway's file says of each of its peers; its own address is the same in all.
using Site = std::vector<GatewayOptions>;
/// Proposals are separated by commas. Children are numbered over all connections.
config::Config make_config(const Site& site);
inline config::Config make_config(const GatewayOptions& options) {
  return make_config(Site{options});
}

class Secrets final : public ike::SecretSource {
 public:
  explicit Secrets(const std::string& psk)
      : key_(crypto::Bytes(reinterpret_cast<const std::uint8_t*>(psk.data()), psk.size())) {}
  const crypto::SecretBytes* find(const config::Identity&, const config::Identity&) const override {
    return present ? &key_ : nullptr;
  }
  const crypto::SecretBytes* find_post_quantum(std::string_view id) const override {
    const auto found = post_quantum.find(id);
    return found == post_quantum.end() ? nullptr : &found->second;
  }
  bool present = true;
  std::map<std::string, crypto::SecretBytes, std::less<>> post_quantum;

 private:
  crypto::SecretBytes key_;
};

struct Flying {
  int from = 0;
  wire::Endpoint local, remote;  ///< as the sender has them
  std::vector<std::uint8_t> bytes;
  Instant arrives{};
  bool damaged = false;       ///< on its way
  std::uint64_t ike_spi = 0;  ///< that the sender's data plane lets in from now on
};

struct Gateway {
  Gateway(std::string its_name, const Site& site, std::uint64_t seed, std::uint32_t first_spi,
          const ike::Tuning& its_tuning);
  void take_addresses(const GatewayOptions& options);
  void boot();          ///< a fresh machine; the data plane keeps what it has
  void empty_memory();  ///< as a data plane that has just started gives it
  void open_memory();   ///< a key daemon's hand on it

  std::string name;
  std::unique_ptr<config::Config> config;
  Secrets secrets;
  std::vector<wire::IpAddress> addresses;
  std::optional<wire::IpAddress> address_elsewhere;
  bool knows_its_address = false;  ///< without being told by a connection
  const ike::SignatureSource* signatures = nullptr;
  DataPlane data_plane;
  ike::Tuning tuning;
  std::unique_ptr<crypto::ike::Random> random;
  std::unique_ptr<ike::Machine> machine;
  /// What the data plane holds for the key daemon, and the key daemon's hand on it.
  RecordMemory memory;
  std::unique_ptr<ike::Checkpoint> checkpoint;
  std::map<ike::RecordName, std::vector<std::uint8_t>> recorded;  ///< what it should hold
  /// Killed after so many more effects (a commit, a request, a datagram); a commit that it falls
  /// into is torn at `tear` of its octets, 0 to 1.
  std::optional<int> dies_in;
  double tear = 0;
  bool dead = false;
  ike::ResumeReport resumed;
  std::vector<ike::Report> reports;
  std::vector<ike::CommandDone> done;
  std::uint64_t keepalives = 0;
  std::uint64_t next_command = 1;
};

class World {
 public:
  World(const std::vector<Site>& sites, std::uint64_t seed, const ike::Tuning& tuning);
  World(const GatewayOptions& a, const GatewayOptions& b, std::uint64_t seed,
        const ike::Tuning& tuning)
      : World(std::vector<Site>{{a}, {b}}, seed, tuning) {}

  // inputs; every one carries out what the machine answers
  void start(int side);
  ike::CommandId command(int side, ike::CommandVerb verb, const std::string& name);
  void acquire(int side, std::uint32_t child);  ///< a packet between its first addresses
  void deliver(const Flying& datagram);
  void event(int side, const channel::Event& event);
  /// kill -9 of the key daemon, then a new one that finds no record.
  void kill_and_restart(int side);
  /// kill -9 of the key daemon, now.
  void kill(int side);
  /// A new key daemon goes on from what the last one recorded.
  void resume(int side);
  void restart_data_plane(int side);
  void shut_down(int side);
  /// What the gateway's SignatureSource called `awaits` has come.
  void status_came(int side, std::string_view name);
  /// SIGHUP after the file changed. `ahead`: its data plane has not read it yet.
  void reconfigure(int side, const Site& site, bool ahead = false);
  void reconfigure(int side, const GatewayOptions& options, bool ahead = false) {
    reconfigure(side, Site{options}, ahead);
  }
  /// Timers and expiries up to `until`, in their order; the network is left alone.
  void run_timers(Instant until);
  [[nodiscard]] std::optional<Instant> next_timer() const;

  /// Both sides' traffic of a child arrives: the SPI sent on is there, with the same key and suite.
  /// Empty when it does, else why not.
  [[nodiscard]] std::string why_not_usable(std::uint32_t child) const;
  [[nodiscard]] std::string why_not_reaching(int from, std::uint32_t child) const {
    return why_not_reaching(from, child, 1 - from);
  }
  [[nodiscard]] std::string why_not_reaching(int from, std::uint32_t child, int to) const;
  /// Whom a datagram reaches: of two gateways the other; else whoever has the address. -1: nobody.
  [[nodiscard]] int receiver_of(const Flying& datagram) const;
  [[nodiscard]] std::vector<std::string> violations() const;
  void note(const std::string& line);

  std::vector<std::unique_ptr<Gateway>> gateways;
  std::function<void(Flying)> send;  ///< what happens to a datagram that a machine sends
  std::function<void()> after_step;  ///< an invariant that must hold all the time
  /// A refusal that a test is about; every other one is a violation.
  std::optional<ike::NotResumed> expect_refusal;
  bool packets_flow = false;    ///< whoever has a policy sends by it all the time
  bool lose_held_spis = false;  ///< a data plane that keeps no SPI for whoever resumes
  Instant now{};
  std::vector<std::string> log;  ///< the ladder, line by line

 private:
  void carry_out(int side, std::vector<ike::Action> actions);
  channel::Completion execute(Gateway& gateway, const channel::Request& request);
  /// False: killed there and then.
  [[nodiscard]] bool record(Gateway& gateway);
  [[nodiscard]] bool survives(Gateway& gateway);
  void tear_commit(Gateway& gateway, const ike::Records& changes);
  void check_recorded(Gateway& gateway);
  void leave(int side, ike::SendDatagram& datagram);
  void check_unique(const Flying& datagram);

  /// What each side has ever sent: messages by IDs, and IVs by key.
  using MessageName = std::tuple<int, std::uint64_t, std::uint64_t, bool, std::uint32_t,
                                 std::uint16_t, std::uint16_t>;
  std::map<MessageName, std::vector<std::uint8_t>> said_;
  std::map<std::tuple<int, std::uint64_t, std::uint64_t, std::vector<std::uint8_t>>,
           std::vector<std::uint8_t>>
      ivs_;
  std::vector<std::string> wire_violations_;
  unsigned commits_ = 0;
};

[[nodiscard]] std::string describe(const Flying& datagram);
[[nodiscard]] wire::ike::Header header_of(const Flying& datagram);

}  // namespace culvert::simulation
