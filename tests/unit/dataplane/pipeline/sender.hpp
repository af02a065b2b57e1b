// A gateway whose clients' packets are sealed, and what its worker knows of their flows.
#pragma once

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip.hpp"

namespace culvert::test {

/// Whether the worker knows the flow of a client's packet now.
template <typename Family>
bool knows_flow(Gateway& gateway, const Packet& ip, dataplane::PacketOrigin origin) {
  const std::uint8_t protocol = ip[Family::kProtocol];
  const auto key = Family::flow_key(ip.data(), origin, protocol, wire::kPortsOfProtocol[protocol]);
  const auto& flows = gateway.worker().flows_of<Family>();
  return flows.find(flows.pair_of(key), key, gateway.tables().reclaimer->era()) != nullptr;
}
inline bool knows(Gateway& gateway, const Packet& ip,
                  dataplane::PacketOrigin origin = dataplane::PacketOrigin::clear) {
  return wire::is_v4(ip.data()) ? knows_flow<dataplane::Ipv4>(gateway, ip, origin)
                                : knows_flow<dataplane::Ipv6>(gateway, ip, origin);
}

/// One gateway whose clients' packets that the SA selects are sealed.
struct Sender {
  explicit Sender(const SaOptions& options = {}, const dataplane::SaSettings& settings = {}) {
    spec = outbound_sa(options);
    slot = gateway.install(spec, settings);
    gateway.protect(options.local_selectors[0], options.remote_selectors[0], slot);
  }
  /// The only packet that leaves, sealed.
  Packet seal(const Packet& ip) {
    const Result result = gateway.receive(kLan, frame(ip));
    REQUIRE(result.wan.size() == 1);
    return result.wan[0];
  }
  /// All of the last burst, as far as it was to be sealed.
  bool went_the_short_way() { return gateway.worker().went_the_short_way; }
  Gateway gateway;
  channel::InstallSa spec;
  dataplane::SlotIndex slot{};
};

}  // namespace culvert::test
