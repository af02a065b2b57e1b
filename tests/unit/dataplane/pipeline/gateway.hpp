// A whole gateway's worker without threads: two looped ports (what is sent into one is received
// from it), tables filled by the test, one iteration at a time, every packet accounted for.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "dataplane/tables/tables.hpp"
#include "dataplane/worker/stages.hpp"
#include "dataplane/worker/worker.hpp"

struct rte_ring;
struct rte_mempool;

namespace culvert::test {

using Packet = std::vector<std::uint8_t>;

/// EAL without huge pages, root or PCI; started once a process.
void start_eal();
rte_mempool* packet_pool();
/// For what fragments become; and a test may inject what is as large.
rte_mempool* large_packet_pool();

inline constexpr dataplane::PortId kLan{0}, kWan{1};
inline constexpr std::array<std::uint8_t, 6> kOurMac{2, 0, 0, 0, 0, 1};
inline constexpr std::array<std::uint8_t, 6> kTheirMac{2, 0, 0, 0, 0, 9};

struct Punt {
  dataplane::PuntedPacket what;
  Packet bytes;  ///< from the mbuf's data on
};
/// What one iteration did.
struct Result {
  std::vector<Packet> lan, wan;  ///< frames sent
  std::vector<Punt> punts;
  std::map<dataplane::DropReason, std::uint64_t> drops;
  [[nodiscard]] std::uint64_t dropped(dataplane::DropReason reason) const {
    const auto found = drops.find(reason);
    return found == drops.end() ? 0 : found->second;
  }
};

struct Addresses {
  std::string lan = "10.1.0.1/24", wan = "198.51.100.1/24";
  std::string lan6 = "2001:db8:1::1/64", wan6 = "2001:db8:ff::1/64";
  std::string peer = "198.51.100.2", peer6 = "2001:db8:ff::2";
  std::string client = "10.1.0.9", client6 = "2001:db8:1::9";
  std::string far = "10.2.0.0/16", far6 = "2001:db8:2::/64";
};
/// The far gateway's view of the same.
Addresses mirrored();

/// The next iteration takes all that is there, however the last burst went and whatever has
/// changed.
void take_whole_bursts(dataplane::WorkerState& worker);

/// A FIB that other tests have used, which is there at once; or one of its own, as a gateway's,
/// which another thread may change.
enum class Routes : std::uint8_t { used, own };

class Gateway {
 public:
  explicit Gateway(const Addresses& addresses = {}, std::uint32_t workers = 1,
                   std::uint16_t worker = 0,
                   std::unique_ptr<crypto::esp::Engine> (*make_engine)() = crypto::esp::make_engine,
                   Routes routes = Routes::used);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  dataplane::Tables& tables() { return *tables_; }
  dataplane::WorkerState& worker() { return *worker_; }
  dataplane::WorkerContext& context() { return context_; }

  /// Frames into a port, then iterations until nothing is left. Fails the test when a packet is not
  /// accounted for: received + originated = sent + delivered + dropped + punted.
  Result receive(dataplane::PortId port, const std::vector<Packet>& frames);
  Result receive(dataplane::PortId port, const Packet& frame) {
    return receive(port, std::vector<Packet>{frame});
  }
  Result inject(const Packet& bytes, dataplane::InjectedPacket how);
  /// An iteration for what the main thread has put into the ring by itself.
  Result serve_main_thread();

  /// What `receive` and `inject` have done once: a test may put something around it.
  std::function<void(dataplane::WorkerState&, dataplane::Burst&)> iterate =
      [](dataplane::WorkerState& state, dataplane::Burst& burst) {
        dataplane::run_iteration(state, burst);
      };

  /// Whether to do so once more: another worker was handed something. And what waits in others.
  std::function<bool()> goes_on = [] { return false; };
  std::function<std::size_t()> waits_elsewhere = [] { return std::size_t{0}; };
  /// What a worker sends in the middle of an iteration, when a queue of frames is full, does not
  /// come in again by the looped port. Not where a test puts frames there by itself.
  bool sends_are_no_input = false;
  /// The worker that receives what `receive` gives.
  std::uint16_t receiver;

  dataplane::SlotIndex install(const channel::InstallSa& sa,
                               const dataplane::SaSettings& settings = {});
  /// A policy that protects `local` → `remote` by `outbound` (kNoSlot: a trap).
  void protect(const std::string& local, const std::string& remote, dataplane::SlotIndex outbound);
  void policy(dataplane::PolicyAction action, const std::string& local, const std::string& remote);

  /// What follows is received with this tag (priority and VLAN ID) taken off by the device; 0:
  /// none.
  std::uint16_t stripped_tag = 0;

  rte_ring* hints() { return hints_; }
  rte_ring* handoff() { return handoff_; }

 private:
  void add_route(const std::string& prefix, dataplane::AdjacencyIndex adjacency);
  void add_neighbor(dataplane::PortId port, const std::string& address);
  void collect_sent(Result& result) const;
  Result run();

  Addresses addresses_;
  std::unique_ptr<crypto::esp::Engine> engine_;
  std::unique_ptr<dataplane::Tables> tables_;
  std::vector<dataplane::PolicyEntry> policies_;
  rte_ring *punt_, *inject_, *handoff_, *hints_;
  dataplane::WorkerContext context_;
  std::array<dataplane::WorkerContext*, 4> peers_;
  std::unique_ptr<dataplane::WorkerState> worker_;
  std::unique_ptr<dataplane::Burst> burst_;
  std::uint64_t injected_ = 0;
};

struct SaOptions {
  channel::SaMode mode = channel::SaMode::tunnel;
  bool esn = false;
  bool udp = false;
  std::uint32_t window = 64;
  std::string outer_local = "198.51.100.1", outer_remote = "198.51.100.2";
  std::vector<std::string> local_selectors = {"10.1.0.0/24"}, remote_selectors = {"10.2.0.0/16"};
  channel::Lifetime lifetime;
  std::uint16_t key_bits = 128;           ///< of AES-GCM
  std::optional<crypto::EspSuite> suite;  ///< another one
};
/// IPv4 or IPv6, outside and inside.
SaOptions with_families(bool outer_v6, bool inner_v6);
/// The SA that `from` sends on, and the same one as its peer receives it.
channel::InstallSa outbound_sa(const SaOptions& options, std::uint32_t spi = 0x1000);
channel::InstallSa inbound_sa(const SaOptions& options, std::uint32_t spi = 0x1000);

// ---- packets ----

struct PacketOptions {
  std::string source = "10.1.0.9", destination = "10.2.0.7";
  std::uint8_t protocol = 17;
  std::uint8_t ttl = 64;
  std::uint8_t traffic_class = 0;
  std::uint16_t fragment = 0x4000;  ///< IPv4 flags and offset
  Packet payload = Packet(32, 0x5a);
};
Packet ip_packet(const PacketOptions& options);
/// UDP from a client to the far side, so many bytes of data.
PacketOptions from_client(bool is_v6, std::size_t bytes);
/// An IPv6 packet with eight bytes of an extension header, of which the first says what follows.
Packet behind_extension(Packet ip, std::uint8_t type, Packet header);
Packet frame(const Packet& ip, std::uint16_t type = 0);
Packet udp(std::uint16_t source, std::uint16_t destination, const Packet& data);
/// A frame's IP packet.
Packet ip_of(const Packet& frame);
/// ICMP or ICMPv6 echo request with a right checksum.
Packet echo_request(const std::string& source, const std::string& destination);
/// The header checksum again, after a test changed the header.
void fix_checksum(Packet& frame);

}  // namespace culvert::test
