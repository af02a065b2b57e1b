// How an SA leaves the SAD, moves and is asked about; installation is in sad_install.cpp.
#include "dataplane/tables/outer_header.hpp"
#include "dataplane/tables/sad_table.hpp"

namespace culvert::dataplane {
namespace {

void add_inbound(const InboundDetails& details, SaTraffic& traffic) {
  for (std::size_t alarm = 0; alarm < kEcnAlarms; ++alarm) {
    traffic.ecn_alarms[alarm] = details.ecn_alarms[alarm].load(std::memory_order_relaxed);
  }
  for (std::size_t bucket = 0; bucket < kLateBuckets; ++bucket) {
    traffic.late.accepted[bucket] = details.late[bucket].load(std::memory_order_relaxed);
    traffic.late.missed[bucket] = details.missed[bucket].load(std::memory_order_relaxed);
  }
  if (const auto refused = details.last_refusal.read()) {
    traffic.last_refusal = SaRefusal{*refused, details.remote, details.local};
  }
  traffic.resynchronized = details.resynchronized.load(std::memory_order_relaxed);
}

}  // namespace

/// Precondition: no worker has it any more.
LastNumbers SadTable::last_numbers(const Installed& installed) {
  const std::size_t slot = raw(installed.record.slot);
  if (installed.record.spec.direction == Direction::out) {
    const OutboundSa& sa = outbound_[slot];
    return {
        std::min(sa.sequence.load(std::memory_order_relaxed), last_number(installed.record.spec)),
        {}};
  }
  return {inbound_[slot].highest, inbound_[slot].replay_window().missing()};
}

Outcome SadTable::remove(channel::SaId id, bool is_followed, WhenEnded ended) {
  const auto found = installed_.find(raw(id));
  if (found == installed_.end()) return Outcome::unknown_sa;
  std::shared_ptr<Installed> installed = std::move(found->second);
  installed_.erase(found);
  const SlotIndex slot = installed->record.slot;
  const Direction direction = installed->record.spec.direction;
  --counts_[raw(direction)];
  if (direction == Direction::in) {
    const auto spi = static_cast<std::uint32_t>(installed->record.spec.spi);
    const bool is_at_its_place = (spi & (capacity_ - 1)) == raw(slot);
    inbound_[raw(slot)].leased.store(is_followed && is_at_its_place ? spi : 0,
                                     std::memory_order_relaxed);
    // Workers that still hold it may finish their burst; the grace period covers them. Release
    // pairs with the acquire in `inbound`: who misses it knows whether another one follows.
    inbound_[raw(slot)].spi.store(spi_of_vacant(slot), std::memory_order_release);
    foreign_.remove(spi);
  } else {
    outbound_[raw(slot)].stopped.store(true, std::memory_order_relaxed);
    reclaimer_.outdate();  // flows name its slot; no flow names an inbound one
  }
  reclaimer_.retire([this, installed, direction, slot, ended = std::move(ended)] {
    if (ended.traffic) ended.traffic(traffic_of(*installed));
    if (ended.numbers) ended.numbers(last_numbers(*installed));
    installed->block.wipe();
    if (direction == Direction::in) {
      inbound_[raw(slot)].salt = 0;
      inbound_[raw(slot)].plain_in_front = 0;
      inbound_[raw(slot)].key = nullptr;
      inbound_[raw(slot)].window = nullptr;
      inbound_[raw(slot)].details = nullptr;
    } else {
      // A policy that still names the slot meets a stopped SA that points nowhere.
      outbound_[raw(slot)].headers = {};
      outbound_[raw(slot)].details = nullptr;
      outbound_[raw(slot)].key = nullptr;
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
  spec.local = request.local;
  spec.remote = request.remote;
  // The spare set may still be read from before the last change. Waiting here would let whoever
  // asks often hold up everything else: of the changes until then the last one counts.
  if (installed.change_in_grace != 0) {
    installed.has_moved_again = true;
  } else {
    switch_endpoints(installed);
  }
  return Outcome::ok;
}

/// Precondition: no worker reads the spare sets.
void SadTable::switch_endpoints(Installed& installed) {
  const InstallSa& spec = installed.record.spec;
  SaDetails& details = *installed.details;
  const auto spare =
      static_cast<std::uint8_t>(1 - details.current_endpoints.load(std::memory_order_relaxed));
  details.endpoints[spare] = {spec.local, spec.remote};
  // Release pairs with the acquire in SaDetails::outer and OutboundSa::outer.
  details.current_endpoints.store(spare, std::memory_order_release);
  if (spec.direction == Direction::in) {
    InboundSa& sa = inbound_[raw(installed.record.slot)];
    sa.outer_addresses.store(inbound_addresses(details.endpoints[spare]),
                             std::memory_order_relaxed);
    sa.outer_ports.store(inbound_ports(details.endpoints[spare]), std::memory_order_relaxed);
  } else {
    OutboundSa& sa = outbound_[raw(installed.record.slot)];
    const OuterHeader& before = sa.outer();
    OuterHeader next =
        build_outer_header(spec, details.headers.hop_limit, identification_start(sa.iv_start));
    next.salt = before.salt;
    next.transform = before.transform;
    const auto unused =
        static_cast<std::uint8_t>(1 - sa.current_header.load(std::memory_order_relaxed));
    sa.headers[unused] = next;
    sa.current_header.store(unused, std::memory_order_release);
    reclaimer_.outdate();  // the next hop is another one
  }
  begin_grace_of_change(installed);
}

void SadTable::begin_grace_of_change(Installed& installed) {
  installed.has_moved_again = false;
  installed.change_in_grace = ++last_change_;
  const std::uint64_t id = raw(installed.record.spec.sa);
  reclaimer_.retire([this, id, change = last_change_] {
    const auto still = installed_.find(id);
    // Another SA may have come to this id, and be in a grace period of its own.
    if (still == installed_.end() || still->second->change_in_grace != change) return;
    still->second->change_in_grace = 0;
    if (still->second->has_moved_again) switch_endpoints(*still->second);
  });
}

void SadTable::set_path_mtu(channel::SaId id, std::uint16_t mtu) {
  const auto found = installed_.find(raw(id));
  if (found == installed_.end()) return;
  SaDetails& details = *found->second->details;
  details.path_mtu.store(std::min(mtu, details.headers.path_mtu), std::memory_order_relaxed);
  reclaimer_.outdate();  // what fits is remembered with a flow
}

void SadTable::stop(channel::SaId id, StopCause cause) {
  const auto found = installed_.find(raw(id));
  if (found == installed_.end()) return;
  const SaRecord& record = found->second->record;
  if (record.spec.direction == Direction::in) {
    stop_sa(inbound_[raw(record.slot)], cause);
  } else {
    stop_sa(outbound_[raw(record.slot)], cause);
  }
}

bool SadTable::end_numbers(const SaRecord& record, std::uint64_t last) {
  OutboundSa& sa = outbound_[raw(record.slot)];
  sa.sequence_limit.store(std::min(last, last_number(record.spec)), std::memory_order_relaxed);
  // A worker that has looked at the limit before counts from what the SA has given out by now, or
  // from less: the store goes before the look here, and there the number is read before the limit
  // (reserve_sequence).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint64_t given = sa.sequence.load(std::memory_order_relaxed);
  return given <= last && last - given >= kReservedAtOnce;
}

void SadTable::begin_behind(const SaRecord& record, std::uint64_t last) {
  const std::uint64_t before = std::min(last, last_number(record.spec));
  installed_.at(raw(record.spec.sa))->settings.first_sequence = before + 1;
  // Relaxed: who finds the slot in the policies sees what was written before they were in force.
  outbound_[raw(record.slot)].sequence.store(before, std::memory_order_relaxed);
}

void SadTable::set_end(const SaRecord& record, std::uint64_t tsc) {
  // Relaxed: a worker that sees it a burst later ends the SA a burst later.
  if (record.spec.direction == Direction::in) {
    inbound_[raw(record.slot)].ends_at.store(tsc, std::memory_order_relaxed);
  } else {
    outbound_[raw(record.slot)].ends_at.store(tsc, std::memory_order_relaxed);
  }
}

std::uint64_t SadTable::end_of(const SaRecord& record) const {
  const std::size_t slot = raw(record.slot);
  return record.spec.direction == Direction::in
             ? inbound_[slot].ends_at.load(std::memory_order_relaxed)
             : outbound_[slot].ends_at.load(std::memory_order_relaxed);
}

SaUsage SadTable::usage_of(const Installed& installed) const {
  const SaRecord& record = installed.record;
  SaUsage usage;
  const std::size_t slot = raw(record.slot);
  const std::uint64_t most_bytes = limit_or_none(record.spec.lifetime.hard_bytes);
  if (record.spec.direction == Direction::in) {
    InboundSa& sa = inbound_[slot];
    usage.packets = sa.packets.load(std::memory_order_relaxed);
    usage.bytes = most_bytes - sa.bytes_left.load(std::memory_order_relaxed);
    usage.last_packet_tsc = sa.last_tsc.load(std::memory_order_relaxed);
    // Relaxed, as ReplayWindow writes it.
    usage.sequence = std::atomic_ref(sa.highest).load(std::memory_order_relaxed);
  } else {
    const OutboundSa& sa = outbound_[slot];
    // The counter may stand beyond the limit by what was asked for and not given.
    usage.sequence =
        std::min(sa.sequence.load(std::memory_order_relaxed), last_number(record.spec));
    usage.packets = usage.sequence - (installed.settings.first_sequence - 1);
    usage.bytes = most_bytes - sa.bytes_left.load(std::memory_order_relaxed);
    usage.last_packet_tsc = sa.last_tsc.load(std::memory_order_relaxed);
  }
  return usage;
}

SaTraffic SadTable::traffic_of(const Installed& installed) const {
  SaTraffic traffic;
  static_cast<SaUsage&>(traffic) = usage_of(installed);
  const SaDetails& details = *installed.details;
  for (std::size_t reason = 0; reason < kDropReasons; ++reason) {
    traffic.drops[reason] = details.drops[reason].load(std::memory_order_relaxed);
  }
  traffic.last_drop_tsc = details.last_drop_tsc.load(std::memory_order_relaxed);
  traffic.dummies = details.dummies.load(std::memory_order_relaxed);
  if (installed.inbound != nullptr) add_inbound(*installed.inbound, traffic);
  return traffic;
}

std::expected<std::unique_ptr<Sad>, std::string> Sad::create(std::uint32_t capacity,
                                                             std::uint32_t /*workers*/,
                                                             const crypto::esp::Engine& engine,
                                                             Reclaimer& reclaimer) {
  auto sad = std::make_unique<SadTable>(capacity, engine, reclaimer);
  if (!sad->allocate()) {
    return std::unexpected("no memory for " + std::to_string(capacity) +
                           " SAs a direction; lower dataplane.limits.sas");
  }
  return sad;
}

}  // namespace culvert::dataplane
