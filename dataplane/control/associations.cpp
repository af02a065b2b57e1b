#include "dataplane/control/associations.hpp"

#include <algorithm>
#include <utility>

#include <rte_cycles.h>

#include "dataplane/control/report.hpp"
#include "runtime/log.hpp"

namespace culvert::dataplane::control {
namespace {

using channel::Outcome;

channel::ExpiryCause cause_of(StopCause stop) {
  switch (stop) {
    case StopCause::hard_bytes:
      return channel::ExpiryCause::bytes;
    case StopCause::hard_packets:
      return channel::ExpiryCause::packets;
    case StopCause::sequence:
      return channel::ExpiryCause::sequence;
    case StopCause::none:
    case StopCause::hard_time:
      break;
  }
  return channel::ExpiryCause::time;
}

StopCause stop_of(channel::ExpiryCause cause) {
  switch (cause) {
    case channel::ExpiryCause::bytes:
      return StopCause::hard_bytes;
    case channel::ExpiryCause::packets:
      return StopCause::hard_packets;
    case channel::ExpiryCause::sequence:
      return StopCause::sequence;
    case channel::ExpiryCause::time:
      break;
  }
  return StopCause::hard_time;
}

channel::Event event_of(channel::SaId sa, const Expiry& expiry) {
  channel::Event event;
  switch (expiry.level) {
    case ExpiryLevel::soft:
      event.type = channel::EventType::soft_expire;
      event.body.soft_expire = {sa, expiry.cause};
      break;
    case ExpiryLevel::hard:
      event.type = channel::EventType::hard_expire;
      event.body.hard_expire = {sa, expiry.cause};
      break;
  }
  return event;
}

void log_sa(std::string_view event, const channel::InstallSa& spec, const ChildName& child) {
  runtime::log(runtime::Level::info, event,
               {{"connection", child.connection},
                {"child", child.child},
                {"direction", spec.direction == channel::Direction::in ? "in" : "out"},
                {"spi", spi_text(spec.spi)},
                {"suite", spec.suite.name()},
                {"remote", spec.remote.address.to_string()}});
}

}  // namespace

std::optional<double> seconds_since(std::uint64_t tsc) {
  return seconds_between(tsc, rte_get_tsc_cycles());
}

std::optional<double> seconds_between(std::uint64_t tsc, std::uint64_t now) {
  if (tsc == 0) return std::nullopt;
  // A worker's reading may be a little ahead of ours.
  if (tsc > now) return tsc - now > rte_get_tsc_hz() ? std::nullopt : std::optional(0.0);
  return static_cast<double>(now - tsc) / static_cast<double>(rte_get_tsc_hz());
}

std::uint64_t idle_milliseconds(std::uint64_t last_packet_tsc) {
  const auto seconds = seconds_since(last_packet_tsc);
  return seconds ? static_cast<std::uint64_t>(*seconds * 1000.0) : ~std::uint64_t{0};
}

/// What the tables cannot know: whose child it is, whether the outer addresses are ours to use.
std::optional<Outcome> Associations::refuse(const channel::InstallSa& request) const {
  if (!topology_.is_own(request.local.address)) return Outcome::no_route;
  if (!topology_.next_hop(request.remote.address)) return Outcome::no_route;
  return std::nullopt;
}

Outcome Associations::install(const channel::InstallSa& request, Instant now) {
  const config::Child* const child = children_.find(request.child_id);
  if (child == nullptr) return Outcome::invalid_field;
  const auto is_allowed = [&](const ChildTerms& terms) { return allows(terms, request); };
  if (std::ranges::none_of(children_.terms(request.child_id), is_allowed)) {
    return Outcome::invalid_field;
  }
  if (const auto refused = refuse(request)) return *refused;
  const SaSettings settings = settings_of(request, child->headers, now);
  const auto slot = tables_.sad->install(request, rte_get_tsc_cycles(), settings);
  if (!slot) return slot.error();
  index_outbound(request);
  watch(request, now);
  schedule_dummies(request, settings, now);
  steer(request, *slot);
  log_sa("sa_installed", request, children_.name(request.child_id));
  return Outcome::ok;
}

std::optional<std::string> Associations::why_not_manual(const channel::InstallSa& request) const {
  if (!refuse(request)) return std::nullopt;
  return "local " + request.local.address.to_string() +
         " is no address of ours, or there is no route to " + request.remote.address.to_string();
}

std::expected<SlotIndex, std::string> Associations::install_manual(
    const channel::InstallSa& request, const config::ManualSa& configured, Instant now,
    SaSettings settings) {
  const SaSettings known = settings_of(request, configured.headers, now);
  settings.headers = known.headers;
  settings.path_mtu = known.path_mtu;
  settings.first_sequence = configured.first_sequence;
  const auto slot = tables_.sad->install_manual(request, rte_get_tsc_cycles(), settings);
  if (!slot) return std::unexpected(std::string(channel::to_string(slot.error())));
  index_outbound(request);
  watch(request, now);
  schedule_dummies(request, settings, now);
  steer(request, *slot);
  log_sa("sa_installed", request, {std::string(kManualConnection), configured.name, true});
  return *slot;
}

void Associations::watch(const channel::InstallSa& request, Instant now) {
  const auto [added, is_new] =
      watches_.emplace(request.sa, LifetimeWatch(request.lifetime, request.esn, now));
  set_end(*tables_.sad->find(request.sa), added->second, now);
  by_child_.emplace(request.child_id, request.sa);
  round_.installed(request.sa, request.child_id, request.direction);
  for (ChildCount* const count : counts_) count->installed(request.child_id, request.direction);
}

/// By the port that has the address which the peer sends to: nearly always it comes in there.
void Associations::steer(const channel::InstallSa& spec, SlotIndex slot) {
  if (spec.direction == channel::Direction::out) return;
  const auto port = topology_.port_of(spec.local.address);
  if (!port) return;
  steering_.add({slot,
                 static_cast<std::uint32_t>(spec.spi),
                 *port,
                 {.is_v6 = !spec.local.address.is_v4(), .is_in_udp = spec.udp_encapsulation}});
}

void Associations::steer_again() {
  steer_from_ = {};
  steers_again_ = true;
}

/// What is installed meanwhile is steered by where addresses are now, and loses nothing by a second
/// look.
void Associations::steer_some() {
  if (!steers_again_) return;
  auto item = watches_.lower_bound(steer_from_);
  for (std::size_t seen = 0; seen < kScannedAtOnce && item != watches_.end(); ++seen, ++item) {
    const SaRecord* const record = tables_.sad->find(item->first);
    if (record != nullptr) steer(record->spec, record->slot);
  }
  steers_again_ = item != watches_.end();
  if (steers_again_) steer_from_ = item->first;
}

/// Tells workers by their clock when the SA ends. Again at each scan: EAL knows the frequency of
/// that clock to some parts in a thousand, which are seconds of an hour, and less the nearer the
/// end.
void Associations::set_end(const SaRecord& record, const LifetimeWatch& watch, Instant now) {
  const auto left = watch.time_left(now);
  if (!left) return;
  const std::uint64_t hertz = rte_get_tsc_hz();
  const std::uint64_t tsc = cycles_later(rte_get_tsc_cycles(), *left, hertz);
  const std::uint64_t before = tables_.sad->end_of(record);
  // Workers have the SA's line in their caches: it stays there while the difference is small.
  const std::uint64_t difference = tsc > before ? tsc - before : before - tsc;
  if (difference > hertz / 1000) tables_.sad->set_end(record, tsc);
}

Outcome Associations::remove(channel::SaId sa) {
  const SaRecord* const record = tables_.sad->find(sa);
  if (record == nullptr || is_manual(*record)) return Outcome::unknown_sa;
  return tables_.sad->remove(sa, {.traffic = take_out(*record)});
}

Outcome Associations::remove_manual(channel::SaId sa, TakeLastNumbers then) {
  const SaRecord* const record = tables_.sad->find(sa);
  if (record == nullptr) return Outcome::unknown_sa;
  return tables_.sad->remove(sa, {take_out(*record), std::move(then)});
}

Outcome Associations::remove_for_successor(channel::SaId sa, TakeLastNumbers then) {
  const SaRecord* const record = tables_.sad->find(sa);
  if (record == nullptr) return Outcome::unknown_sa;
  return tables_.sad->remove_for_successor(sa, {take_out(*record), std::move(then)});
}

TakeTraffic Associations::take_out(const SaRecord& record) {
  const channel::SaId sa = record.spec.sa;
  if (record.spec.direction == channel::Direction::out) {
    tables_.spd->unbind(record.slot);
  } else {
    steering_.remove(record.slot);
  }
  const ChildId child = record.spec.child_id;
  const channel::Direction direction = record.spec.direction;
  SaTraffic traffic = tables_.sad->traffic(record);
  round_.ending(sa, child, direction, traffic);
  for (ChildCount* const count : counts_) count->ending(sa, child, direction, traffic);
  accounts_->fold(child, direction, traffic);
  log_sa("sa_removed", record.spec, children_.name(child));
  if (record.is_over) --over_[static_cast<std::size_t>(direction)];
  watches_.erase(sa);
  by_child_.erase({record.spec.child_id, sa});
  unindex_outbound(record.spec);
  traffic.last_refusal.reset();  // not asked for again, and the largest part of it
  // Workers pass packets until it is removed, and the burst in hand behind that.
  return
      [accounts = accounts_, child, direction, before = std::move(traffic)](const SaTraffic& all) {
        accounts->fold_rest(child, direction, traffic_since(before, all));
      };
}

std::set<ChildId> Associations::borne() const {
  std::set<ChildId> all;
  for (const auto& [child, sa] : by_child_) all.insert(all.end(), child);
  return all;
}

void Associations::children_changed() {
  const auto is_gone = [&](ChildId child) { return children_.name(child).child.empty(); };
  // Reports are by the list of children; sums are by child, whatever their order.
  if (round_.phase() == ChildRound::Phase::counted) round_.end();
  round_.forget(is_gone);
  accounts_->forget(is_gone);
  unreachables_.forget(is_gone);
}

void Associations::count_some(std::size_t count) {
  auto item = watches_.lower_bound(round_.next());
  for (; count != 0 && item != watches_.end(); --count, ++item) {
    const SaRecord& record = *tables_.sad->find(item->first);
    round_.count(record.spec.child_id, record.spec.direction, tables_.sad->traffic(record),
                 is_live(record), {record.installed_tsc, tables_.sad->end_of(record)});
  }
  if (item == watches_.end()) return round_.all_passed();
  round_.passed(item->first);
}

std::size_t Associations::count_some(ChildCount& count, std::size_t most) {
  std::size_t counted = 0;
  auto item = by_child_.lower_bound({count.child(), count.next()});
  const auto is_over = [&] { return item == by_child_.end() || item->first != count.child(); };
  for (; counted < most && !is_over(); ++counted, ++item) {
    const SaRecord& record = *tables_.sad->find(item->second);
    count.count(record.spec.direction, tables_.sad->traffic(record), is_live(record));
  }
  if (is_over()) {
    count.all_passed();
  } else {
    count.passed(item->second);
  }
  return counted;
}

bool Associations::visit_some(std::optional<channel::SaId>& below, std::size_t most,
                              const std::function<void(const SaRecord&)>& visit) const {
  auto item = below ? watches_.lower_bound(*below) : watches_.end();
  for (; most != 0 && item != watches_.begin(); --most) {
    --item;
    visit(*tables_.sad->find(item->first));
    below = item->first;
  }
  return item == watches_.begin();
}

Outcome Associations::update_endpoints(const channel::UpdateEndpoints& request, Instant now) {
  const SaRecord* const record = tables_.sad->find(request.sa);
  if (record == nullptr || is_manual(*record)) return Outcome::unknown_sa;
  if (!topology_.is_own(request.local.address) || !topology_.next_hop(request.remote.address)) {
    return Outcome::no_route;
  }
  const wire::Endpoint before = path_to(record->spec);
  const Outcome outcome = tables_.sad->update_endpoints(request);
  if (outcome != Outcome::ok) return outcome;
  steer(record->spec, record->slot);
  move_path_mtu(record->spec, before, now);
  return Outcome::ok;
}

std::expected<channel::SaTraffic, Outcome> Associations::query(channel::SaId sa) const {
  const SaRecord* const record = tables_.sad->find(sa);
  if (record == nullptr) return std::unexpected(Outcome::unknown_sa);
  const SaUsage usage = tables_.sad->usage(*record);
  return channel::SaTraffic{usage.packets, usage.bytes, idle_milliseconds(usage.last_packet_tsc)};
}

void Associations::scan(channel::Server& channel, Instant now) {
  auto item = watches_.lower_bound(scan_from_);
  const std::size_t count = std::min(watches_.size(), kScannedAtOnce);
  for (std::size_t examined = 0; examined < count; ++examined) {
    if (item == watches_.end()) item = watches_.begin();
    examine(item->first, item->second, channel, now);
    ++item;
  }
  scan_from_ = item == watches_.end() ? channel::SaId{} : item->first;
}

void Associations::examine(channel::SaId sa, LifetimeWatch& watch, channel::Server& channel,
                           Instant now) {
  SaRecord* const record = tables_.sad->find(sa);
  if (record == nullptr) return;
  watch.set_listener(listener_);
  const SaUsage usage = tables_.sad->usage(*record);
  auto due = watch.due({usage.packets, usage.bytes, usage.sequence}, now);
  // The worker stops at the very packet; its word goes before our arithmetic.
  const StopCause stopped = tables_.sad->stopped(*record);
  if (stopped == StopCause::none) set_end(*record, watch, now);
  if (stopped != StopCause::none && !watch.hard_announced()) {
    due = Expiry{ExpiryLevel::hard, cause_of(stopped)};
  }
  if (!due) return;
  if (due->level == ExpiryLevel::hard) {
    if (stopped == StopCause::none) tables_.sad->stop(sa, stop_of(due->cause));
    if (!std::exchange(record->is_over, true)) {
      ++over_[static_cast<std::size_t>(record->spec.direction)];
      log_sa("sa_expired", record->spec, children_.name(record->spec.child_id));
    }
  }
  if (channel.connected() && channel.send(event_of(sa, *due))) watch.announced(due->level);
}

bool Associations::is_live(const SaRecord& record) const {
  return tables_.sad->stopped(record) == StopCause::none;
}

std::uint32_t Associations::live(channel::Direction direction) const {
  return tables_.sad->count(direction) - over_[static_cast<std::size_t>(direction)];
}

std::optional<Instant> Associations::installed(channel::SaId sa) const {
  const auto found = watches_.find(sa);
  if (found == watches_.end()) return std::nullopt;
  return found->second.installed();
}

}  // namespace culvert::dataplane::control
