// A device's own rules for ESP (rte_flow): packets with an SPI go to a queue. What a device cannot
// tell apart it says when it is asked; its words are kept for who wants to know why.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "wire/vlan.hpp"

struct rte_flow;

namespace culvert::dataplane::ports {

/// How the packets of an SA come on the wire, as far as a rule tells them apart.
struct EspForm {
  bool is_v6 = false;      ///< the outer header
  bool is_in_udp = false;  ///< to port 4500 (RFC 3948 §2.1)
  friend bool operator==(const EspForm&, const EspForm&) = default;
};
inline constexpr std::array<EspForm, 4> kEspForms{{{.is_v6 = false, .is_in_udp = false},
                                                   {.is_v6 = true, .is_in_udp = false},
                                                   {.is_v6 = false, .is_in_udp = true},
                                                   {.is_v6 = true, .is_in_udp = true}}};
/// Its place in kEspForms.
[[nodiscard]] constexpr std::size_t place_of(const EspForm& form) {
  return (form.is_v6 ? 1U : 0U) + (form.is_in_udp ? 2U : 0U);
}
/// "esp-ipv4", "esp-ipv6", "esp-udp-ipv4", "esp-udp-ipv6".
[[nodiscard]] std::string_view to_string(const EspForm& form);

/// What a rule says of the UDP header. Drivers whose hardware knows ESP in UDP as a packet of its
/// own kind match the SPI and no port (iavf); others match every field that is named.
enum class UdpPort : std::uint8_t { matched, any };

/// Rules for one form on one interface. Main thread; the device is started.
class EspRules {
 public:
  EspRules(std::uint16_t dpdk_port, EspForm form, wire::vlan::Ids vlan)
      : dpdk_port_(dpdk_port), form_(form), vlan_(vlan) {}

  /// Whether the device takes such a rule (rte_flow_validate). The error is the driver's.
  [[nodiscard]] std::expected<void, std::string> probe();
  /// After a `probe` that succeeded. `spi` in host order.
  [[nodiscard]] std::expected<rte_flow*, std::string> add(std::uint32_t spi,
                                                          std::uint16_t queue) const;

 private:
  std::uint16_t dpdk_port_;
  EspForm form_;
  wire::vlan::Ids vlan_;
  UdpPort udp_port_ = UdpPort::matched;
};

[[nodiscard]] std::expected<void, std::string> remove_rule(std::uint16_t dpdk_port, rte_flow* rule);
/// Every rule of ours on the device.
[[nodiscard]] std::expected<void, std::string> remove_all_rules(std::uint16_t dpdk_port);

}  // namespace culvert::dataplane::ports
