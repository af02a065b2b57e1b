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

/// A selector beside which none of the other side's matches a packet.
void check_partners(const std::vector<TrafficSelector>& local,
                    const std::vector<TrafficSelector>& remote, const std::string& remote_path,
                    const std::string& local_path, Diagnostics& diagnostics) {
  const auto report = [&](const std::vector<TrafficSelector>& side,
                          const std::vector<TrafficSelector>& other, const std::string& path) {
    for (std::size_t index = 0; index < side.size(); ++index) {
      const bool has_partner = std::ranges::any_of(other, [&](const TrafficSelector& one) {
        return wire::may_be_of_one_packet(side[index], one);
      });
      if (has_partner || !has_family(other, side[index].first.family)) continue;
      diagnostics.error(indexed(path, index),
                        {quote(side[index].to_string()) + " beside " + wire::to_string(other) +
                             ", and no packet matches both",
                         "one protocol, and of ICMP common types, on both sides",
                         "write what the other side has in brackets, or nothing there"});
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

/// Addresses that no packet through a gateway has.
struct Idle {
  wire::Prefix prefix;
  const char* why;
  bool is_for_one_link = false;
};
const std::vector<Idle>& idle_addresses() {
  static const auto all = [] {
    const auto of = [](const char* prefix, const char* why, bool is_for_one_link = false) {
      return Idle{wire::Prefix::parse(prefix).value(), why, is_for_one_link};
    };
    constexpr const char* kOneLink =
        "addresses that are forwarded: link-local ones are not (RFC 3927 §2.7, RFC 4291 §2.5.6)";
    constexpr const char* kGroup =
        "addresses of hosts: multicast is not forwarded (RFC 1812 §5.3.4, RFC 4291 §2.7)";
    constexpr const char* kNobody =
        "addresses that packets have on a wire (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2, §2.5.3)";
    return std::vector<Idle>{of("169.254.0.0/16", kOneLink, true),
                             of("fe80::/10", kOneLink, true),
                             of("224.0.0.0/4", kGroup),
                             of("ff00::/8", kGroup),
                             of("127.0.0.0/8", kNobody),
                             of("0.0.0.0/8", kNobody),
                             of("::/127", kNobody)};
  }();
  return all;
}

bool is_for_one_link(const wire::IpAddress& address) {
  return std::ranges::any_of(idle_addresses(), [&](const Idle& one) {
    return one.is_for_one_link && one.prefix.contains(address);
  });
}

/// A gateway may itself have a link-local address that a tunnel is for.
bool is_for_our_link_local(const std::vector<TrafficSelector>& local, const Dataplane& dataplane) {
  return std::ranges::any_of(dataplane.interfaces, [&](const Interface& interface) {
    return std::ranges::any_of(interface.addresses, [&](const wire::Prefix& own) {
      return is_for_one_link(own.address) &&
             std::ranges::any_of(
                 local, [&](const TrafficSelector& one) { return one.contains(own.address); });
    });
  });
}

/// Each selector that takes nothing of what goes through a tunnel, which would go unnoticed.
void check_idle(const std::vector<TrafficSelector>& selectors, bool has_our_own,
                const std::string& path, Diagnostics& diagnostics) {
  for (std::size_t index = 0; index < selectors.size(); ++index) {
    const TrafficSelector& selector = selectors[index];
    const auto idle = std::ranges::find_if(idle_addresses(), [&](const Idle& one) {
      return one.prefix.contains(selector.first) && one.prefix.contains(selector.last) &&
             !(one.is_for_one_link && has_our_own);
    });
    if (idle == idle_addresses().end()) continue;
    diagnostics.warning(indexed(path, index),
                        {quote(selector.to_string()) + ", which nothing in the tunnel will match",
                         idle->why, "write the network behind the gateway, or remove it"});
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
      check_partners(child.local_ts, child.remote_ts, remote, local, diagnostics);
      if (child.mode != Mode::transport) {
        const bool has_our_own = is_for_our_link_local(child.local_ts, config.dataplane);
        check_idle(child.local_ts, has_our_own, local, diagnostics);
        check_idle(child.remote_ts, has_our_own, remote, diagnostics);
        continue;
      }
      check_transport(child.local_ts, connection.local.address, local, diagnostics);
      check_transport(child.remote_ts, connection.remote.address, remote, diagnostics);
    }
  }
  for (std::size_t index = 0; index < config.manual_sas.size(); ++index) {
    const ManualSa& sa = config.manual_sas[index];
    const std::string path = indexed("manual_sas", index);
    if (diagnostics.has_error_under(path)) continue;
    check_families(sa.local_ts, sa.remote_ts, path + ".remote_ts", path + ".local_ts", diagnostics);
    check_partners(sa.local_ts, sa.remote_ts, path + ".remote_ts", path + ".local_ts", diagnostics);
    if (sa.mode != Mode::transport) {
      const bool has_our_own = is_for_our_link_local(sa.local_ts, config.dataplane);
      check_idle(sa.local_ts, has_our_own, path + ".local_ts", diagnostics);
      check_idle(sa.remote_ts, has_our_own, path + ".remote_ts", diagnostics);
      continue;
    }
    check_transport(sa.local_ts, sa.local, path + ".local_ts", diagnostics);
    check_transport(sa.remote_ts, sa.remote, path + ".remote_ts", diagnostics);
  }
}

}  // namespace culvert::config
