// The stages of a packet's way and the worker's state that they share. The worker alone knows their
// order; a stage never calls a stage.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include <rte_cycles.h>
#include <rte_mbuf_core.h>
#include <rte_prefetch.h>

#include "dataplane/tables/counters.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/tables/tables.hpp"
#include "dataplane/worker/burst.hpp"
#include "dataplane/worker/bypassed_packets.hpp"
#include "dataplane/worker/crypto_scratch.hpp"
#include "dataplane/worker/early_packets.hpp"
#include "dataplane/worker/flow_cache.hpp"
#include "dataplane/worker/fragment_budget.hpp"
#include "dataplane/worker/held_frames.hpp"
#include "dataplane/worker/known_flows.hpp"
#include "dataplane/worker/pending.hpp"
#include "dataplane/worker/reassembly.hpp"
#include "dataplane/worker/resynchronize.hpp"
#include "dataplane/worker/search_pace.hpp"
#include "dataplane/worker/worker.hpp"
#include "wire/esp.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {

/// Frames that wait for a port until the burst is through. Twice a burst: a hand-off may follow.
struct TransmitQueue {
  static constexpr std::uint32_t kCapacity = 2 * kBurstPackets;
  std::array<rte_mbuf*, kCapacity> frames;
  std::uint32_t count = 0;
  std::uint32_t bytes = 0;
};

/// Packets of the burst that are too large sealed and are cut then, by position.
class OversizePackets {
 public:
  void add(std::uint32_t position, std::uint16_t mtu) {
    mtus_[position] = mtu;
    is_empty_ = false;
  }
  /// 0: not one of them.
  [[nodiscard]] std::uint16_t mtu_of(std::uint32_t position) const { return mtus_[position]; }
  [[nodiscard]] bool is_empty() const { return is_empty_; }
  void clear() {
    mtus_ = {};
    is_empty_ = true;
  }

 private:
  std::array<std::uint16_t, kBurstPackets> mtus_{};
  bool is_empty_ = true;
};

/// What may be ESP for a plain SA (SaDetails, kPlainIvBytes): in IPv4 without options, in UDP in
/// it, or in IPv6 without extension headers.
struct ArrivedEsp {
  std::uint8_t* esp;
  InboundSa* sa;                 ///< where its SPI would stand
  std::uint16_t bytes;           ///< from the ESP header to the ICV
  std::uint16_t bytes_in_front;  ///< of the IP header, and UDP's
  std::uint16_t position;        ///< in the burst
  /// Frames behind it in the burst that begin alike (Train), not looked at any further.
  std::uint16_t followers;

  [[nodiscard]] const std::uint8_t* ip() const { return esp - bytes_in_front; }
  [[nodiscard]] std::uint32_t spi() const { return wire::load_u32(esp); }
  [[nodiscard]] std::uint32_t spi_raw() const { return wire::load_raw<std::uint32_t>(esp); }
  [[nodiscard]] std::uint32_t sequence() const { return wire::load_u32(esp + 4); }
  /// UDP's, source and destination as in the packet, of ESP in UDP.
  [[nodiscard]] std::uint32_t ports() const {
    return wire::load_raw<std::uint32_t>(esp - wire::udp::kHeaderBytes);
  }
};

/// Those of a burst, in packets of one family.
struct Arrivals {
  std::array<ArrivedEsp, kBurstPackets> packets;
  ArrivedEsp* end = packets.data();

  Arrivals() = default;
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;
};

/// Around the text of ESP for a plain SA.
inline constexpr std::uint32_t kAroundPlain =
    wire::esp::kHeaderBytes + kPlainIvBytes + kPlainIcvBytes;
/// The least that has a short way: an empty datagram of UDP inside, padded.
inline constexpr std::uint32_t kLeastPlainEsp = kAroundPlain + 32;
static_assert(kLeastPlainEsp % wire::esp::kAlignment == 0);
/// Of ESP for a plain SA, from its header to the ICV.
[[nodiscard]] inline bool has_plain_length(std::uint32_t esp_bytes) {
  // One that is too short has its upper bits set.
  constexpr std::uint32_t kWrong = 0xffff0000U | (wire::esp::kAlignment - 1);
  return ((esp_bytes - kLeastPlainEsp) & kWrong) == 0;
}

/// Buffers that have ended and are not free yet.
inline constexpr std::size_t kMostGivenBack = std::size_t{4} * kBurstPackets;

/// A worker's own state. Nothing in it is seen by another thread but the counters.
class WorkerState {
 public:
  explicit WorkerState(WorkerContext& context);

