#include "dataplane/tables/sad.hpp"

#include <algorithm>
#include <bit>
#include <deque>
#include <random>
#include <unordered_map>
#include <utility>

#include "dataplane/tables/mapped_array.hpp"
#include "dataplane/tables/outer_header.hpp"
#include "dataplane/tables/sa.hpp"

namespace culvert::dataplane {
namespace {

using channel::Direction;
using channel::Outcome;
using crypto::esp::ExpandedKey;

constexpr std::uint32_t kSmallestCapacity = 1024;
constexpr std::uint32_t kLargestCapacity = 1U << 20;

/// What belongs to an installed SA and is freed with it, after the grace period.
struct SlotOwned {
  std::unique_ptr<SaRecord> record;
  std::unique_ptr<SaSelectors> selectors;
  std::vector<std::uint64_t> window;
  bool header_is_settling = false;  ///< the spare outer header may still be read
};

/// Manual SPIs by number, because they do not name their slot. Immutable once published.
using ManualSpis = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

std::vector<wire::TrafficSelector> to_vector(const channel::SelectorSet& set) {
  return {set.items.begin(), set.items.begin() + set.count};
}

SimpleSelectors simple_selectors(const SaSelectors& selectors) {
  if (selectors.source.size() != 1 || selectors.destination.size() != 1) return {};
  const auto is_plain = [](const wire::TrafficSelector& selector) {
    return selector.first.is_v4() && selector.any_protocol() && selector.any_port();
  };
  const wire::TrafficSelector& source = selectors.source.front();
  const wire::TrafficSelector& destination = selectors.destination.front();
  if (!is_plain(source) || !is_plain(destination)) return {};
  return {true, source.first.v4_host(), source.last.v4_host(), destination.first.v4_host(),
          destination.last.v4_host()};
}

std::uint32_t raw_v4(const wire::IpAddress& address) {
  std::uint32_t raw = 0;
  if (address.is_v4()) std::memcpy(&raw, address.bytes.data(), sizeof(raw));
  return raw;
}

std::uint64_t limit_or_none(std::uint64_t limit) { return limit == 0 ? ~0ULL : limit; }

class ArraySad final : public Sad {
 public:
  ArraySad(std::uint32_t capacity, std::uint32_t workers, const crypto::esp::Engine& engine,
           Reclaimer& reclaimer)
      : capacity_(std::bit_ceil(std::clamp(capacity, kSmallestCapacity, kLargestCapacity))),
        mask_(capacity_ - 1),
        slot_bits_(static_cast<std::uint32_t>(std::countr_zero(capacity_))),
        workers_(workers),
        engine_(engine),
        reclaimer_(reclaimer),
        generations_(capacity_),
        leased_(capacity_, false),
        owned_{std::vector<SlotOwned>(capacity_), std::vector<SlotOwned>(capacity_)} {
    // Generations begin anywhere, so that a peer's packets for an SA of before a restart do not
    // meet another one.
    std::random_device random;
    const std::uint32_t generations = 1U << (32 - slot_bits_);
    for (std::uint32_t slot = 0; slot < capacity_; ++slot) {
      generations_[slot] = 1 + random() % (generations - 1);
      free_[0].push_back(slot);
      free_[1].push_back(slot);
    }
  }

  ~ArraySad() override {
    reclaimer_.drain();
    std::vector<channel::SaId> left;
    for (const auto& [id, record] : by_id_) left.push_back(id);
    for (const channel::SaId id : left) remove(id);
    reclaimer_.drain();
    delete manual_.load(std::memory_order_relaxed);
  }

  [[nodiscard]] bool map() {
    return inbound_.map(capacity_) && outbound_.map(capacity_) && keys_[0].map(capacity_) &&
           keys_[1].map(capacity_);
  }

  std::vector<channel::Spi> lease_spis(std::uint32_t count) override {
    std::vector<channel::Spi> spis;
    while (spis.size() < count && !free_[0].empty()) {
      const std::uint32_t slot = free_[0].front();
      free_[0].pop_front();
      leased_[slot] = true;
      spis.push_back(channel::Spi{spi_of(slot)});
    }
    return spis;
  }

