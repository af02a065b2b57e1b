// How an SA comes into the SAD: leases of inbound SPIs, its key, what workers read of it, published
// last.
#include "dataplane/tables/outer_header.hpp"
#include "dataplane/tables/sad_table.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {
namespace {

/// Whether the selectors are one IPv4 range a side with any protocol and any port.
/// The only selector of a family, if it asks for no protocol and no port; else nullptr.
const wire::TrafficSelector* only_range(const std::vector<wire::TrafficSelector>& selectors,
                                        wire::Family family) {
  const wire::TrafficSelector* only = nullptr;
  for (const wire::TrafficSelector& selector : selectors) {
    if (selector.first.family != family) continue;
    if (only != nullptr || !selector.any_protocol() || !selector.any_port()) return nullptr;
    only = &selector;
  }
  return only;
}

bool make_simple(const SaDetails& details, SimpleSelectors& simple) {
  const auto* const local = only_range(details.local, wire::Family::v4);
  const auto* const remote = only_range(details.remote, wire::Family::v4);
  if (local == nullptr || remote == nullptr) return false;
  simple = {remote->first.v4_host(), remote->last.v4_host() - remote->first.v4_host(),
            local->first.v4_host(), local->last.v4_host() - local->first.v4_host()};
  return true;
}
bool make_simple(const SaDetails& details, SimpleSelectorsV6& simple) {
  const auto* const local = only_range(details.local, wire::Family::v6);
  const auto* const remote = only_range(details.remote, wire::Family::v6);
  if (local == nullptr || remote == nullptr) return false;
  const auto first_of = [](const auto* range) { return as_number(range->first.bytes.data()); };
  const auto span_of = [&](const auto* range) {
    return as_number(range->last.bytes.data()) - first_of(range);
  };
  simple = {first_of(remote), span_of(remote), first_of(local), span_of(local)};
  return true;
}

/// The up to four bytes behind the cipher key (RFC 4106 §8.1, RFC 4309 §7.1), the rest zero.
std::uint32_t salt_of(const InstallSa& request, const crypto::esp::Form& form) {
  std::array<std::uint8_t, 4> salt{};
  std::copy_n(
      request.key.bytes.begin() + static_cast<std::ptrdiff_t>(request.suite.encryption_key_bytes()),
      form.salt_bytes, salt.begin());
  return wire::load_raw<std::uint32_t>(salt.data());
}

/// The engine's key: cipher key, then integrity key, without the salt between (RFC 7296 §2.17).
crypto::SecretBytes key_of(const InstallSa& request, const crypto::esp::Form& form) {
  const crypto::Bytes keymat = request.key.view();
  const std::size_t cipher_bytes = request.suite.encryption_key_bytes();
  crypto::SecretBytes key(keymat.size() - form.salt_bytes);
  std::ranges::copy(keymat.first(cipher_bytes), key.span().begin());
  std::ranges::copy(keymat.subspan(cipher_bytes + form.salt_bytes),
                    key.span().begin() + static_cast<std::ptrdiff_t>(cipher_bytes));
  return key;
}

/// Later fragments pass selectors that ask for no port, or for OPAQUE (RFC 4301 §7.2).
bool selects_ports(const std::vector<wire::TrafficSelector>& selectors) {
  return std::ranges::any_of(selectors, [](const wire::TrafficSelector& selector) {
    return !selector.any_port() && !selector.opaque_port();
  });
}

bool selects_opaque(const std::vector<wire::TrafficSelector>& selectors) {
  return std::ranges::any_of(selectors, &wire::TrafficSelector::opaque_port);
}

void apply(const SaSettings& settings, SaDetails& details) {
  const config::HeaderOptions& headers = settings.headers;
  const bool copies_out =
      headers.copy_dscp == config::CopyDscp::out || headers.copy_dscp == config::CopyDscp::both;
  details.headers = headers;
  details.changes_outer = !copies_out || !headers.copy_ecn || headers.copy_flow_label ||
                          headers.df != config::DontFragment::copy;
  details.copies_dscp_in =
      headers.copy_dscp == config::CopyDscp::in || headers.copy_dscp == config::CopyDscp::both;
  details.selects_ports = selects_ports(details.local) || selects_ports(details.remote);
  details.selects_opaque = selects_opaque(details.local) || selects_opaque(details.remote);
  details.path_mtu.store(std::min(settings.path_mtu, headers.path_mtu), std::memory_order_relaxed);
}

/// What a window that begins at a number above 1 has behind it counts as received: it was, in the
/// life before, unless that knows better.
void fill_window(InboundSa& sa, std::uint64_t highest, std::span<const std::uint64_t> missing) {
  sa.highest = sa.newest = 0;
  std::uint64_t low = highest >= sa.window_packets ? highest - sa.window_packets + 1 : 1;
  for (; low <= highest && sa.window_packets != 0; ++low) {
    if (std::ranges::binary_search(missing, low)) continue;
    static_cast<void>(sa.replay_window().commit(low));
  }
  sa.highest = highest;
}

}  // namespace

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

