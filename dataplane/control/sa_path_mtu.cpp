// Associations' part in what the path says: which SA a message is about, what its SAs send from
// then on (RFC 4301 §8.2), and what is shown of it.
#include <rte_cycles.h>

#include "dataplane/control/associations.hpp"
#include "runtime/log.hpp"

namespace culvert::dataplane::control {

const SaRecord* Associations::find_outbound(std::uint32_t spi,
                                            const wire::IpAddress& remote) const {
  const auto sa = outbound_.find(spi, remote);
  return sa ? tables_.sad->find(*sa) : nullptr;
}

std::expected<void, DropReason> Associations::too_big(wire::Bytes packet, Instant now) {
  const auto message = read_too_big(packet);
  if (!message) return std::unexpected(DropReason::icmp_ignored);
  const SaRecord* const record = find_outbound(message->spi, message->remote);
  if (record == nullptr || !is_live(*record)) return std::unexpected(DropReason::icmp_ignored);
  const channel::InstallSa& spec = record->spec;
  const QuotedSa quoted{spec.sa, spec.local.address, path_to(spec),
                        tables_.sad->usage(*record).sequence, tables_.sad->path_mtu(*record)};
  if (const auto judged = PathMtus::judge(*message, quoted); !judged) {
    return std::unexpected(judged.error() == TooBigRefusal::below_minimum
                               ? DropReason::path_mtu_below_minimum
                               : DropReason::icmp_ignored);
  }
  // Only now: what anybody can make up takes nothing from what an SA vouches for.
  if (!too_big_.take(kTooBigMessages, now)) return std::unexpected(DropReason::icmp_ignored);
  const auto learnt = path_mtus_.learn(*message, quoted, now);
  if (!learnt) return std::unexpected(DropReason::icmp_ignored);
  tables_.sad->set_path_mtu(spec.sa, learnt->mtu);
  take_links_mtu(learnt->over);
  const ChildName& child = children_.name(spec.child_id);
  runtime::log(runtime::Level::info, "path_mtu_learnt",
               {{"connection", child.connection},
                {"child", child.child},
                {"remote", spec.remote.address.to_string()},
                {"mtu", learnt->mtu}});
  return {};
}

bool Associations::unreachable(wire::Bytes packet) {
  const auto message = read_unreachable(packet);
  if (!message) return false;
  const QuotedEsp& quoted = message->quoted;
  const SaRecord* const record = find_outbound(quoted.spi, quoted.remote);
  if (record == nullptr || !is_live(*record)) return false;
  const channel::InstallSa& spec = record->spec;
  // RFC 4301 §6.1.1 leaves it to us whether to heed an error that nobody authenticated. It is shown
  // only; of whom that quotes no packet that we sent lately, not even that.
  if (quoted.local != spec.local.address || quoted.is_in_udp != spec.udp_encapsulation ||
      !PathMtus::is_recent(quoted.sequence, tables_.sad->usage(*record).sequence)) {
    return false;
  }
  unreachables_.told(spec.child_id, *message, rte_get_tsc_cycles());
  return true;
}

void Associations::take_links_mtu(const std::vector<channel::SaId>& sas) {
  for (const channel::SaId sa : sas) tables_.sad->set_path_mtu(sa, kNoPathMtu);
}

void Associations::expire_path_mtus(Instant now) { take_links_mtu(path_mtus_.expire(now)); }

void Associations::move_path_mtu(const channel::InstallSa& spec, const wire::Endpoint& before,
                                 Instant now) {
  if (spec.direction == channel::Direction::in) return;
  outbound_.remove(static_cast<std::uint32_t>(spec.spi), before.address, spec.sa);
  path_mtus_.left(before, spec.sa);
  index_outbound(spec);
  tables_.sad->set_path_mtu(spec.sa, path_mtus_.of(path_to(spec), now).value_or(kNoPathMtu));
}

SaSettings Associations::settings_of(const channel::InstallSa& request,
                                     const config::HeaderOptions& headers, Instant now) {
  SaSettings settings;
  settings.headers = headers;
  if (request.direction == channel::Direction::in) return settings;
  settings.path_mtu = path_mtus_.of(path_to(request), now).value_or(kNoPathMtu);
  return settings;
}

void Associations::index_outbound(const channel::InstallSa& request) {
  if (request.direction == channel::Direction::in) return;
  outbound_.add(static_cast<std::uint32_t>(request.spi), request.remote.address, request.sa);
  path_mtus_.joined(path_to(request), request.sa);
}

void Associations::unindex_outbound(const channel::InstallSa& spec) {
  if (spec.direction == channel::Direction::in) return;
  path_mtus_.left(path_to(spec), spec.sa);
  outbound_.remove(static_cast<std::uint32_t>(spec.spi), spec.remote.address, spec.sa);
}

}  // namespace culvert::dataplane::control