  void return_leases() override {
    for (std::uint32_t slot = 0; slot < capacity_; ++slot) {
      if (!leased_[slot]) continue;
      leased_[slot] = false;
      next_generation(slot);
      free_[0].push_back(slot);
    }
  }

  std::expected<SlotIndex, Outcome> install(const channel::InstallSa& request,
                                            std::uint64_t now_tsc) override {
    if (auto refused = check(request); refused != Outcome::ok) return std::unexpected(refused);
    if (request.direction == Direction::out) return take_and_install(request, now_tsc);
    const auto spi = static_cast<std::uint32_t>(request.spi);
    const std::uint32_t slot = spi & mask_;
    if (!leased_[slot] || spi != spi_of(slot)) return std::unexpected(Outcome::spi_not_leased);
    leased_[slot] = false;
    return install_at(slot, request, now_tsc);
  }

  std::expected<SlotIndex, Outcome> install_manual(const channel::InstallSa& request,
                                                   std::uint64_t now_tsc) override {
    if (auto refused = check(request); refused != Outcome::ok) return std::unexpected(refused);
    if (request.direction == Direction::in && find_inbound(request.spi) != nullptr) {
      return std::unexpected(Outcome::duplicate);
    }
    const auto slot = take_and_install(request, now_tsc);
    if (slot && request.direction == Direction::in) {
      publish_manual([&](ManualSpis& spis) {
        spis.emplace_back(static_cast<std::uint32_t>(request.spi), raw(*slot));
      });
    }
    return slot;
  }

  Outcome remove(channel::SaId sa) override {
    const auto found = by_id_.find(sa);
    if (found == by_id_.end()) return Outcome::unknown_sa;
    const SaRecord& record = *found->second;
    const auto slot = static_cast<std::uint32_t>(record.slot);
    const Direction direction = record.spec.direction;
    by_id_.erase(found);
    --counts_[index(direction)];
    if (direction == Direction::in) {
      inbound_[slot].stopped.store(StopCause::hard_time, std::memory_order_relaxed);
      inbound_[slot].spi.store(0, std::memory_order_release);
      publish_manual([&](ManualSpis& spis) {
        std::erase_if(spis, [&](const auto& row) { return row.second == slot; });
      });
    } else {
      outbound_[slot].stopped.store(StopCause::hard_time, std::memory_order_relaxed);
    }
    reclaimer_.retire([this, direction, slot] { free_slot(direction, slot); });
    return Outcome::ok;
  }

  Outcome update_endpoints(const channel::UpdateEndpoints& request) override {
    SaRecord* record = find(request.sa);
    if (record == nullptr) return Outcome::unknown_sa;
    if (request.local.address.family != record->spec.local.address.family) {
      return Outcome::invalid_field;
    }
    record->spec.local = request.local;
    record->spec.remote = request.remote;
    const auto slot = static_cast<std::uint32_t>(record->slot);
    if (record->spec.direction == Direction::in) {
      set_endpoints(inbound_[slot], record->spec);
    } else {
      switch_header(slot);
    }
    return Outcome::ok;
  }

  void stop(channel::SaId sa, StopCause cause) override {
    SaRecord* record = find(sa);
    if (record == nullptr) return;
    flag(*record).store(cause, std::memory_order_relaxed);
  }

  [[nodiscard]] SaRecord* find(channel::SaId sa) override {
    const auto found = by_id_.find(sa);
    return found == by_id_.end() ? nullptr : found->second;
  }

  [[nodiscard]] SaRecord* find_inbound(channel::Spi spi) override {
    const InboundSa* sa = inbound(static_cast<std::uint32_t>(spi));
    return sa == nullptr ? nullptr : find(sa->id);
  }

  void for_each(const std::function<void(SaRecord&)>& visit) override {
    for (const auto& [id, record] : by_id_) visit(*record);
  }

  [[nodiscard]] std::uint32_t count(Direction direction) const override {
    return counts_[index(direction)];
  }

