// The SAD as arrays by slot, main thread's side. Private to sad.cpp and sad_install.cpp.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "dataplane/tables/mapped_array.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/tables/sad.hpp"
#include "dataplane/tables/spi_table.hpp"

namespace culvert::dataplane {

using channel::Direction;
using channel::InstallSa;
using channel::Outcome;

/// Windows of most sizes stand side by side, by slot: those of a thousand SAs on the heap, among
/// what else an SA has, would be on as many pages.
inline constexpr std::uint32_t kSlotWords = 64;
using SlotWindow = std::array<ReplayWord, kSlotWords>;

/// An SA's secret and its window. Wiped when it ends.
struct KeyBlock {
  crypto::esp::ExpandedKey* key = nullptr;  ///< in the table of keys, at the SA's slot
  std::span<ReplayWord> window;             ///< in the table of windows, or the one here
  std::vector<ReplayWord> large_window;     ///< of more than kSlotWords

  void wipe() {
    if (key != nullptr) crypto::wipe(key, sizeof(*key));
    key = nullptr;
  }
};

/// The control side of an SA beside its record.
struct Installed {
  SaRecord record;
  std::unique_ptr<SaDetails> details;
  InboundDetails* inbound = nullptr;  ///< the same, if that is what it is
  KeyBlock block;
  crypto::esp::TransformId transform{};
  std::uint32_t salt = 0;  ///< until it is published
  SaSettings settings;
  std::uint64_t change_in_grace = 0;  ///< of endpoints, numbered; 0: none, so that one may begin
  bool has_moved_again = false;       ///< meanwhile; the record says where to
};

/// Zero is no limit to whoever configures one.
inline std::uint64_t limit_or_none(std::uint64_t configured) {
  return configured == 0 ? ~0ULL : configured;
}

/// The last number that an outbound SA may give out.
inline std::uint64_t last_number(const InstallSa& spec) {
  return std::min<std::uint64_t>(limit_or_none(spec.lifetime.hard_packets),
                                 spec.esn ? ~0ULL : 0xffffffffULL);
}

/// Source and destination as an IPv4 packet from the peer holds them, and its UDP ports.
std::uint64_t inbound_addresses(const SaEndpoints& outer);
std::uint32_t inbound_ports(const SaEndpoints& outer);

/// The SPI of a vacant place: one that is never looked for there. In the first, 0 would be: it is
/// what a packet without an SPI has there, as IKE behind UDP (RFC 3948 §2.2). 1 is reserved
/// (RFC 4303 §2.1), and another place's.
[[nodiscard]] constexpr std::uint32_t spi_of_vacant(SlotIndex slot) {
  return raw(slot) == 0 ? 1 : 0;
}
static_assert(spi_of_vacant(SlotIndex{0}) < channel::kFirstFreeSpi &&
              spi_of_vacant(SlotIndex{1}) < channel::kFirstFreeSpi);

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
        abandoned_(capacity_, false),
        foreign_(capacity_) {
    // Generations begin anywhere, so that a peer's packets for an SA of before a restart do not
    // meet another one.
    const std::uint32_t first = first_generation();
    const std::uint32_t choices = (1U << (32U - slot_bits_)) - first;
    for (std::uint32_t& generation : generations_) generation = first + random_() % choices;
    // Growing it at a million SAs would keep the main thread for a tenth of a second.
    installed_.reserve(std::size_t{2} * capacity_);
  }

  ~SadTable() override {
    reclaimer_.drain();  // what was removed names this
    for (auto& [id, installed] : installed_) installed->block.wipe();
  }
  SadTable(const SadTable&) = delete;
  SadTable& operator=(const SadTable&) = delete;

