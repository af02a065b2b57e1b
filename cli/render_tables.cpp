#include <string>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "cli/json_text.hpp"
#include "cli/render.hpp"
#include "cli/table.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

std::string or_empty(const Table& table, const char* sentence) {
  return table.empty() ? std::string(sentence) + "\n" : table.to_string();
}

}  // namespace

std::string render_sas(const json& sas) {
  Table table({"child", "dir", "spi", "mode", "suite", "local", "remote", "packets", "bytes",
               "sequence", "last", "age", "state"});
  for (const json& sa : member(sas, "sas")) {
    table.add({text(sa, "connection") + "/" + text(sa, "child"), text(sa, "direction"),
               text(sa, "spi"), text(sa, "mode"), text(sa, "suite"), text(sa, "local"),
               text(sa, "remote"), text(sa, "packets"), human_bytes(member(sa, "bytes")),
               text(sa, "sequence"), human_duration(member(sa, "last_packet_seconds")),
               human_duration(member(sa, "age_seconds")), text(sa, "state")});
  }
  std::string lines = or_empty(table, "no SA is installed");
  for (const json& sa : member(sas, "sas")) {
    for (const auto& [reason, packets] : member(sa, "drops").items()) {
      lines +=
          fmt::format("{}/{} {} {}: {} dropped: {}\n", text(sa, "connection"), text(sa, "child"),
                      text(sa, "direction"), text(sa, "spi"), text(packets), reason);
    }
    lines += render_refusal(member(sa, "last_refused"), "  ");
  }
  return lines;
}

std::string render_policies(const json& policies) {
  Table table(
      {"#", "action", "origin", "source", "destination", "child", "outbound spi", "packets"});
  for (const json& policy : member(policies, "policies")) {
    table.add({text(policy, "position"), text(policy, "action"), text(policy, "origin"),
               text(policy, "source"), text(policy, "destination"), text(policy, "child"),
               text(policy, "outbound_spi"), text(policy, "packets")});
  }
  return or_empty(table, "no policy");
}

std::string render_routes(const json& routes) {
  Table table({"to", "via", "interface", "kind"});
  for (const json& route : member(routes, "routes")) {
    table.add(
        {text(route, "to"), text(route, "via"), text(route, "interface"), text(route, "kind")});
  }
  return or_empty(table, "no route");
}

std::string render_neighbors(const json& neighbors) {
  Table table({"interface", "address", "mac", "state", "age"});
  for (const json& neighbor : member(neighbors, "neighbors")) {
    table.add({text(neighbor, "interface"), text(neighbor, "address"), text(neighbor, "mac"),
               text(neighbor, "state"), human_duration(member(neighbor, "age_seconds"))});
  }
  return or_empty(table, "no neighbor is known yet");
}

json only_drops(const json& counters) {
  json drops = member(counters, "drops");
  return {{"drops", drops.is_null() ? json::array() : std::move(drops)}};
}

std::string render_counters(const json& counters, bool drops_only) {
  std::string lines;
  if (!drops_only) {
    const json& totals = member(counters, "totals");
    lines += fmt::format("received {}  originated {}  sent {}  delivered {}  dropped {}\n",
                         text(totals, "received"), text(totals, "originated"), text(totals, "sent"),
                         text(totals, "delivered"), text(totals, "dropped"));
    for (const char* rare : {"mss_clamped", "fragments_made", "reassembled"}) {
      if (number(totals, rare) > 0) lines += fmt::format("{} {}\n", rare, text(totals, rare));
    }
    Table workers({"worker", "rx packets", "rx bytes", "tx packets", "tx bytes", "bursts"});
    for (const json& worker : member(counters, "workers")) {
      workers.add({text(worker, "id"), text(worker, "rx_packets"),
                   human_bytes(member(worker, "rx_bytes")), text(worker, "tx_packets"),
                   human_bytes(member(worker, "tx_bytes")), text(worker, "bursts")});
    }
    lines += workers.to_string() + "\n";
  }
  Table drops({"dropped", "dir", "reason", "meaning", "what to do", "rfc"});
  for (const json& drop : member(counters, "drops")) {
    drops.add({text(drop, "packets"), text(drop, "direction"), text(drop, "reason"),
               text(drop, "meaning"), text(drop, "remedy"), text(drop, "rfc")});
  }
  return lines + or_empty(drops, "no packet has been dropped");
}

}  // namespace culvert::cli