  [[nodiscard]] SaTraffic traffic(const SaRecord& record) const override {
    const auto slot = static_cast<std::uint32_t>(record.slot);
    SaTraffic traffic;
    const auto read = [&](const auto& sa, std::uint64_t sequence) {
      traffic.packets = sa.counters.packets.load(std::memory_order_relaxed);
      traffic.bytes = sa.counters.bytes.load(std::memory_order_relaxed);
      traffic.last_packet_tsc = sa.counters.last_tsc.load(std::memory_order_relaxed);
      traffic.sequence = sequence;
      for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
        traffic.drops[reason] = sa.drops[reason].load(std::memory_order_relaxed);
      }
    };
    if (record.spec.direction == Direction::in) {
      read(inbound_[slot], inbound_[slot].window.highest());
    } else {
      read(outbound_[slot], outbound_[slot].sequence.load(std::memory_order_relaxed));
    }
    return traffic;
  }

  [[nodiscard]] StopCause stopped(const SaRecord& record) const override {
    return flag(record).load(std::memory_order_relaxed);
  }

  [[nodiscard]] InboundSa* inbound(std::uint32_t spi_host_order) const override {
    InboundSa& sa = inbound_[spi_host_order & mask_];
    // Acquire pairs with the release in `install_at`: the SA's fields before its SPI.
    if (sa.spi.load(std::memory_order_acquire) == spi_host_order && spi_host_order != 0) return &sa;
    return manual_inbound(spi_host_order);
  }

  [[nodiscard]] OutboundSa* outbound(SlotIndex slot) const override {
    return &outbound_[raw(slot)];
  }

 private:
  static std::size_t index(Direction direction) { return static_cast<std::size_t>(direction); }
  [[nodiscard]] std::uint32_t spi_of(std::uint32_t slot) const {
    return generations_[slot] << slot_bits_ | slot;
  }
  void next_generation(std::uint32_t slot) {
    const std::uint32_t last = (1U << (32 - slot_bits_)) - 1;
    generations_[slot] = generations_[slot] >= last ? 1 : generations_[slot] + 1;
  }
  [[nodiscard]] StopFlag& flag(const SaRecord& record) const {
    const auto slot = static_cast<std::uint32_t>(record.slot);
    return record.spec.direction == Direction::in ? inbound_[slot].stopped
                                                  : outbound_[slot].stopped;
  }

  [[nodiscard]] InboundSa* manual_inbound(std::uint32_t spi) const {
    const ManualSpis* spis = manual_.load(std::memory_order_acquire);
    if (spis == nullptr) return nullptr;
    const auto found = std::ranges::lower_bound(*spis, spi, {}, &ManualSpis::value_type::first);
    if (found == spis->end() || found->first != spi) return nullptr;
    InboundSa& sa = inbound_[found->second];
    return sa.spi.load(std::memory_order_acquire) == spi ? &sa : nullptr;
  }

  void publish_manual(const std::function<void(ManualSpis&)>& change) {
    const ManualSpis* before = manual_.load(std::memory_order_relaxed);
    auto after =
        before == nullptr ? std::make_unique<ManualSpis>() : std::make_unique<ManualSpis>(*before);
    const std::size_t size_before = after->size();
    change(*after);
    if (after->size() == size_before) return;
    std::ranges::sort(*after);
    // Release pairs with the acquire in `manual_inbound`.
    manual_.store(after->empty() ? nullptr : after.release(), std::memory_order_release);
    reclaimer_.retire([before] { delete before; });
  }

  [[nodiscard]] Outcome check(const channel::InstallSa& request) const {
    if (by_id_.contains(request.sa)) return Outcome::duplicate;
    if (!engine_.supports(request.suite)) return Outcome::unsupported_suite;
    const std::size_t salt = crypto::find(request.suite.encryption)->salt_bytes;
    const std::size_t wanted =
        request.suite.encryption_key_bytes() + salt + request.suite.integrity_key_bytes();
    if (request.key.length != wanted) return Outcome::invalid_field;
    if (request.local.address.family != request.remote.address.family)
      return Outcome::invalid_field;
    return Outcome::ok;
  }

  std::expected<SlotIndex, Outcome> take_and_install(const channel::InstallSa& request,
                                                     std::uint64_t now_tsc) {
    auto& free = free_[index(request.direction)];
    if (free.empty()) return std::unexpected(Outcome::no_room);
    const std::uint32_t slot = free.front();
    free.pop_front();
    return install_at(slot, request, now_tsc);
  }