std::vector<channel::Spi> SadTable::lease_spis(std::uint32_t count) {
  return_abandoned();
  std::vector<channel::Spi> spis;
  while (spis.size() < count) {
    const auto slot = inbound_slots_.take();
    if (!slot) break;
    // A manual SA may have chosen what would be the next SPI of this slot.
    while (inbound(spi_of(*slot)) != nullptr) next_generation(*slot);
    leased_[raw(*slot)] = true;
    inbound_[raw(*slot)].leased.store(spi_of(*slot), std::memory_order_relaxed);
    spis.push_back(channel::Spi{spi_of(*slot)});
  }
  return spis;
}

void SadTable::abandon_leases() {
  abandoned_ = leased_;
  any_abandoned_ = true;
}

bool SadTable::keep_lease(channel::Spi spi) {
  const auto slot = slot_of_lease(spi);
  if (!slot || !abandoned_[raw(*slot)]) return false;
  abandoned_[raw(*slot)] = false;
  return true;
}

void SadTable::return_abandoned() {
  if (!std::exchange(any_abandoned_, false)) return;
  for (std::uint32_t slot = 0; slot < capacity_; ++slot) {
    if (!abandoned_[slot]) continue;
    abandoned_[slot] = leased_[slot] = false;
    inbound_[slot].leased.store(0, std::memory_order_relaxed);
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

std::expected<void, Outcome> SadTable::expand(const InstallSa& request,
                                              crypto::esp::ExpandedKey& key) const {
  const auto transform = crypto::esp::find_transform(request.suite);
  if (!transform || !engine_.supports(request.suite)) {
    return std::unexpected(Outcome::unsupported_suite);
  }
  if (request.key.view().size() != request.suite.keymat_bytes()) {
    return std::unexpected(Outcome::invalid_field);
  }
  const crypto::esp::Form& form = crypto::esp::transform(*transform).form;
  if (!engine_.expand(request.suite, key_of(request, form).view(), key)) {
    return std::unexpected(Outcome::unsupported_suite);
  }
  return {};
}

std::expected<std::unique_ptr<Installed>, Outcome> SadTable::prepare(SlotIndex slot,
                                                                     const InstallSa& request,
                                                                     std::uint64_t now_tsc,
                                                                     const SaSettings& settings) {
  if (request.replay_window > channel::kMaxReplayWindow) {
    return std::unexpected(Outcome::invalid_field);
  }
  auto installed = std::make_unique<Installed>();
  installed->block.key = &keys_[raw(request.direction)][raw(slot)];
  if (request.direction == Direction::in) {
    installed->block.window =
        window_at(slot, replay_words(request.replay_window), installed->block);
  }
  if (settings.expanded != nullptr) {
    *installed->block.key = *settings.expanded;
  } else if (const auto done = expand(request, *installed->block.key); !done) {
    installed->block.wipe();
    return std::unexpected(done.error());
  }
  installed->transform = *crypto::esp::find_transform(request.suite);
  installed->salt = salt_of(request, crypto::esp::transform(installed->transform).form);
  installed->record.spec = request;
  installed->record.spec.key.wipe();
  installed->record.installed_tsc = now_tsc;
  std::unique_ptr<SaDetails> details;
  if (request.direction == Direction::in) {
    auto inbound = std::make_unique<InboundDetails>();
    installed->inbound = inbound.get();
    details = std::move(inbound);
  } else {
    details = std::make_unique<SaDetails>();
  }
  details->sa_id = raw(request.sa);
  details->suite = request.suite;
  const auto copy = [](const channel::SelectorSet& from, std::vector<wire::TrafficSelector>& to) {
    const std::size_t count = std::min<std::size_t>(from.count, from.items.size());
    to.assign(from.items.begin(), from.items.begin() + static_cast<std::ptrdiff_t>(count));
  };
  copy(request.local_selectors, details->local);
  copy(request.remote_selectors, details->remote);
  details->endpoints[0] = {request.local, request.remote};
  apply(settings, *details);
  installed->settings = settings;
  installed->settings.expanded = nullptr;
  installed->details = std::move(details);
  return installed;
}

std::span<ReplayWord> SadTable::window_at(SlotIndex slot, std::uint32_t words, KeyBlock& block) {
  if (words > kSlotWords) {
    block.large_window.resize(words);
    return block.large_window;
  }
  SlotWindow& place = windows_[raw(slot)];
  std::fill_n(place.begin(), words, ReplayWord{});  // of the SA before
  return std::span(place).first(words);
}

void SadTable::publish_inbound(SlotIndex slot, Installed& installed) {
  const InstallSa& spec = installed.record.spec;
  InboundSa& sa = inbound_[raw(slot)];
  sa.salt = installed.salt;
  sa.transform = installed.transform;
  sa.key = installed.block.key;
  sa.window = installed.block.window.data();
  sa.details = installed.inbound;
  sa.outer_addresses.store(inbound_addresses(installed.details->endpoints[0]),
                           std::memory_order_relaxed);
  sa.outer_ports.store(inbound_ports(installed.details->endpoints[0]), std::memory_order_relaxed);
  sa.window_packets = spec.replay_window;
  sa.window_mask = static_cast<std::uint16_t>(
      spec.replay_window == 0 ? 0 : replay_words(spec.replay_window) - 1);
  sa.resync_due.store(false, std::memory_order_relaxed);
  sa.is_tunnel = spec.mode == channel::SaMode::tunnel;
  sa.has_esn = spec.esn;
  sa.has_udp = spec.udp_encapsulation;
  sa.outer_is_v4 = spec.local.address.is_v4();
  sa.selectors_are_simple = make_simple(*installed.details, sa.selectors);
  sa.selectors_are_simple_v6 = make_simple(*installed.inbound, installed.inbound->simple_v6);
  sa.checks_icmp_errors = installed.details->headers.icmp_errors == config::IcmpErrors::check;
  const bool is_plain = sa.is_tunnel && (sa.outer_is_v4 || !sa.has_udp) &&
                        (sa.selectors_are_simple || sa.selectors_are_simple_v6) &&
                        is_plain_suite(spec.suite) && !installed.details->copies_dscp_in;
  const std::size_t in_front =
      (sa.outer_is_v4 ? wire::ipv4::kHeaderBytes : wire::ipv6::kHeaderBytes) +
      (sa.has_udp ? wire::udp::kHeaderBytes : 0U);
  sa.plain_in_front = is_plain ? static_cast<std::uint8_t>(in_front) : std::uint8_t{0};
  sa.stopped.store(false, std::memory_order_relaxed);
  fill_window(sa, installed.settings.first_sequence - 1,
              std::exchange(installed.settings.missing, {}));
  sa.packets.store(0, std::memory_order_relaxed);
  sa.bytes_left.store(limit_or_none(spec.lifetime.hard_bytes), std::memory_order_relaxed);
  sa.last_tsc.store(0, std::memory_order_relaxed);
  sa.ends_at.store(kNeverEnds, std::memory_order_relaxed);
  sa.hard_packets = limit_or_none(spec.lifetime.hard_packets);
  // Release pairs with the acquire in `inbound`: all of the above before the SPI.
  sa.spi.store(static_cast<std::uint32_t>(spec.spi), std::memory_order_release);
}

void SadTable::publish_outbound(SlotIndex slot, Installed& installed) {
  const InstallSa& spec = installed.record.spec;
  OutboundSa& sa = outbound_[raw(slot)];
  sa.key = installed.block.key;
  sa.details = installed.details.get();
  sa.is_tunnel = spec.mode == channel::SaMode::tunnel;
  sa.has_esn = spec.esn;
  // UDP in IPv6 wants a checksum over the ciphertext (RFC 8200 §8.1).
  const bool has_checksum = spec.udp_encapsulation && !spec.remote.address.is_v4();
  sa.is_plain = sa.is_tunnel && !has_checksum && is_plain_suite(spec.suite) &&
                !sa.details->changes_outer && sa.details->headers.tfc_padding == 0;
  sa.current_header.store(0, std::memory_order_relaxed);
  sa.iv_start = installed.settings.iv_start.value_or(random_());
  sa.headers[0] = build_outer_header(spec, installed.settings.headers.hop_limit,
                                     identification_start(sa.iv_start));
  sa.headers[0].salt = installed.salt;
  sa.headers[0].transform = installed.transform;
  sa.sequence.store(installed.settings.first_sequence - 1, std::memory_order_relaxed);
  sa.bytes_left.store(limit_or_none(spec.lifetime.hard_bytes), std::memory_order_relaxed);
  sa.last_tsc.store(0, std::memory_order_relaxed);
  sa.ends_at.store(kNeverEnds, std::memory_order_relaxed);
  sa.sequence_limit.store(last_number(spec), std::memory_order_relaxed);
  // Release pairs with the acquire in the outbound stage.
  sa.stopped.store(false, std::memory_order_release);
}

std::expected<SlotIndex, Outcome> SadTable::install_at(SlotIndex slot, const InstallSa& request,
                                                       std::uint64_t now_tsc,
                                                       const SaSettings& settings) {
  auto prepared = prepare(slot, request, now_tsc, settings);
  if (!prepared) return std::unexpected(prepared.error());
  Installed& installed = **prepared;
  installed.record.slot = slot;
  if (request.direction == Direction::in) {
    publish_inbound(slot, installed);
  } else {
    publish_outbound(slot, installed);
  }
  installed.salt = 0;
  ++counts_[raw(request.direction)];
  installed_.emplace(raw(request.sa), std::move(*prepared));
  return slot;
}

std::expected<SlotIndex, Outcome> SadTable::install_outbound(const InstallSa& request,
                                                             std::uint64_t now_tsc,
                                                             const SaSettings& settings) {
  const auto slot = outbound_slots_.take();
  if (!slot) return std::unexpected(Outcome::no_room);
  auto done = install_at(*slot, request, now_tsc, settings);
  if (!done) outbound_slots_.give_back(*slot);
  return done;
}

std::expected<SlotIndex, Outcome> SadTable::install(const InstallSa& request, std::uint64_t now_tsc,
                                                    const SaSettings& settings) {
  if (find(request.sa) != nullptr) return std::unexpected(Outcome::duplicate);
  if (request.direction == Direction::out) return install_outbound(request, now_tsc, settings);
  const auto slot = slot_of_lease(request.spi);
  if (!slot) return slot;
  auto done = install_at(*slot, request, now_tsc, settings);  // a failure leaves the lease
  if (done) leased_[raw(*slot)] = abandoned_[raw(*slot)] = false;
  return done;
}

std::expected<SlotIndex, Outcome> SadTable::install_manual(const InstallSa& request,
                                                           std::uint64_t now_tsc,
                                                           const SaSettings& settings) {
  if (request.direction == Direction::in) {
    auto done = install_manual_inbound(request, now_tsc, settings);
    if (!done) expect_no_successor(static_cast<std::uint32_t>(request.spi));
    return done;
  }
  if (find(request.sa) != nullptr) return std::unexpected(Outcome::duplicate);
  return install_outbound(request, now_tsc, settings);
}

std::expected<SlotIndex, Outcome> SadTable::install_manual_inbound(const InstallSa& request,
                                                                   std::uint64_t now_tsc,
                                                                   const SaSettings& settings) {
  if (find(request.sa) != nullptr) return std::unexpected(Outcome::duplicate);
  const auto spi = static_cast<std::uint32_t>(request.spi);
  const auto slot = slot_for_manual(spi);
  if (!slot) return slot;
  auto done = install_at(*slot, request, now_tsc, settings);
  if (!done) {
    foreign_.remove(spi);
    inbound_slots_.give_back(*slot);
  }
  return done;
}

/// Packets may wait for one that does not come: see remove_for_successor. What the key daemon has
/// leased or installed under the SPI stays as it is.
void SadTable::expect_no_successor(std::uint32_t spi) {
  if (!is_expected(spi) || inbound(spi) != nullptr || leased_[spi & (capacity_ - 1)]) return;
  place_of(spi)->leased.store(0, std::memory_order_relaxed);
}

}  // namespace culvert::dataplane
