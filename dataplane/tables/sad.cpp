#include "dataplane/tables/sad.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>
#include <unordered_map>
#include <utility>

#include "dataplane/tables/mapped_array.hpp"
#include "dataplane/tables/outer_header.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/tables/spi_table.hpp"

namespace culvert::dataplane {
namespace {

using channel::Direction;
using channel::InstallSa;
using channel::Outcome;

/// An SA's secret and its window. Wiped when it ends.
struct KeyBlock {
  crypto::esp::ExpandedKey* key = nullptr;  ///< in the table of keys, at the SA's slot
  std::vector<ReplayWord> window;

  void wipe() {
    if (key != nullptr) crypto::wipe(key, sizeof(*key));
    key = nullptr;
  }
};

/// The control side of an SA beside its record.
struct Installed {
  SaRecord record;
  std::unique_ptr<SaDetails> details;
  KeyBlock block;
  bool endpoints_in_grace = false;
};

std::uint64_t limit_or_none(std::uint64_t configured) {
  return configured == 0 ? ~0ULL : configured;
}

/// Whether the selectors are one IPv4 range a side with any protocol and any port.
bool make_simple(const SaDetails& details, SimpleSelectors& simple) {
  if (details.local.size() != 1 || details.remote.size() != 1) return false;
  const wire::TrafficSelector& local = details.local.front();
  const wire::TrafficSelector& remote = details.remote.front();
  for (const wire::TrafficSelector* selector : {&local, &remote}) {
    if (!selector->first.is_v4() || !selector->any_protocol() || !selector->any_port()) {
      return false;
    }
  }
  simple = {remote.first.v4_host(), remote.last.v4_host() - remote.first.v4_host(),
            local.first.v4_host(), local.last.v4_host() - local.first.v4_host()};
  return true;
}

/// The eight bytes of source and destination as an IPv4 packet from the peer holds them.
std::uint64_t inbound_addresses(const SaEndpoints& outer) {
  std::array<std::uint8_t, 8> bytes{};
  std::copy_n(outer.remote.address.bytes.begin(), 4, bytes.begin());
  std::copy_n(outer.local.address.bytes.begin(), 4, bytes.begin() + 4);
  return wire::load_raw<std::uint64_t>(bytes.data());
}
std::uint32_t inbound_ports(const SaEndpoints& outer) {
  std::array<std::uint8_t, 4> bytes{};
  wire::store_u16(bytes.data(), outer.remote.port);
  wire::store_u16(bytes.data() + 2, outer.local.port);
  return wire::load_raw<std::uint32_t>(bytes.data());
}

class SadTable final : public Sad {
 public:
  SadTable(std::uint32_t capacity, const crypto::esp::Engine& engine, Reclaimer& reclaimer)
      : capacity_(std::bit_ceil(std::max(capacity, 16U))),
        slot_bits_(static_cast<unsigned>(std::countr_zero(capacity_))),
        engine_(engine),
        reclaimer_(reclaimer),
        inbound_slots_(capacity_),
        outbound_slots_(capacity_),
        generations_(capacity_),
        leased_(capacity_, false),
        foreign_(capacity_) {
    // Generations begin anywhere, so that a peer's packets for an SA of before a restart do not
    // meet another one.
    const std::uint32_t first = first_generation();
    const std::uint32_t choices = (1U << (32U - slot_bits_)) - first;
    for (std::uint32_t& generation : generations_) generation = first + random_() % choices;
  }

  ~SadTable() override {
    reclaimer_.drain();  // what was removed names this
    for (auto& [id, installed] : installed_) installed->block.wipe();
  }
  SadTable(const SadTable&) = delete;
  SadTable& operator=(const SadTable&) = delete;

  [[nodiscard]] bool allocate() {
    if (!inbound_.map(capacity_) || !outbound_.map(capacity_)) return false;
    for (std::uint32_t slot = 0; slot < capacity_; ++slot) {
      new (&outbound_[slot]) OutboundSa;  // stopped is not zero
    }
    return keys_[0].map(capacity_) && keys_[1].map(capacity_);
  }