  std::expected<SlotIndex, Outcome> install_at(std::uint32_t slot,
                                               const channel::InstallSa& request,
                                               std::uint64_t now_tsc) {
    const std::size_t direction = index(request.direction);
    SlotOwned& owned = owned_[direction][slot];
    ExpandedKey& key = keys_[direction][slot];
    if (auto outcome = expand(request, key); outcome != Outcome::ok) {
      free_[direction].push_back(slot);
      return std::unexpected(outcome);
    }
    owned.record = std::make_unique<SaRecord>();
    owned.record->spec = request;
    owned.record->spec.key.wipe();
    owned.record->slot = SlotIndex{slot};
    owned.record->installed_tsc = now_tsc;
    owned.selectors = std::make_unique<SaSelectors>();
    const bool in = request.direction == Direction::in;
    owned.selectors->source = to_vector(in ? request.remote_selectors : request.local_selectors);
    owned.selectors->destination =
        to_vector(in ? request.local_selectors : request.remote_selectors);
    if (in) {
      fill_inbound(slot, request, owned);
    } else {
      fill_outbound(slot, request, owned);
    }
    by_id_.emplace(request.sa, owned.record.get());
    ++counts_[direction];
    return SlotIndex{slot};
  }

  [[nodiscard]] Outcome expand(const channel::InstallSa& request, ExpandedKey& out) const {
    // The channel's order is cipher key, salt, integrity key; the engine wants no salt.
    const crypto::Bytes all = request.key.view();
    const std::size_t cipher = request.suite.encryption_key_bytes();
    const std::size_t salt = crypto::find(request.suite.encryption)->salt_bytes;
    crypto::SecretBytes keys(cipher + request.suite.integrity_key_bytes());
    std::ranges::copy(all.first(cipher), keys.span().begin());
    std::ranges::copy(all.subspan(cipher + salt),
                      keys.span().begin() + static_cast<std::ptrdiff_t>(cipher));
    return engine_.expand(request.suite, keys.view(), out) ? Outcome::ok : Outcome::invalid_field;
  }

  static std::uint32_t salt_of(const channel::InstallSa& request) {
    std::uint32_t salt = 0;
    const std::size_t bytes = crypto::find(request.suite.encryption)->salt_bytes;
    std::memcpy(&salt, request.key.bytes.data() + request.suite.encryption_key_bytes(),
                std::min(bytes, sizeof(salt)));
    return salt;
  }

  template <typename Sa>
  void fill_common(Sa& sa, const channel::InstallSa& request, const SlotOwned& owned) {
    sa.salt = salt_of(request);
    sa.suite = request.suite;
    sa.esn = request.esn;
    sa.udp_encapsulation = request.udp_encapsulation;
    sa.tunnel = request.mode == channel::SaMode::tunnel;
    sa.outer_is_v6 = !request.local.address.is_v4();
    sa.child_index = request.child_index;
    sa.counters.packets.store(0, std::memory_order_relaxed);
    sa.counters.bytes.store(0, std::memory_order_relaxed);
    sa.counters.last_tsc.store(0, std::memory_order_relaxed);
    sa.counters.hard_packets = limit_or_none(request.lifetime.hard_packets);
    sa.counters.hard_bytes = limit_or_none(request.lifetime.hard_bytes);
    sa.id = request.sa;
    sa.selectors = owned.selectors.get();
    for (auto& drops : sa.drops) drops.store(0, std::memory_order_relaxed);
    sa.stopped.store(StopCause::none, std::memory_order_relaxed);
  }

  static void set_endpoints(InboundSa& sa, const channel::InstallSa& spec) {
    sa.local = spec.local.address;
    sa.remote = spec.remote.address;
    sa.local_v4 = raw_v4(spec.local.address);
    sa.remote_v4 = raw_v4(spec.remote.address);
    sa.remote_port = spec.remote.port;
  }

  void fill_inbound(std::uint32_t slot, const channel::InstallSa& request, SlotOwned& owned) {
    InboundSa& sa = inbound_[slot];
    fill_common(sa, request, owned);
    sa.key = &keys_[0][slot];
    sa.owner = WorkerId{static_cast<std::uint16_t>(slot % workers_)};
    set_endpoints(sa, request);
    owned.window.assign(replay_words(request.replay_window), 0);
    sa.window = ReplayWindow(request.replay_window, owned.window);
    sa.simple = simple_selectors(*owned.selectors);
    // Release pairs with the acquire in `inbound`: published last.
    sa.spi.store(static_cast<std::uint32_t>(request.spi), std::memory_order_release);
  }