  WorkerContext& context;
  Tables& tables;
  WorkerCounters& counters;
  SharedAdd shared_add;
  FlowCacheV4 flows_v4;
  FlowCacheV6 flows_v6;
  KnownFlows known_flows;
  KnownFlowsV6 known_flows_v6;
  KnownCandidatesOf<KnownFlowKey> known;       ///< classify, inbound → send_known
  KnownCandidatesOf<KnownFlowKeyV6> known_v6;  ///< likewise
  Arrivals arrived;                            ///< classify → open_plain
  Arrivals arrived_v6;                         ///< likewise
  Counter unnamed;                 ///< packets of known flows that no policy names; nobody reads it
  std::uint64_t era_of_burst = 0;  ///< Reclaimer::era when the iteration in hand began
  /// The list that the packets of the iteration in hand meet; not older than its era.
  const SpdSnapshot* policies = nullptr;
  std::uint64_t policy_generation = 0;  ///< its, when the iteration began: nothing met an older one
  SearchPace pace;
  std::size_t turn = 0;             ///< of ports and rings, while the pace is small
  bool went_the_short_way = false;  ///< all of the last burst that was protected or ESP
  /// Received next, by port. Of few packets all that is known of them stays in the first-level
  /// cache; lanes of multi-buffer ciphers want many.
  std::array<std::uint16_t, kMaxPorts> burst_packets;
  std::uint16_t short_burst;               ///< where the last one went the short way
  std::array<HeldFrames, kMaxPorts> held;  ///< received, by port
  bool may_hold = false;                   ///< false: `held` has none
  CryptoScratch scratch;
  std::array<TransmitQueue, kMaxPorts> transmit;
  PendingPackets pending;
  EarlyPackets early;
  OversizePackets oversize;
  Reassembler reassembler;
  BypassedPackets bypassed;
  std::uint64_t last_expiry = 0;       ///< TSC
  std::uint64_t next_spi_hint = 0;     ///< TSC: the main thread sees no unknown SPI before
  std::uint64_t next_unreachable = 0;  ///< TSC: the main thread hears of no unreachable one before
  const std::uint64_t millisecond;     ///< in TSC cycles
  Resynchronizer resynchronizer{millisecond};
  FragmentBudget fragment_budget{millisecond};
  std::uint64_t early_patience;  ///< how long ESP waits for its SA, in TSC cycles

  template <typename Family>
  [[nodiscard]] auto& flows_of() {
    if constexpr (std::is_same_v<Family, Ipv4>)
      return known_flows;
    else
      return known_flows_v6;
  }
  template <typename Family>
  [[nodiscard]] auto& offered() {
    if constexpr (std::is_same_v<Family, Ipv4>)
      return known;
    else
      return known_v6;
  }
  template <typename Family>
  [[nodiscard]] Arrivals& arrivals() {
    if constexpr (std::is_same_v<Family, Ipv4>)
      return arrived;
    else
      return arrived_v6;
  }
  /// Of fragments that we are the source of; workers do not meet within 2^16 packets of each other.
  std::uint32_t next_identification() { return identification_ += tables.workers; }
  /// What follows is this stage's work.
  void enter(Stage stage) {
    if (context.stage_clock != nullptr) [[unlikely]]
      context.stage_clock->enter(stage, rte_rdtsc());
  }
  [[nodiscard]] bool has_pending() const { return (pending.count() | reassembler.held()) != 0; }

  /// The end of a packet: counted once; its buffer is freed with the others of the burst.
  void drop(rte_mbuf* packet, DropDirection direction, DropReason reason) {
    counters.drop(direction, reason);
    give_back(packet);
  }
  /// Consumed: the buffer is freed, nothing is counted.
  void give_back(rte_mbuf* packet) {
    if (ended_count_ == ended_.size()) [[unlikely]]
      free_given_back();
    ended_[ended_count_++] = packet;
  }
  void free_given_back();

 private:
  std::array<rte_mbuf*, kMostGivenBack> ended_;
  std::uint32_t ended_count_ = 0;
  std::uint32_t identification_;
};

// worker.cpp
/// Everything once: what each port, the other workers and the main thread have. False: nothing.
bool run_iteration(WorkerState& worker, Burst& burst);

/// What an iteration took, in TSC cycles; with packets or without.
void count_iteration(WorkerCounters& counters, std::uint64_t cycles, bool found,
                     std::uint64_t millisecond);

// rx.cpp
/// Up to a burst from the worker's queue of a port.
void receive(WorkerState& worker, PortId port, Burst& burst);
/// Frames that other workers received: ESP for SAs of this one, fragments that meet here.
void receive_handed_off(WorkerState& worker, Burst& burst);
/// What the main thread gives: frames go to their port at once, IP packets to policy, dummies are
/// pending. How many there were of all.
std::uint32_t receive_injected(WorkerState& worker, Burst& burst);

