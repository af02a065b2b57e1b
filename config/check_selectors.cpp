#include <algorithm>

#include "config/checks.hpp"

namespace culvert::config {
namespace {

using wire::TrafficSelector;

bool has_family(const std::vector<TrafficSelector>& selectors, wire::Family family) {
  return std::ranges::any_of(
      selectors, [family](const TrafficSelector& one) { return one.first.family == family; });
}

/// A selector whose family the other side does not have can never match a packet.
void check_families(const std::vector<TrafficSelector>& local,
                    const std::vector<TrafficSelector>& remote, const std::string& remote_path,
                    const std::string& local_path, Diagnostics& diagnostics) {
  if (local.empty() || remote.empty()) return;
  const auto report = [&](const std::vector<TrafficSelector>& side,
                          const std::vector<TrafficSelector>& other, const std::string& path) {
    for (std::size_t index = 0; index < side.size(); ++index) {
      if (has_family(other, side[index].first.family)) continue;
      const bool v4 = side[index].first.is_v4();
      diagnostics.error(indexed(path, index),
                        {quote(side[index].to_string()),
                         std::string(v4 ? "IPv6" : "IPv4") + " as on the other side",
                         "write selectors of the same family on both sides"});
    }
  };
  report(remote, local, remote_path);
  report(local, remote, local_path);
}

/// Transport mode protects what the two peers say to each other, nothing behind them
/// (RFC 4301 §4.1): the addresses must be theirs.
void check_transport(const std::vector<TrafficSelector>& selectors,
                     const std::optional<wire::IpAddress>& address, const std::string& path,
                     Diagnostics& diagnostics) {
  if (!address) return;
  for (std::size_t index = 0; index < selectors.size(); ++index) {
    const TrafficSelector& selector = selectors[index];
    if (selector.first == *address && selector.last == *address) continue;
    diagnostics.error(indexed(path, index),
                      {quote(selector.to_string()),
                       address->to_string() + " alone, because transport mode protects the "
                                              "peers' own traffic",
                       "write \"" + address->to_string() + "\", or mode: tunnel"});
  }
}

}  // namespace

void check_selectors(const Config& config, Diagnostics& diagnostics) {
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Connection& connection = config.connections[index];
    for (std::size_t at = 0; at < connection.children.size(); ++at) {
      const Child& child = connection.children[at];
      const std::string path = child_path(index, at);
      if (diagnostics.has_error_under(path)) continue;
      const std::string local = path + ".local_ts";
      const std::string remote = path + ".remote_ts";
      check_families(child.local_ts, child.remote_ts, remote, local, diagnostics);
      if (child.mode != Mode::transport) continue;
      check_transport(child.local_ts, connection.local.address, local, diagnostics);
      check_transport(child.remote_ts, connection.remote.address, remote, diagnostics);
    }
  }
  for (std::size_t index = 0; index < config.manual_sas.size(); ++index) {
    const ManualSa& sa = config.manual_sas[index];
    const std::string path = indexed("manual_sas", index);
    if (diagnostics.has_error_under(path)) continue;
    check_families(sa.local_ts, sa.remote_ts, path + ".remote_ts", path + ".local_ts", diagnostics);
    if (sa.mode != Mode::transport) continue;
    check_transport(sa.local_ts, sa.local, path + ".local_ts", diagnostics);
    check_transport(sa.remote_ts, sa.remote, path + ".remote_ts", diagnostics);
  }
}

}  // namespace culvert::config