  void fill_outbound(std::uint32_t slot, const channel::InstallSa& request, SlotOwned& owned) {
    OutboundSa& sa = outbound_[slot];
    fill_common(sa, request, owned);
    sa.spi = static_cast<std::uint32_t>(request.spi);
    sa.key = &keys_[1][slot];
    sa.shared = workers_ > 1;
    sa.sequence.store(0, std::memory_order_relaxed);
    sa.sequence_limit = request.esn ? ~0ULL : 0xffffffffULL;
    sa.local = request.local.address;
    sa.remote = request.remote.address;
    static_cast<OuterHeader&>(sa.headers[0]) = header_of(request);
    sa.active.store(0, std::memory_order_release);
  }

  static OuterHeader header_of(const channel::InstallSa& spec) {
    return build_outer_header(spec.mode, spec.udp_encapsulation, spec.local, spec.remote);
  }

  /// Writes the spare header and makes it the active one. A spare that may still be read (moved
  /// twice within a grace period) is left alone until that is over.
  void switch_header(std::uint32_t slot) {
    SlotOwned& owned = owned_[1][slot];
    if (owned.header_is_settling) return;  // the pending callback takes the newest endpoints
    OutboundSa& sa = outbound_[slot];
    const channel::InstallSa& spec = owned.record->spec;
    const std::uint8_t spare = sa.active.load(std::memory_order_relaxed) ^ 1U;
    static_cast<OuterHeader&>(sa.headers[spare]) = header_of(spec);
    sa.local = spec.local.address;
    sa.remote = spec.remote.address;
    sa.active.store(spare, std::memory_order_release);
    owned.header_is_settling = true;
    reclaimer_.retire([this, slot, used = spec] {
      SlotOwned& settled = owned_[1][slot];
      settled.header_is_settling = false;
      if (settled.record == nullptr || settled.record->spec.sa != used.sa) return;
      const channel::InstallSa& newest = settled.record->spec;
      if (newest.local != used.local || newest.remote != used.remote) switch_header(slot);
    });
  }

  void free_slot(Direction direction, std::uint32_t slot) {
    SlotOwned& owned = owned_[index(direction)][slot];
    crypto::wipe(&keys_[index(direction)][slot], sizeof(ExpandedKey));
    if (direction == Direction::in) {
      inbound_[slot].salt = 0;
      inbound_[slot].window = {};
      next_generation(slot);
    } else {
      outbound_[slot].salt = 0;
      outbound_[slot].spi = 0;
    }
    owned.record.reset();
    owned.selectors.reset();
    owned.window = {};
    free_[index(direction)].push_back(slot);
  }

  std::uint32_t capacity_, mask_, slot_bits_, workers_;
  const crypto::esp::Engine& engine_;
  Reclaimer& reclaimer_;
  MappedArray<InboundSa> inbound_;
  MappedArray<OutboundSa> outbound_;
  MappedArray<ExpandedKey> keys_[2];
  std::vector<std::uint32_t> generations_;  ///< inbound, of the next or present SA in the slot
  std::vector<bool> leased_;
  std::deque<std::uint32_t> free_[2];  ///< first in, first out: a slot rests as long as possible
  std::vector<SlotOwned> owned_[2];
  std::unordered_map<channel::SaId, SaRecord*> by_id_;
  std::uint32_t counts_[2] = {0, 0};
  std::atomic<const ManualSpis*> manual_{nullptr};
};

}  // namespace

std::expected<std::unique_ptr<Sad>, std::string> Sad::create(std::uint32_t capacity,
                                                             std::uint32_t workers,
                                                             const crypto::esp::Engine& engine,
                                                             Reclaimer& reclaimer) {
  auto sad = std::make_unique<ArraySad>(capacity, workers, engine, reclaimer);
  if (!sad->map()) return std::unexpected(std::string("no memory for limits.sas; lower it"));
  return sad;
}

}  // namespace culvert::dataplane