// classify.cpp
/// Frame → IP packet, told apart: encrypted for us, or undecided. ARP and ND are punted.
void classify(WorkerState& worker, Burst& burst);
/// For inbound: one frame that was taken for another's follower and is not.
void classify_follower(WorkerState& worker, Burst& burst, std::uint32_t position);

// known_inbound.cpp
/// For classify: ESP (of at least a header) in packets without options or extension headers, whole
/// and sound. One at a time of a family.
template <typename Family>
class ArrivalRun {
 public:
  explicit ArrivalRun(WorkerState& worker)
      : worker_(worker), sad_(*worker.tables.sad), next_(worker.arrivals<Family>().end) {}
  ~ArrivalRun() { worker_.arrivals<Family>().end = next_; }
  ArrivalRun(const ArrivalRun&) = delete;
  ArrivalRun& operator=(const ArrivalRun&) = delete;

  /// Whether it has the SPI of the one before.
  bool add(std::uint32_t position, std::uint8_t* esp, std::size_t esp_bytes,
           std::size_t bytes_in_front) {
    assert(next_ != worker_.arrivals<Family>().packets.data() + kBurstPackets);
    const std::uint32_t spi = wire::load_u32(esp);
    const bool is_again = spi == last_spi_;
    last_spi_ = spi;
    InboundSa* const sa = sad_.place_of(spi);
    rte_prefetch0(sa);
    rte_prefetch0(&sa->highest);  // the second line
    ArrivedEsp& arrived = *next_++;
    arrived.esp = esp;
    arrived.sa = sa;
    arrived.bytes = static_cast<std::uint16_t>(esp_bytes);
    arrived.bytes_in_front = static_cast<std::uint16_t>(bytes_in_front);
    arrived.position = static_cast<std::uint16_t>(position);
    arrived.followers = 0;
    return is_again;
  }
  [[nodiscard]] ArrivedEsp& last() { return next_[-1]; }

 private:
  WorkerState& worker_;
  const Sad& sad_;
  ArrivedEsp* next_;
  std::uint32_t last_spi_ = 0;
};
/// What arrived for plain SAs → offered to `send_known`, decrypted and checked; what cannot go that
/// way is encrypted still, or undecided.
void open_plain(WorkerState& worker, Burst& burst);

// inbound.cpp
/// RFC 4303 §3.4, RFC 4301 §5.2: encrypted → undecided, decrypted and checked.
void open_inbound(WorkerState& worker, Burst& burst);

// early.cpp
/// ESP for us with an SPI that Sad::is_expected. False: no room, it is the caller's to drop.
[[nodiscard]] bool hold_early(WorkerState& worker, const Burst& burst, std::uint32_t position,
                              std::uint32_t spi);
/// What was held and has its SA now, in bursts of its own, before what came later; what waited in
/// vain ends.
void serve_early(WorkerState& worker, Burst& burst, void (*process)(WorkerState&, Burst&));
/// All that is held ends: the worker stops.
void drop_early(WorkerState& worker);

// known_outbound.cpp
/// For classify and inbound: packets that may be of known flows are offered to `send_known` instead
/// of being undecided. One at a time of a family.
template <typename Family>
class OfferRun {
 public:
  using Key = Family::Key;
  explicit OfferRun(WorkerState& worker)
      : worker_(worker), flows_(worker.flows_of<Family>()), next_(worker.offered<Family>().end) {}
  ~OfferRun() { worker_.offered<Family>().end = next_; }
  OfferRun(const OfferRun&) = delete;
  OfferRun& operator=(const OfferRun&) = delete;

  void add(rte_mbuf* packet, std::uint32_t position, std::uint8_t* ip, std::uint32_t bytes,
           const Key& key) {
    assert(next_ != worker_.offered<Family>().packets.data() + kBurstPackets);
    KnownCandidateOf<Key>& candidate = *next_++;
    const auto& pair = flows_.pair_of(key);
    // The second line, too: of IPv4 it is the pair's other flow.
    rte_prefetch0(&pair);
    rte_prefetch0(reinterpret_cast<const std::uint8_t*>(&pair) + 64);
    candidate.packet = packet;
    candidate.ip = ip;
    candidate.key = key;
    candidate.pair = &pair;
    candidate.bytes = static_cast<std::uint16_t>(bytes);
    candidate.position = static_cast<std::uint16_t>(position);
  }

 private:
  WorkerState& worker_;
  const KnownFlowsOf<Key>& flows_;
  KnownCandidateOf<Key>* next_;
};
/// What was offered → its port's transmit queue, sealed if it is to be; what cannot go that way is
/// undecided.
void send_known(WorkerState& worker, Burst& burst);

// learn_flow.cpp
/// What policy decided of the flow of a packet: `outbound` is the SA that protects it, kNoSlot when
/// it leaves as it is; `policy` counts the packets of the policy that named it, if one did.
void learn_flow(WorkerState& worker, const Burst& burst, std::uint32_t position, SlotIndex outbound,
                Counter* policy);