  std::vector<channel::Spi> lease_spis(std::uint32_t count) override;
  void return_leases() override;
  std::expected<SlotIndex, Outcome> install(const InstallSa& request,
                                            std::uint64_t now_tsc) override;
  std::expected<SlotIndex, Outcome> install_manual(const InstallSa& request,
                                                   std::uint64_t now_tsc) override;
  Outcome remove(channel::SaId sa) override;
  Outcome update_endpoints(const channel::UpdateEndpoints& request) override;
  void stop(channel::SaId sa, StopCause cause) override;

  [[nodiscard]] SaRecord* find(channel::SaId sa) override {
    const auto found = installed_.find(raw(sa));
    return found == installed_.end() ? nullptr : &found->second->record;
  }
  [[nodiscard]] SaRecord* find_inbound(channel::Spi spi) override {
    const InboundSa* const sa = inbound(static_cast<std::uint32_t>(spi));
    return sa == nullptr ? nullptr : find(channel::SaId{sa->details->sa_id});
  }
  void for_each(const std::function<void(SaRecord&)>& visit) override {
    for (auto& [id, installed] : installed_) visit(installed->record);
  }
  [[nodiscard]] std::uint32_t count(Direction direction) const override {
    return counts_[raw(direction)];
  }
  [[nodiscard]] SaTraffic traffic(const SaRecord& record) const override;
  [[nodiscard]] StopCause stopped(const SaRecord& record) const override {
    return installed_.at(raw(record.spec.sa))->details->stop_cause.load(std::memory_order_relaxed);
  }

  [[nodiscard]] InboundSa* inbound(std::uint32_t spi) const override {
    InboundSa& sa = inbound_[spi & (capacity_ - 1)];
    // Acquire pairs with the release in `publish_inbound`.
    if (sa.spi.load(std::memory_order_acquire) == spi && spi != 0) [[likely]]
      return &sa;
    const SlotIndex slot = foreign_.find(spi);
    if (slot == kNoSlot) return nullptr;
    InboundSa& elsewhere = inbound_[raw(slot)];
    return elsewhere.spi.load(std::memory_order_acquire) == spi ? &elsewhere : nullptr;
  }
  [[nodiscard]] OutboundSa* outbound(SlotIndex slot) const override {
    return raw(slot) < capacity_ ? &outbound_[raw(slot)] : nullptr;
  }

 private:
  /// The smallest generation that lifts an SPI over the reserved ones (RFC 4303 §2.1).
  [[nodiscard]] std::uint32_t first_generation() const {
    return (channel::kFirstFreeSpi >> slot_bits_) + 1;
  }
  [[nodiscard]] std::uint32_t spi_of(SlotIndex slot) const {
    return (generations_[raw(slot)] << slot_bits_) | static_cast<std::uint32_t>(raw(slot));
  }
  void next_generation(SlotIndex slot) {
    std::uint32_t& generation = generations_[raw(slot)];
    ++generation;
    if (generation >> (32U - slot_bits_) != 0) generation = first_generation();
  }
  [[nodiscard]] std::expected<SlotIndex, Outcome> slot_of_lease(channel::Spi spi) const;
  [[nodiscard]] std::expected<SlotIndex, Outcome> slot_for_manual(std::uint32_t spi);
  [[nodiscard]] std::expected<std::unique_ptr<Installed>, Outcome> prepare(SlotIndex slot,
                                                                           const InstallSa& request,
                                                                           std::uint64_t now_tsc);
  void publish_inbound(SlotIndex slot, Installed& installed);
  void publish_outbound(SlotIndex slot, Installed& installed, std::uint32_t salt);
  std::expected<SlotIndex, Outcome> install_at(SlotIndex slot, const InstallSa& request,
                                               std::uint64_t now_tsc);
  std::expected<SlotIndex, Outcome> install_outbound(const InstallSa& request,
                                                     std::uint64_t now_tsc);
  void give_back(Direction direction, SlotIndex slot);

