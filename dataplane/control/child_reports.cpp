#include "dataplane/control/child_reports.hpp"

#include <algorithm>

#include <rte_cycles.h>

namespace culvert::dataplane::control {
namespace {

ChildTrafficReport traffic_report(const ChildTotals& totals, const SaSpan& span,
                                  std::uint64_t now_tsc) {
  ChildTrafficReport report;
  report.sa_age_seconds = seconds_between(span.installed_tsc, now_tsc);
  if (span.end_tsc != 0 && span.end_tsc != kNeverEnds) {
    report.sa_remaining_seconds =
        span.end_tsc <= now_tsc ? 0 : seconds_between(now_tsc, span.end_tsc);
  }
  report.packets = totals.packets;
  report.bytes = totals.bytes;
  report.last_packet_age_seconds = seconds_between(totals.last_packet_tsc, now_tsc);
  report.drops = named_drops(totals.drops);
  report.last_drop_age_seconds = seconds_between(totals.last_drop_tsc, now_tsc);
  for (std::size_t alarm = 0; alarm < kEcnAlarms; ++alarm) {
    if (totals.ecn_alarms[alarm] == 0) continue;
    report.ecn_alarms.emplace_back(kEcnAlarmNames[alarm], totals.ecn_alarms[alarm]);
  }
  report.late = totals.late;
  report.missed = totals.missed;
  report.advised_window = advised_window(totals);
  report.last_refused = refusal_report(totals.last_refusal, now_tsc);
  report.resynchronized = totals.resynchronized;
  // What is sent, and what was received, which ends there.
  report.dummies =
      totals.dummies + totals.drops[static_cast<std::size_t>(DropReason::dummy_packet)];
  return report;
}

std::optional<UnreachableReport> unreachable_report(const std::optional<Unreachable>& message,
                                                    std::uint64_t now_tsc) {
  if (!message) return std::nullopt;
  const UnreachableText text = text_of(*message);
  return UnreachableReport{.from = message->from.to_string(),
                           .to = message->to.to_string(),
                           .meaning = std::string(text.meaning),
                           .remedy = std::string(text.remedy),
                           .is_in_udp = message->is_in_udp,
                           .type = message->type,
                           .code = message->code,
                           .messages = message->messages,
                           .age_seconds = seconds_between(message->tsc, now_tsc).value_or(0)};
}

}  // namespace

std::optional<RefusalReport> refusal_report(const std::optional<SaRefusal>& refusal,
                                            std::uint64_t now_tsc) {
  if (!refusal) return std::nullopt;
  return RefusalReport{seconds_between(refusal->packet.tsc, now_tsc).value_or(0),
                       refusal->packet.flow, refusal->source, refusal->destination};
}

bool is_wanted(ChildId id, const ChildName& name, const Acquires* acquires) {
  switch (name.started_by) {
    case StartedBy::configuration:
      return true;
    case StartedBy::traffic:
      return acquires != nullptr && acquires->is_wanted(id, runtime::now());
    case StartedBy::command:
    case StartedBy::peer:
      return false;
  }
  return true;
}

ChildReport child_report(ChildId id, const ChildName& name, const ChildSums& sums,
                         const std::optional<Unreachable>& unreachable, std::uint64_t now_tsc) {
  const auto is_up = [&](channel::Direction direction, bool is_wanted) {
    return sums.live[static_cast<std::size_t>(direction)] || !is_wanted;
  };
  return {.connection = name.connection,
          .child = name.child,
          .id = id,
          .manual = name.manual,
          .has_in = name.in,
          .has_out = name.out,
          .started_by = name.started_by,
          .up = is_up(channel::Direction::in, name.in) && is_up(channel::Direction::out, name.out),
          .wanted = is_wanted(id, name, nullptr),
          .in = traffic_report(sums.totals[0], sums.spans[0], now_tsc),
          .out = traffic_report(sums.totals[1], sums.spans[1], now_tsc),
          .unreachable = unreachable_report(unreachable, now_tsc)};
}

/// 1. SAs are counted; 2. when all are, reports are made of the sums, of the same moment.
bool ChildReports::work(std::vector<ChildReport>& reports) {
  const std::vector<ChildId>& ids = children_.in_order();
  ChildRound& round = associations_.round();
  if (round.phase() == ChildRound::Phase::none) {
    round.begin(ids.size());
    reports.reserve(ids.size());
    reported_ = 0;
  }
  if (round.phase() == ChildRound::Phase::counting) {
    associations_.count_some(kSasAtOnce);
    if (round.phase() == ChildRound::Phase::counting) return false;
    as_of_tsc_ = rte_get_tsc_cycles();
  }
  const std::size_t end = std::min(ids.size(), reported_ + kChildrenAtOnce);
  for (; reported_ < end; ++reported_) {
    const ChildId id = ids[reported_];
    const ChildName& name = children_.name(id);
    ChildReport report =
        child_report(id, name, round.of(id), associations_.unreachable_of(id), as_of_tsc_);
    report.wanted = is_wanted(id, name, acquires_);
    if (reported_ < reports.size()) {
      reports[reported_] = std::move(report);
    } else {
      reports.push_back(std::move(report));
    }
  }
  if (reported_ < ids.size()) return false;
  reports.resize(ids.size());
  round.end();
  return true;
}

}  // namespace culvert::dataplane::control
