#include "ike/daemon/metrics.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>

namespace culvert::ike {
namespace {

using runtime::Family;

double as_sample(std::uint64_t value) { return static_cast<double>(value); }

prometheus::MetricFamily exchanges(const MachineCounters& counters) {
  static constexpr std::array kExchanges{"ike_sa_init", "ike_auth", "create_child_sa",
                                         "informational"};
  static constexpr std::array kRoles{"initiated", "answered"};
  static constexpr std::array kResults{"ok", "failed"};
  Family family = Family::counter("culvert_ike_exchanges_total", "IKE exchanges that ended");
  for (std::size_t exchange = 0; exchange < kExchanges.size(); ++exchange) {
    for (std::size_t role = 0; role < kRoles.size(); ++role) {
      for (std::size_t result = 0; result < kResults.size(); ++result) {
        family.add({{"exchange", kExchanges[exchange]},
                    {"role", kRoles[role]},
                    {"result", kResults[result]}},
                   as_sample(counters.exchanges[exchange][role][result]));
      }
    }
  }
  return family.take();
}

/// Every configured connection has a row for "established", 0 when it is down.
prometheus::MetricFamily ike_sas(const std::vector<IkeSaStatus>& sas,
                                 const std::vector<ConnectionStatus>& connections) {
  std::map<std::pair<std::string_view, std::string_view>, std::uint64_t> counts;
  for (const IkeSaStatus& sa : sas) ++counts[{sa.connection, sa.state}];
  Family family = Family::gauge("culvert_ike_sas", "IKE SAs by connection and state");
  for (const ConnectionStatus& connection : connections) {
    for (const char* state : {"init", "auth", "established", "rekeying", "deleting"}) {
      family.add({{"connection", connection.name}, {"state", state}},
                 as_sample(counts[{connection.name, state}]));
    }
  }
  return family.take();
}

prometheus::MetricFamily rekeys(const MachineCounters& counters) {
  Family family = Family::counter("culvert_ike_rekeys_total", "Rekeys of IKE and child SAs");
  family.add({{"kind", "child"}, {"result", "ok"}}, as_sample(counters.child_rekeys_ok));
  family.add({{"kind", "child"}, {"result", "failed"}}, as_sample(counters.child_rekeys_failed));
  family.add({{"kind", "ike"}, {"result", "ok"}}, as_sample(counters.ike_rekeys_ok));
  family.add({{"kind", "ike"}, {"result", "failed"}}, as_sample(counters.ike_rekeys_failed));
  return family.take();
}

/// By child, so that it can be told which tunnel is about to stop.
prometheus::MetricFamily child_rekeys(const std::vector<ConnectionStatus>& connections) {
  Family family = Family::counter("culvert_ike_child_rekeys_total", "Rekeys of a child's SAs");
  for (const ConnectionStatus& connection : connections) {
    for (const ChildPlan& child : connection.children) {
      runtime::Labels labels{
          {"connection", connection.name}, {"child", child.name}, {"result", "ok"}};
      family.add(labels, as_sample(child.rekeys_ok));
      labels.back().second = "failed";
      family.add(labels, as_sample(child.rekeys_failed));
    }
  }
  return family.take();
}

prometheus::MetricFamily fragments(const MachineCounters& counters) {
  Family family = Family::counter("culvert_ike_fragments_total", "IKE fragments (RFC 7383)");
  family.add({{"result", "sent"}}, as_sample(counters.fragments_sent));
  family.add({{"result", "received"}}, as_sample(counters.fragments_received));
  family.add({{"result", "discarded"}}, as_sample(counters.fragments_discarded));
  return family.take();
}

/// Every reason that a proof can fail for has a row, so that a rate exists before the first. Which
/// those are the table of failures says.
prometheus::MetricFamily authentication_failures(const MachineCounters& counters) {
  Family family = Family::counter("culvert_ike_authentication_failures_total",
                                  "Authentications that failed, the peer's or ours, by reason");
  for (const FailureInfo& reason : all_failures()) {
    const auto found = counters.authentication_failures_by_reason.find(reason.failure);
    const bool none = found == counters.authentication_failures_by_reason.end();
    if (none && !reason.is_authentication) continue;
    family.add({{"reason", std::string(reason.name)}}, none ? 0 : as_sample(found->second));
  }
  return family.take();
}

prometheus::MetricFamily certificate_expiry(const std::vector<Certificates::Loaded>& loaded) {
  // The earliest of those that look the same: two rows of one name would break the scrape.
  std::map<std::array<std::string, 3>, std::int64_t> earliest;
  for (const Certificates::Loaded& one : loaded) {
    const auto [row, added] =
        earliest.try_emplace({one.kind, one.file, one.subject}, one.not_after);
    if (!added) row->second = std::min(row->second, one.not_after);
  }
  Family family = Family::gauge("culvert_ike_certificate_not_after_timestamp_seconds",
                                "When a configured certificate expires, Unix time");
  for (const auto& [names, not_after] : earliest) {
    family.add({{"kind", names[0]}, {"file", names[1]}, {"subject", names[2]}},
               static_cast<double>(not_after));
  }
  return family.take();
}

}  // namespace

runtime::MetricFamilies render_metrics(const MachineCounters& counters,
                                       const std::vector<IkeSaStatus>& sas,
                                       const std::vector<ConnectionStatus>& connections,
                                       bool dataplane_connected,
                                       const std::vector<Certificates::Loaded>& certificates) {
  runtime::MetricFamilies families;
  families.push_back(ike_sas(sas, connections));
  families.push_back(
      Family::gauge("culvert_ike_half_open", "IKE SAs that are not authenticated yet")
          .add({}, as_sample(counters.half_open))
          .take());
  families.push_back(exchanges(counters));
  families.push_back(Family::counter("culvert_ike_retransmits_total", "Requests sent again")
                         .add({}, as_sample(counters.retransmits_sent))
                         .take());
  families.push_back(authentication_failures(counters));
  if (!certificates.empty()) families.push_back(certificate_expiry(certificates));
  families.push_back(rekeys(counters));
  families.push_back(child_rekeys(connections));
  families.push_back(
      Family::counter("culvert_ike_invalid_messages_total", "IKE messages refused by the parser")
          .add({}, as_sample(counters.invalid_messages))
          .take());
  families.push_back(fragments(counters));
  families.push_back(Family::gauge("culvert_ike_dataplane_connected", "1 while the channel is up")
                         .add({}, dataplane_connected ? 1 : 0)
                         .take());
  return families;
}

void add_process(const ProcessFacts& facts, runtime::MetricFamilies& families) {
  families.push_back(Family::gauge("culvert_ike_config_info", "The configuration in force")
                         .add({{"version", facts.config_version}}, 1)
                         .take());
  families.push_back(Family::gauge("culvert_ike_config_last_reload_successful",
                                   "0 from a refused reload to the next one that is not")
                         .add({}, facts.last_reload_ok ? 1 : 0)
                         .take());
  families.push_back(Family::gauge("culvert_ike_build_info", "What runs")
                         .add({{"version", CULVERT_VERSION}, {"gateway", facts.gateway}}, 1)
                         .take());
  families.push_back(runtime::process_start_time());
  families.push_back(runtime::process_memory());
}

prometheus::MetricFamily render_fetches(const RevocationFetches::Counters& counters) {
  Family family = Family::counter("culvert_ike_revocation_fetches_total",
                                  "Revocation lists and OCSP responses fetched over HTTP");
  family.add({{"kind", "list"}, {"result", "ok"}}, as_sample(counters.lists_ok));
  family.add({{"kind", "list"}, {"result", "failed"}}, as_sample(counters.lists_failed));
  family.add({{"kind", "ocsp"}, {"result", "ok"}}, as_sample(counters.statuses_ok));
  family.add({{"kind", "ocsp"}, {"result", "failed"}}, as_sample(counters.statuses_failed));
  return family.take();
}

}  // namespace culvert::ike