  std::uint32_t capacity_;
  unsigned slot_bits_;
  const crypto::esp::Engine& engine_;
  Reclaimer& reclaimer_;
  SlotAllocator inbound_slots_, outbound_slots_;
  std::random_device random_;
  std::vector<std::uint32_t> generations_;
  std::vector<bool> leased_;
  ForeignSpis foreign_;
  MappedArray<InboundSa> inbound_;  ///< vacant: zero bytes
  MappedArray<OutboundSa> outbound_;
  std::array<MappedArray<crypto::esp::ExpandedKey>, 2> keys_;  ///< by direction and slot
  std::array<std::uint32_t, 2> counts_{};
  std::unordered_map<std::uint64_t, std::unique_ptr<Installed>> installed_;
};

std::vector<channel::Spi> SadTable::lease_spis(std::uint32_t count) {
  std::vector<channel::Spi> spis;
  while (spis.size() < count) {
    const auto slot = inbound_slots_.take();
    if (!slot) break;
    // A manual SA may have chosen what would be the next SPI of this slot.
    while (inbound(spi_of(*slot)) != nullptr) next_generation(*slot);
    leased_[raw(*slot)] = true;
    spis.push_back(channel::Spi{spi_of(*slot)});
  }
  return spis;
}

void SadTable::return_leases() {
  for (std::uint32_t slot = 0; slot < capacity_; ++slot) {
    if (!leased_[slot]) continue;
    leased_[slot] = false;
    give_back(Direction::in, SlotIndex{slot});
  }
}

void SadTable::give_back(Direction direction, SlotIndex slot) {
  if (direction == Direction::in) {
    next_generation(slot);
    inbound_slots_.give_back(slot);
  } else {
    outbound_slots_.give_back(slot);
  }
}

std::expected<SlotIndex, Outcome> SadTable::slot_of_lease(channel::Spi spi) const {
  const auto value = static_cast<std::uint32_t>(spi);
  const SlotIndex slot{value & (capacity_ - 1)};
  if (inbound(value) != nullptr) return std::unexpected(Outcome::duplicate);
  if (!leased_[raw(slot)] || spi_of(slot) != value) {
    return std::unexpected(Outcome::spi_not_leased);
  }
  return slot;
}

/// The slot that the SPI indexes, so that the fast path finds it; else any, and a foreign SPI.
std::expected<SlotIndex, Outcome> SadTable::slot_for_manual(std::uint32_t spi) {
  if (spi < channel::kFirstFreeSpi) return std::unexpected(Outcome::invalid_field);
  const SlotIndex preferred{spi & (capacity_ - 1)};
  const bool is_leased = leased_[raw(preferred)] && spi_of(preferred) == spi;
  if (is_leased || inbound(spi) != nullptr) return std::unexpected(Outcome::duplicate);
  if (inbound_slots_.take(preferred)) return preferred;
  const auto slot = inbound_slots_.take();
  if (!slot) return std::unexpected(Outcome::no_room);
  if (!foreign_.insert(spi, *slot)) {
    inbound_slots_.give_back(*slot);
    return std::unexpected(Outcome::no_room);
  }
  return *slot;
}

std::expected<std::unique_ptr<Installed>, Outcome> SadTable::prepare(SlotIndex slot,
                                                                     const InstallSa& request,
                                                                     std::uint64_t now_tsc) {
  const bool is_gcm = request.suite.encryption == crypto::Encryption::aes_gcm_16 &&
                      request.suite.integrity == crypto::Integrity::none;
  if (!is_gcm || !engine_.supports(request.suite)) {
    return std::unexpected(Outcome::unsupported_suite);
  }
  const std::size_t cipher_bytes = request.suite.encryption_key_bytes();
  const crypto::Bytes key = request.key.view();
  if (key.size() != cipher_bytes + kEspSaltBytes) return std::unexpected(Outcome::invalid_field);
  if (request.replay_window > channel::kMaxReplayWindow) {
    return std::unexpected(Outcome::invalid_field);
  }
  auto installed = std::make_unique<Installed>();
  installed->block.key = &keys_[raw(request.direction)][raw(slot)];
  if (request.direction == Direction::in) {
    installed->block.window.resize(replay_words(request.replay_window));
  }
  if (!engine_.expand(request.suite, key.first(cipher_bytes), *installed->block.key)) {
    installed->block.wipe();
    return std::unexpected(Outcome::unsupported_suite);
  }
  installed->record.spec = request;
  installed->record.spec.key.wipe();
  installed->record.installed_tsc = now_tsc;
  auto details = std::make_unique<SaDetails>();
  details->sa_id = raw(request.sa);
  details->suite = request.suite;
  const auto copy = [](const channel::SelectorSet& from, std::vector<wire::TrafficSelector>& to) {
    const std::size_t count = std::min<std::size_t>(from.count, from.items.size());
    to.assign(from.items.begin(), from.items.begin() + static_cast<std::ptrdiff_t>(count));
  };
  copy(request.local_selectors, details->local);
  copy(request.remote_selectors, details->remote);
  details->endpoints[0] = {request.local, request.remote};
  installed->details = std::move(details);
  return installed;
}

/// The four bytes behind the cipher key (RFC 4106 §8.1).
std::uint32_t salt_of(const InstallSa& request) {
  return wire::load_raw<std::uint32_t>(request.key.bytes.data() +
                                       request.suite.encryption_key_bytes());
}

void SadTable::publish_inbound(SlotIndex slot, Installed& installed) {
  const InstallSa& spec = installed.record.spec;
  InboundSa& sa = inbound_[raw(slot)];
  sa.key = installed.block.key;
  sa.window = installed.block.window.data();
  sa.details = installed.details.get();
  sa.outer_addresses.store(inbound_addresses(installed.details->endpoints[0]),
                           std::memory_order_relaxed);
  sa.outer_ports.store(inbound_ports(installed.details->endpoints[0]), std::memory_order_relaxed);
  sa.window_packets = spec.replay_window;
  sa.window_mask = spec.replay_window == 0 ? 0 : replay_words(spec.replay_window) - 1;
  sa.slot = slot;
  sa.is_tunnel = spec.mode == channel::SaMode::tunnel;
  sa.has_esn = spec.esn;
  sa.has_udp = spec.udp_encapsulation;
  sa.outer_is_v4 = spec.local.address.is_v4();
  sa.selectors_are_simple = make_simple(*installed.details, sa.selectors);
  sa.stopped.store(false, std::memory_order_relaxed);
  sa.highest = 0;
  sa.packets.store(0, std::memory_order_relaxed);
  sa.bytes.store(0, std::memory_order_relaxed);
  sa.last_tsc.store(0, std::memory_order_relaxed);
  sa.hard_bytes = limit_or_none(spec.lifetime.hard_bytes);
  sa.hard_packets = limit_or_none(spec.lifetime.hard_packets);
  // Release pairs with the acquire in `inbound`: all of the above before the SPI.
  sa.spi.store(static_cast<std::uint32_t>(spec.spi), std::memory_order_release);
}

void SadTable::publish_outbound(SlotIndex slot, Installed& installed, std::uint32_t salt) {
  const InstallSa& spec = installed.record.spec;
  OutboundSa& sa = outbound_[raw(slot)];
  sa.key = installed.block.key;
  sa.details = installed.details.get();
  sa.is_tunnel = spec.mode == channel::SaMode::tunnel;
  sa.has_esn = spec.esn;
  sa.current_header.store(0, std::memory_order_relaxed);
  sa.headers[0] = build_outer_header(spec);
  sa.headers[0].salt = salt;
  sa.iv_start = random_();
  sa.sequence.store(0, std::memory_order_relaxed);
  sa.bytes.store(0, std::memory_order_relaxed);
  sa.last_tsc.store(0, std::memory_order_relaxed);
  sa.sequence_limit = std::min<std::uint64_t>(limit_or_none(spec.lifetime.hard_packets),
                                              spec.esn ? ~0ULL : 0xffffffffULL);
  sa.hard_bytes = limit_or_none(spec.lifetime.hard_bytes);
  // Release pairs with the acquire in the outbound stage.
  sa.stopped.store(false, std::memory_order_release);
}

std::expected<SlotIndex, Outcome> SadTable::install_at(SlotIndex slot, const InstallSa& request,
                                                       std::uint64_t now_tsc) {
  auto prepared = prepare(slot, request, now_tsc);
  if (!prepared) return std::unexpected(prepared.error());
  Installed& installed = **prepared;
  installed.record.slot = slot;
  if (request.direction == Direction::in) {
    inbound_[raw(slot)].salt = salt_of(request);
    publish_inbound(slot, installed);
  } else {
    publish_outbound(slot, installed, salt_of(request));
  }
  ++counts_[raw(request.direction)];
  installed_.emplace(raw(request.sa), std::move(*prepared));
  return slot;
}

std::expected<SlotIndex, Outcome> SadTable::install_outbound(const InstallSa& request,
                                                             std::uint64_t now_tsc) {
  const auto slot = outbound_slots_.take();
  if (!slot) return std::unexpected(Outcome::no_room);
  auto done = install_at(*slot, request, now_tsc);
  if (!done) outbound_slots_.give_back(*slot);
  return done;
}

std::expected<SlotIndex, Outcome> SadTable::install(const InstallSa& request,
                                                    std::uint64_t now_tsc) {
  if (find(request.sa) != nullptr) return std::unexpected(Outcome::duplicate);
  if (request.direction == Direction::out) return install_outbound(request, now_tsc);
  const auto slot = slot_of_lease(request.spi);
  if (!slot) return slot;
  auto done = install_at(*slot, request, now_tsc);  // a failure leaves the lease
  if (done) leased_[raw(*slot)] = false;
  return done;
}

std::expected<SlotIndex, Outcome> SadTable::install_manual(const InstallSa& request,
                                                           std::uint64_t now_tsc) {
  if (find(request.sa) != nullptr) return std::unexpected(Outcome::duplicate);
  if (request.direction == Direction::out) return install_outbound(request, now_tsc);
  const auto spi = static_cast<std::uint32_t>(request.spi);
  const auto slot = slot_for_manual(spi);
  if (!slot) return slot;
  auto done = install_at(*slot, request, now_tsc);
  if (!done) {
    foreign_.remove(spi);
    inbound_slots_.give_back(*slot);
  }
  return done;
}

Outcome SadTable::remove(channel::SaId id) {
  const auto found = installed_.find(raw(id));
  if (found == installed_.end()) return Outcome::unknown_sa;
  std::shared_ptr<Installed> installed = std::move(found->second);
  installed_.erase(found);
  const SlotIndex slot = installed->record.slot;
  const Direction direction = installed->record.spec.direction;
  --counts_[raw(direction)];
  if (direction == Direction::in) {
    // Relaxed: workers that still hold it may finish their burst; the grace period covers them.
    inbound_[raw(slot)].spi.store(0, std::memory_order_relaxed);
    foreign_.remove(static_cast<std::uint32_t>(installed->record.spec.spi));
  } else {
    outbound_[raw(slot)].stopped.store(true, std::memory_order_relaxed);
  }
  reclaimer_.retire([this, installed, direction, slot] {
    installed->block.wipe();
    if (direction == Direction::in) {
      inbound_[raw(slot)].salt = 0;
      inbound_[raw(slot)].key = nullptr;
      inbound_[raw(slot)].window = nullptr;
      inbound_[raw(slot)].details = nullptr;
    } else {
      // A policy that still names the slot meets a stopped SA that points nowhere.
      outbound_[raw(slot)].headers = {};
      outbound_[raw(slot)].key = nullptr;
      outbound_[raw(slot)].details = nullptr;
    }
    give_back(direction, slot);
  });
  return Outcome::ok;
}

Outcome SadTable::update_endpoints(const channel::UpdateEndpoints& request) {
  const auto found = installed_.find(raw(request.sa));
  if (found == installed_.end()) return Outcome::unknown_sa;
  Installed& installed = *found->second;
  InstallSa& spec = installed.record.spec;
  if (request.local.address.family != spec.local.address.family ||
      request.remote.address.family != spec.remote.address.family) {
    return Outcome::invalid_field;
  }
  // The spare set may still be read from before the last change.
  if (installed.endpoints_in_grace) reclaimer_.drain();
  installed.endpoints_in_grace = true;
  const channel::SaId id = request.sa;
  reclaimer_.retire([this, id] {
    const auto still = installed_.find(raw(id));
    if (still != installed_.end()) still->second->endpoints_in_grace = false;
  });
  spec.local = request.local;
  spec.remote = request.remote;
  SaDetails& details = *installed.details;
  const auto spare =
      static_cast<std::uint8_t>(1 - details.current_endpoints.load(std::memory_order_relaxed));
  details.endpoints[spare] = {request.local, request.remote};
  // Release pairs with the acquire in SaDetails::outer and OutboundSa::outer.
  details.current_endpoints.store(spare, std::memory_order_release);
  if (spec.direction == Direction::in) {
    InboundSa& sa = inbound_[raw(installed.record.slot)];
    sa.outer_addresses.store(inbound_addresses(details.endpoints[spare]),
                             std::memory_order_relaxed);
    sa.outer_ports.store(inbound_ports(details.endpoints[spare]), std::memory_order_relaxed);
    return Outcome::ok;
  }
  OutboundSa& sa = outbound_[raw(installed.record.slot)];
  const auto unused =
      static_cast<std::uint8_t>(1 - sa.current_header.load(std::memory_order_relaxed));
  sa.headers[unused] = build_outer_header(spec);
  sa.headers[unused].salt = sa.outer().salt;
  sa.current_header.store(unused, std::memory_order_release);
  return Outcome::ok;
}

void SadTable::stop(channel::SaId id, StopCause cause) {
  const auto found = installed_.find(raw(id));
  if (found == installed_.end()) return;
  Installed& installed = *found->second;
  StopCause none = StopCause::none;
  installed.details->stop_cause.compare_exchange_strong(none, cause, std::memory_order_relaxed);
  const std::size_t slot = raw(installed.record.slot);
  if (installed.record.spec.direction == Direction::in) {
    inbound_[slot].stopped.store(true, std::memory_order_relaxed);
  } else {
    outbound_[slot].stopped.store(true, std::memory_order_relaxed);
  }
}

SaTraffic SadTable::traffic(const SaRecord& record) const {
  SaTraffic traffic;
  const std::size_t slot = raw(record.slot);
  if (record.spec.direction == Direction::in) {
    const InboundSa& sa = inbound_[slot];
    traffic.packets = sa.packets.load(std::memory_order_relaxed);
    traffic.bytes = sa.bytes.load(std::memory_order_relaxed);
    traffic.last_packet_tsc = sa.last_tsc.load(std::memory_order_relaxed);
    traffic.sequence = __atomic_load_n(&sa.highest, __ATOMIC_RELAXED);
  } else {
    const OutboundSa& sa = outbound_[slot];
    // The counter may stand beyond the limit by what was asked for and not given.
    traffic.sequence = std::min(sa.sequence.load(std::memory_order_relaxed), sa.sequence_limit);
    traffic.packets = traffic.sequence;
    traffic.bytes = sa.bytes.load(std::memory_order_relaxed);
    traffic.last_packet_tsc = sa.last_tsc.load(std::memory_order_relaxed);
  }
  const SaDetails& details = *installed_.at(raw(record.spec.sa))->details;
  for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
    traffic.drops[reason] = details.drops[reason].load(std::memory_order_relaxed);
  }
  return traffic;
}

}  // namespace

std::expected<std::unique_ptr<Sad>, std::string> Sad::create(std::uint32_t capacity,
                                                             std::uint32_t /*workers*/,
                                                             const crypto::esp::Engine& engine,
                                                             Reclaimer& reclaimer) {
  auto sad = std::make_unique<SadTable>(capacity, engine, reclaimer);
  if (!sad->allocate()) {
    return std::unexpected("no memory for " + std::to_string(capacity) +
                           " SAs a direction; lower dataplane.limits.sas or raise its memory");
  }
  return sad;
}

}  // namespace culvert::dataplane