  [[nodiscard]] bool allocate() {
    if (!inbound_.map(capacity_) || !outbound_.map(capacity_)) return false;
    if (!windows_.reserve(capacity_)) return false;
    for (std::uint32_t slot = 0; slot < capacity_; ++slot) {
      new (&outbound_[slot]) OutboundSa;  // stopped is not zero
    }
    inbound_[0].spi.store(spi_of_vacant(SlotIndex{0}), std::memory_order_relaxed);
    places_ = &inbound_[0];
    place_mask_ = capacity_ - 1;
    displaced_ = &foreign_.count();
    if (!keys_[0].map(capacity_) || !keys_[1].map(capacity_)) return false;
    keys_locked_ = keys_[0].lock() && keys_[1].lock();
    return true;
  }
  [[nodiscard]] bool keys_locked() const override { return keys_locked_; }

  std::vector<channel::Spi> lease_spis(std::uint32_t count) override;
  void abandon_leases() override;
  [[nodiscard]] bool keep_lease(channel::Spi spi) override;
  std::expected<SlotIndex, Outcome> install(const InstallSa& request, std::uint64_t now_tsc,
                                            const SaSettings& settings) override;
  std::expected<SlotIndex, Outcome> install_manual(const InstallSa& request, std::uint64_t now_tsc,
                                                   const SaSettings& settings) override;
  [[nodiscard]] std::expected<void, Outcome> expand(const InstallSa& request,
                                                    crypto::esp::ExpandedKey& key) const override;
  Outcome remove(channel::SaId sa, WhenEnded ended) override {
    return remove(sa, false, std::move(ended));
  }
  Outcome remove_for_successor(channel::SaId sa, WhenEnded ended) override {
    return remove(sa, true, std::move(ended));
  }
  [[nodiscard]] bool end_numbers(const SaRecord& record, std::uint64_t last) override;
  void begin_behind(const SaRecord& record, std::uint64_t last) override;
  Outcome update_endpoints(const channel::UpdateEndpoints& request) override;
  void set_path_mtu(channel::SaId sa, std::uint16_t mtu) override;
  [[nodiscard]] std::uint16_t path_mtu(const SaRecord& record) const override {
    return installed_.at(raw(record.spec.sa))->details->path_mtu.load(std::memory_order_relaxed);
  }
  void set_end(const SaRecord& record, std::uint64_t tsc) override;
  [[nodiscard]] std::uint64_t end_of(const SaRecord& record) const override;
  void stop(channel::SaId sa, StopCause cause) override;

  [[nodiscard]] SaRecord* find(channel::SaId sa) override {
    const auto found = installed_.find(raw(sa));
    return found == installed_.end() ? nullptr : &found->second->record;
  }
  [[nodiscard]] SaRecord* find_inbound(channel::Spi spi) override {
    const InboundSa* const sa = inbound(static_cast<std::uint32_t>(spi));
    return sa == nullptr ? nullptr : find(channel::SaId{sa->details->sa_id});
  }
  [[nodiscard]] SaRecord* find_outbound(SlotIndex slot) override {
    const OutboundSa* const sa = outbound(slot);
    // Of one that was removed they last until its grace is over.
    return sa == nullptr || sa->details == nullptr ? nullptr
                                                   : find(channel::SaId{sa->details->sa_id});
  }
  void for_each(const std::function<void(SaRecord&)>& visit) override {
    for (auto& [id, installed] : installed_) visit(installed->record);
  }
  [[nodiscard]] std::uint32_t count(Direction direction) const override {
    return counts_[raw(direction)];
  }
  [[nodiscard]] std::uint32_t free_slots(Direction direction) const override {
    const SlotAllocator& slots = direction == Direction::in ? inbound_slots_ : outbound_slots_;
    return capacity_ - slots.in_use();
  }
  [[nodiscard]] bool supports(const crypto::EspSuite& suite) const override {
    return crypto::esp::find_transform(suite).has_value() && engine_.supports(suite);
  }
  [[nodiscard]] SaTraffic traffic(const SaRecord& record) const override {
    return traffic_of(*installed_.at(raw(record.spec.sa)));
  }
  [[nodiscard]] SaUsage usage(const SaRecord& record) const override {
    return usage_of(*installed_.at(raw(record.spec.sa)));
  }
  [[nodiscard]] StopCause stopped(const SaRecord& record) const override {
    return installed_.at(raw(record.spec.sa))->details->stop_cause.load(std::memory_order_relaxed);
  }