// policy.cpp
/// RFC 4301 §5.1: undecided → ours, protect or route.
void decide(WorkerState& worker, Burst& burst);

// local.cpp
/// Ours → answered (undecided again, as our own), punted or dropped.
void serve_local(WorkerState& worker, Burst& burst);

// outbound.cpp
/// RFC 4303 §3.3: protect → sealed.
void seal_outbound(WorkerState& worker, Burst& burst);

// forward.cpp
/// route and sealed → their port's transmit queue.
void forward(WorkerState& worker, Burst& burst);

// vlan.cpp
/// Packets of a device with VLANs, received on the first of its ports: each goes on as received on
/// the port of its tags, without them, or is dropped.
void sort_tagged(WorkerState& worker, PortId polled, Burst& burst);
/// Takes a tag without a VLAN off a frame for an untagged port (IEEE 802.1Q §9.6: ID 0 is a
/// priority only). False: there is none, or a VLAN's as well.
bool take_priority_tag(rte_mbuf* packet);
/// Puts a port's tags on what waits for it.
void add_tags(WorkerState& worker, PortId port);

// tx.cpp
/// Sends a port's queue.
void flush(WorkerState& worker, PortId port);
/// Puts a complete frame into its port's queue, sending what is there when it is full.
inline void enqueue(WorkerState& worker, PortId port, rte_mbuf* frame) {
  if (raw(port) >= worker.tables.ports.size()) [[unlikely]] {
    worker.drop(frame, DropDirection::out, DropReason::no_route);
    return;
  }
  TransmitQueue& queue = worker.transmit[raw(port)];
  if (queue.count == TransmitQueue::kCapacity) [[unlikely]]
    flush(worker, port);
  queue.frames[queue.count++] = frame;
  queue.bytes += frame->pkt_len;
}
/// Many frames for one port are put into its queue with less ado than by `enqueue`.
class EnqueueRun {
 public:
  explicit EnqueueRun(WorkerState& worker) : worker_(worker) {}
  ~EnqueueRun() { end(); }
  EnqueueRun(const EnqueueRun&) = delete;
  EnqueueRun& operator=(const EnqueueRun&) = delete;

  void add(PortId port, rte_mbuf* frame) {
    if (port != port_ || next_ == full_) [[unlikely]] {
      if (!begin(port)) return enqueue(worker_, port, frame);
    }
    *next_++ = frame;
    bytes_ += frame->pkt_len;
  }

 private:
  /// False: this frame is not for the run.
  bool begin(PortId port) {
    end();
    if (raw(port) >= worker_.tables.ports.size()) return false;
    TransmitQueue& queue = worker_.transmit[raw(port)];
    if (queue.count == TransmitQueue::kCapacity) return false;
    next_ = queue.frames.data() + queue.count;
    full_ = queue.frames.data() + TransmitQueue::kCapacity;
    port_ = port;
    return true;
  }
  void end() {
    if (port_ == kNone) return;
    TransmitQueue& queue = worker_.transmit[raw(port_)];
    queue.count = static_cast<std::uint32_t>(next_ - queue.frames.data());
    queue.bytes += bytes_;
    bytes_ = 0;
    port_ = kNone;
    next_ = full_ = nullptr;  // whatever the port, the next frame begins a run
  }

  static constexpr PortId kNone{0xffff};
  WorkerState& worker_;
  PortId port_ = kNone;
  rte_mbuf** next_ = nullptr;
  rte_mbuf** full_ = nullptr;
  std::uint32_t bytes_ = 0;
};
/// Sends every port's queue.
void transmit_all(WorkerState& worker);

// punt.cpp
/// Hands a packet to the main thread. The data begins at the IP header.
void punt_ip(WorkerState& worker, Burst& burst, std::uint32_t position, PuntedPacket what);
/// The data begins at the Ethernet header of a received frame.
void punt_frame(WorkerState& worker, Burst& burst, std::uint32_t position, PuntReason reason);
/// The first fragment of a packet that did not become whole in time. No burst has it any more.
void punt_overdue(WorkerState& worker, const Fragment& first);

// leaf: an mbuf's bytes.
/// The bytes from `begin` on become the mbuf's data.
inline void set_data(rte_mbuf* packet, const std::uint8_t* begin, std::uint16_t bytes) {
  const auto* const buffer = static_cast<const std::uint8_t*>(packet->buf_addr);
  assert(begin >= buffer && begin + bytes <= buffer + packet->buf_len);
  packet->data_off = static_cast<std::uint16_t>(begin - buffer);
  packet->data_len = bytes;
  packet->pkt_len = bytes;
}

}  // namespace culvert::dataplane
