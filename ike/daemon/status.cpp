#include "ike/daemon/status.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include <spdlog/fmt/fmt.h>

namespace culvert::ike {
namespace {

using nlohmann::json;

json selectors(const std::vector<wire::TrafficSelector>& items) {
  json list = json::array();
  for (const wire::TrafficSelector& item : items) list.push_back(item.to_string());
  return list;
}

std::string spi(channel::Spi value) {
  return fmt::format("0x{:08x}", static_cast<std::uint32_t>(value));
}

/// "2031-05-01 12:00:00 UTC"; null for no date.
json date(std::int64_t unix_time) {
  if (unix_time == 0) return nullptr;
  const std::time_t seconds = unix_time;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

json render_failure(Failure failure, const std::string& detail) {
  const FailureInfo& row = info(failure);
  return {
      {"failure", row.name}, {"detail", detail}, {"meaning", row.meaning}, {"remedy", row.remedy}};
}

/// null: never.
json seconds(const std::optional<std::chrono::seconds>& span) {
  return span ? json(span->count()) : json(nullptr);
}

json render_child(const ChildStatus& child) {
  return {{"child", child.name},
          {"id", fmt::format("{:016x}", static_cast<std::uint64_t>(child.child_id))},
          {"state", child.state},
          {"spi_in", spi(child.inbound)},
          {"spi_out", spi(child.outbound)},
          {"suite", child.suite.name()},
          {"esn", child.esn},
          {"pfs", child.pfs_group},
          {"udp_encapsulation", child.udp_encapsulation},
          {"local_ts", selectors(child.local_selectors)},
          {"remote_ts", selectors(child.remote_selectors)},
          {"age_seconds", child.age.count()},
          {"rekey_in_seconds", seconds(child.rekey_in)},
          {"expires_in_seconds", seconds(child.expires_in)},
          {"notice",
           child.notice ? render_failure(*child.notice, child.notice_detail) : json(nullptr)}};
}

/// What is there of each connection.
class Standing {
 public:
  explicit Standing(const std::vector<IkeSaStatus>& sas) {
    for (const IkeSaStatus& sa : sas) {
      if (sa.state == "init" || sa.state == "auth") begun_.insert(sa.connection);
      if (sa.state == "established" || sa.state == "rekeying") established_.insert(sa.connection);
      for (const ChildStatus& child : sa.children) {
        if (child.state != "deleting") installed_.emplace(sa.connection, child.child_id);
      }
    }
  }
  [[nodiscard]] const char* state_of(const config::Connection& connection,
                                     const ConnectionStatus& status) const {
    if (is_up(connection)) return "up";
    const bool is_negotiating = begun_.contains(connection.name) ||
                                std::ranges::any_of(status.children, &ChildPlan::is_coming);
    if (is_negotiating) return "negotiating";
    return established_.contains(connection.name) ? "partial" : "down";
  }

 private:
  [[nodiscard]] bool is_up(const config::Connection& connection) const {
    const auto installed = [&](const config::Child& child) {
      return installed_.contains({connection.name, child.id});
    };
    return !connection.children.empty() && std::ranges::all_of(connection.children, installed);
  }

  std::set<std::string_view> begun_, established_;
  std::set<std::pair<std::string_view, config::ChildId>> installed_;
};

}  // namespace

json render_ike_sas(const std::vector<IkeSaStatus>& sas) {
  json list = json::array();
  for (const IkeSaStatus& sa : sas) {
    json children = json::array();
    for (const ChildStatus& child : sa.children) children.push_back(render_child(child));
    list.push_back({{"connection", sa.connection},
                    {"state", sa.state},
                    {"role", sa.initiator ? "initiator" : "responder"},
                    {"initiator_spi", fmt::format("0x{:016x}", sa.initiator_spi)},
                    {"responder_spi", fmt::format("0x{:016x}", sa.responder_spi)},
                    {"local", sa.local.to_string()},
                    {"remote", sa.remote.to_string()},
                    {"local_id", sa.local_id},
                    {"remote_id", sa.remote_id},
                    {"local_auth", sa.local_auth},
                    {"remote_auth", sa.remote_auth},
                    {"remote_certificate", sa.remote_certificate},
                    {"remote_certificate_expires", date(sa.remote_certificate_expires)},
                    {"suite", sa.suite.name()},
                    {"nat_local", sa.nat_local},
                    {"nat_remote", sa.nat_remote},
                    {"fragmentation", sa.fragmentation},
                    {"mobike", sa.mobike},
                    {"post_quantum", sa.post_quantum},
                    {"age_seconds", sa.age.count()},
                    {"rekey_in_seconds", seconds(sa.rekey_in)},
                    {"children", std::move(children)}});
  }
  return list;
}

json render_connections(const std::vector<ConnectionStatus>& connections,
                        const std::vector<IkeSaStatus>& sas, const config::Config& configuration) {
  const Standing standing(sas);
  std::map<std::string_view, const config::Connection*> configured;
  for (const config::Connection& one : configuration.connections) configured[one.name] = &one;
  json list = json::array();
  for (const ConnectionStatus& status : connections) {
    const auto connection = configured.find(status.name);
    const bool is_known = connection != configured.end();
    const bool has_address = is_known && connection->second->remote.address.has_value();
    json children = json::array();
    for (const ChildPlan& child : status.children) {
      children.push_back({{"child", child.name},
                          {"negotiating", child.is_coming},
                          {"terminated", child.is_terminated},
                          {"rekeys", {{"ok", child.rekeys_ok}, {"failed", child.rekeys_failed}}}});
    }
    json row{{"connection", status.name},
             {"remote",
              has_address ? json(connection->second->remote.address->to_string()) : json(nullptr)},
             {"state", is_known ? standing.state_of(*connection->second, status) : "down"},
             {"last_failure", nullptr},
             {"retry_in_seconds", nullptr},
             {"children", std::move(children)}};
    if (status.last_failure) {
      row["last_failure"] = render_failure(*status.last_failure, status.last_failure_detail);
      row["last_failure"]["child"] =
          status.last_failure_child.empty() ? json(nullptr) : json(status.last_failure_child);
      row["last_failure"]["while_up"] = status.fails_while_up;
      row["last_failure"]["age_seconds"] = status.last_failure_age.count();
    }
    if (status.retry_in) row["retry_in_seconds"] = status.retry_in->count();
    list.push_back(std::move(row));
  }
  return list;
}

json render_stranger(const std::optional<StrangerStatus>& stranger) {
  if (!stranger) return nullptr;
  json row = render_failure(stranger->failure, stranger->detail);
  row["age_seconds"] = stranger->age.count();
  return row;
}

json render_revocation(const Certificates& certificates) {
  using crypto::pki::RevocationPolicy;
  const config::Pki& rules = certificates.rules();
  json lists = json::array();
  for (const auto& list : certificates.fetches().list_states()) {
    lists.push_back({{"url", list.url},
                     {"fetched", date(list.fetched)},
                     {"next_update", date(list.next_update)},
                     {"problem", list.problem.empty() ? json(nullptr) : json(list.problem)}});
  }
  const auto& counters = certificates.fetches().counters();
  return {{"policy", rules.revocation == RevocationPolicy::strict ? "strict"
                     : rules.revocation == RevocationPolicy::off  ? "off"
                                                                  : "if-available"},
          {"ocsp", rules.ocsp == config::Ocsp::fetch     ? "fetch"
                   : rules.ocsp == config::Ocsp::in_band ? "in-band"
                                                         : "off"},
          {"authorities", certificates.trusted().authorities().size()},
          {"lists_in_force", certificates.trusted().revocation_lists().size()},
          {"lists", std::move(lists)},
          {"fetches",
           {{"lists", {{"ok", counters.lists_ok}, {"failed", counters.lists_failed}}},
            {"ocsp", {{"ok", counters.statuses_ok}, {"failed", counters.statuses_failed}}}}}};
}

json render_counters(const MachineCounters& counters) {
  static constexpr std::array kExchanges{"ike_sa_init", "ike_auth", "create_child_sa",
                                         "informational"};
  json exchanges = json::object();
  for (std::size_t index = 0; index < kExchanges.size(); ++index) {
    const auto& [initiated, answered] = counters.exchanges[index];
    exchanges[kExchanges[index]] = {{"initiated", {{"ok", initiated[0]}, {"failed", initiated[1]}}},
                                    {"answered", {{"ok", answered[0]}, {"failed", answered[1]}}}};
  }
  return {{"half_open", counters.half_open},
          {"retransmits_sent", counters.retransmits_sent},
          {"retransmits_answered", counters.retransmits_answered},
          {"cookies_sent", counters.cookies_sent},
          {"invalid_messages", counters.invalid_messages},
          {"fragments",
           {{"sent", counters.fragments_sent},
            {"received", counters.fragments_received},
            {"discarded", counters.fragments_discarded}}},
          {"authentication_failures", counters.authentication_failures},
          {"child_rekeys",
           {{"ok", counters.child_rekeys_ok}, {"failed", counters.child_rekeys_failed}}},
          {"ike_rekeys", {{"ok", counters.ike_rekeys_ok}, {"failed", counters.ike_rekeys_failed}}},
          {"exchanges", std::move(exchanges)}};
}

json render_channel(const channel::ClientStatistics& statistics) {
  return {{"requests", statistics.requests},
          {"events", statistics.events},
          {"invalid_events", statistics.invalid_events},
          {"torn_indices", statistics.torn_indices},
          {"datagrams_in", statistics.datagrams_in},
          {"datagrams_out", statistics.datagrams_out},
          {"datagrams_lost", statistics.datagrams_lost}};
}

}  // namespace culvert::ike
