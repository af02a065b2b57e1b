#include "dataplane/ports/esp_rule.hpp"

#include <cerrno>

#include <rte_byteorder.h>
#include <rte_errno.h>
#include <rte_flow.h>

#include "wire/udp.hpp"

namespace culvert::dataplane::ports {
namespace {

/// A rule as rte_flow wants it: items and what they point to. Not to be copied.
class Rule {
 public:
  Rule(const EspForm& form, const wire::vlan::Ids& vlan, UdpPort udp_port, std::uint32_t spi,
       std::uint16_t queue) {
    add(RTE_FLOW_ITEM_TYPE_ETH);
    for (std::size_t tag = 0; tag < vlan.count(); ++tag) {
      tags_[tag].hdr.vlan_tci = rte_cpu_to_be_16(vlan.id[tag]);
      add(RTE_FLOW_ITEM_TYPE_VLAN, &tags_[tag], &tag_mask_);
    }
    add(form.is_v6 ? RTE_FLOW_ITEM_TYPE_IPV6 : RTE_FLOW_ITEM_TYPE_IPV4);
    if (form.is_in_udp) {
      udp_.hdr.dst_port = rte_cpu_to_be_16(wire::udp::kNatTraversalPort);
      const bool is_matched = udp_port == UdpPort::matched;
      add(RTE_FLOW_ITEM_TYPE_UDP, is_matched ? &udp_ : nullptr, is_matched ? &udp_mask_ : nullptr);
    }
    esp_.hdr.spi = rte_cpu_to_be_32(spi);
    add(RTE_FLOW_ITEM_TYPE_ESP, &esp_, &esp_mask_);
    add(RTE_FLOW_ITEM_TYPE_END);
    queue_.index = queue;
    actions_[0].type = RTE_FLOW_ACTION_TYPE_QUEUE;
    actions_[0].conf = &queue_;
    actions_[1].type = RTE_FLOW_ACTION_TYPE_END;
    attributes_.ingress = 1;
    // The ID alone: priority and DEI are the sender's (IEEE 802.1Q-2022 §9.6).
    tag_mask_.hdr.vlan_tci = rte_cpu_to_be_16(wire::vlan::kIdMask);
    udp_mask_.hdr.dst_port = rte_cpu_to_be_16(0xffff);
    esp_mask_.hdr.spi = rte_cpu_to_be_32(0xffffffff);
  }
  Rule(const Rule&) = delete;
  Rule& operator=(const Rule&) = delete;

  [[nodiscard]] const rte_flow_attr* attributes() const { return &attributes_; }
  [[nodiscard]] const rte_flow_item* items() const { return items_.data(); }
  [[nodiscard]] const rte_flow_action* actions() const { return actions_.data(); }

 private:
  void add(rte_flow_item_type type, const void* spec = nullptr, const void* mask = nullptr) {
    items_[count_++] = {.type = type, .spec = spec, .last = nullptr, .mask = mask};
  }

  rte_flow_attr attributes_{};
  // Ethernet, tags, IP, UDP, ESP, end.
  std::array<rte_flow_item, wire::vlan::kMaxTags + 5> items_{};
  std::size_t count_ = 0;
  std::array<rte_flow_item_vlan, wire::vlan::kMaxTags> tags_{};
  rte_flow_item_vlan tag_mask_{};
  rte_flow_item_udp udp_{}, udp_mask_{};
  rte_flow_item_esp esp_{}, esp_mask_{};
  std::array<rte_flow_action, 2> actions_{};
  rte_flow_action_queue queue_{};
};

/// What a driver says, which may be nothing, and the error's name.
std::unexpected<std::string> refusal(const rte_flow_error& error, int code) {
  const int positive = code < 0 ? -code : code;
  if (positive == ENOSYS) return std::unexpected(std::string("its driver has no flow rules"));
  const std::string name = rte_strerror(positive);
  if (error.message == nullptr || name == error.message) return std::unexpected(name);
  return std::unexpected(std::string(error.message) + ": " + name);
}

}  // namespace

std::string_view to_string(const EspForm& form) {
  if (form.is_in_udp) return form.is_v6 ? "esp-udp-ipv6" : "esp-udp-ipv4";
  return form.is_v6 ? "esp-ipv6" : "esp-ipv4";
}

std::expected<void, std::string> EspRules::probe() {
  // Any SPI that may be one (RFC 4303 §2.1), and a queue that every device with several has.
  constexpr std::uint32_t kSpi = 0x100;
  constexpr std::uint16_t kQueue = 1;
  const auto ask = [&]() -> std::expected<void, std::string> {
    const Rule rule(form_, vlan_, udp_port_, kSpi, kQueue);
    rte_flow_error error{};
    const int code =
        rte_flow_validate(dpdk_port_, rule.attributes(), rule.items(), rule.actions(), &error);
    if (code != 0) return refusal(error, code);
    return {};
  };
  udp_port_ = UdpPort::matched;
  auto taken = ask();
  if (taken || !form_.is_in_udp) return taken;
  // Without the port a rule finds these four bytes in any datagram: that one may come to another
  // queue than its flow, no more.
  udp_port_ = UdpPort::any;
  if (ask()) return {};
  return taken;
}

std::expected<rte_flow*, std::string> EspRules::add(std::uint32_t spi, std::uint16_t queue) const {
  const Rule rule(form_, vlan_, udp_port_, spi, queue);
  rte_flow_error error{};
  rte_flow* const made =
      rte_flow_create(dpdk_port_, rule.attributes(), rule.items(), rule.actions(), &error);
  if (made == nullptr) return refusal(error, rte_errno);
  return made;
}

std::expected<void, std::string> remove_rule(std::uint16_t dpdk_port, rte_flow* rule) {
  rte_flow_error error{};
  if (const int code = rte_flow_destroy(dpdk_port, rule, &error); code != 0) {
    return refusal(error, code);
  }
  return {};
}

std::expected<void, std::string> remove_all_rules(std::uint16_t dpdk_port) {
  rte_flow_error error{};
  if (const int code = rte_flow_flush(dpdk_port, &error); code != 0) return refusal(error, code);
  return {};
}

}  // namespace culvert::dataplane::ports
