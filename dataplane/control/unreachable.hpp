// Who says that a child's ESP does not get through: a firewall that rejects it, a router without a
// route, a host without IPsec (RFC 792, RFC 1812 §5.2.7.1, RFC 4443 §3.1). Anybody on the path can
// say so: it is shown, never acted upon (RFC 4301 §6.1.1). Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "config/child_id.hpp"
#include "dataplane/control/quoted_esp.hpp"

namespace culvert::dataplane::control {

/// The last message about a child's packets.
struct Unreachable {
  wire::IpAddress from, to;  ///< who says so; where the packet was to go
  bool is_in_udp = false;
  std::uint8_t type = 0, code = 0;
  std::uint64_t tsc = 0;
  std::uint64_t messages = 0;  ///< all there were of the child
};

/// As `read_icmp_about_esp`. nullopt also: it says something else, that a packet is too big among
/// it.
[[nodiscard]] std::optional<IcmpAboutEsp> read_unreachable(wire::Bytes packet);

struct UnreachableText {
  std::string_view meaning;  ///< the code's
  std::string_view remedy;   ///< where the packet was ESP, in UDP or not
};
[[nodiscard]] UnreachableText text_of(const Unreachable& message);

/// One a child, however many there are.
class Unreachables {
 public:
  void told(config::ChildId child, const IcmpAboutEsp& message, std::uint64_t tsc);
  [[nodiscard]] std::optional<Unreachable> of(config::ChildId child) const;
  /// Of children that are no more.
  template <typename IsGone>
  void forget(IsGone is_gone) {
    std::erase_if(last_, [&](const auto& entry) { return is_gone(entry.first); });
  }

 private:
  std::unordered_map<config::ChildId, Unreachable> last_;
};

}  // namespace culvert::dataplane::control