  [[nodiscard]] InboundSa* inbound(std::uint32_t spi) const override {
    // Reserved ones are no SA's (RFC 4303 §2.1), and those that vacant places have: whichever way
    // one of these might be come to below, it is not found.
    if (spi < channel::kFirstFreeSpi) [[unlikely]]
      return nullptr;
    InboundSa& sa = inbound_[spi & (capacity_ - 1)];
    // Acquire pairs with the release in `publish_inbound`.
    if (sa.spi.load(std::memory_order_acquire) == spi) [[likely]]
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
  Outcome remove(channel::SaId sa, bool is_followed, WhenEnded ended);
  void switch_endpoints(Installed& installed);
  void begin_grace_of_change(Installed& installed);
  [[nodiscard]] LastNumbers last_numbers(const Installed& installed);
  void return_abandoned();
  [[nodiscard]] std::expected<SlotIndex, Outcome> slot_of_lease(channel::Spi spi) const;
  [[nodiscard]] std::expected<SlotIndex, Outcome> slot_for_manual(std::uint32_t spi);
  std::expected<SlotIndex, Outcome> install_manual_inbound(const InstallSa& request,
                                                           std::uint64_t now_tsc,
                                                           const SaSettings& settings);
  void expect_no_successor(std::uint32_t spi);
  [[nodiscard]] std::expected<std::unique_ptr<Installed>, Outcome> prepare(
      SlotIndex slot, const InstallSa& request, std::uint64_t now_tsc, const SaSettings& settings);
  /// An empty window for the SA that comes to a slot.
  [[nodiscard]] std::span<ReplayWord> window_at(SlotIndex slot, std::uint32_t words,
                                                KeyBlock& block);
  void publish_inbound(SlotIndex slot, Installed& installed);
  void publish_outbound(SlotIndex slot, Installed& installed);
  std::expected<SlotIndex, Outcome> install_at(SlotIndex slot, const InstallSa& request,
                                               std::uint64_t now_tsc, const SaSettings& settings);
  std::expected<SlotIndex, Outcome> install_outbound(const InstallSa& request,
                                                     std::uint64_t now_tsc,
                                                     const SaSettings& settings);
  void give_back(Direction direction, SlotIndex slot);
  /// Until its slot is given back.
  [[nodiscard]] SaTraffic traffic_of(const Installed& installed) const;
  [[nodiscard]] SaUsage usage_of(const Installed& installed) const;

  std::uint32_t capacity_;
  unsigned slot_bits_;
  const crypto::esp::Engine& engine_;
  Reclaimer& reclaimer_;
  SlotAllocator inbound_slots_, outbound_slots_;
  std::random_device random_;
  std::vector<std::uint32_t> generations_;
  std::vector<bool> leased_;
  std::vector<bool> abandoned_;  ///< leased, by a key daemon that is gone
  bool any_abandoned_ = false;
  ForeignSpis foreign_;
  MappedArray<InboundSa> inbound_;  ///< vacant: zero bytes but for the first SPI
  MappedArray<OutboundSa> outbound_;
  MappedArray<SlotWindow> windows_;                            ///< inbound
  std::array<MappedArray<crypto::esp::ExpandedKey>, 2> keys_;  ///< by direction and slot
  bool keys_locked_ = false;
  std::array<std::uint32_t, 2> counts_{};
  std::uint64_t last_change_ = 0;  ///< of endpoints of any SA
  std::unordered_map<std::uint64_t, std::unique_ptr<Installed>> installed_;
};

}  // namespace culvert::dataplane
