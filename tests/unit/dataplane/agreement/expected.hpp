// What a burst comes to, in the model and in the worker.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/worker/punt.hpp"
#include "tests/model/fragment_model.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/packet.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/ip_address.hpp"

namespace culvert::test {

struct Expected {
  std::map<unsigned, std::vector<Packet>> clear;
  std::map<std::uint32_t, std::vector<Packet>> sealed;  ///< by SPI, as `told_sealed` has it
  /// The same of TCP and UDP in order, by the flow that `flow_of` tells; but for fragments, and
  /// what leaves in pieces.
  std::map<Packet, std::vector<Packet>> flows;
  std::map<dataplane::DropReason, std::uint64_t> drops;
  /// And more drops, each for one of some reasons.
  std::map<std::set<dataplane::DropReason>, std::uint64_t> open_drops;
  /// With the MTU that the sender is told; 0: this is not about sizes.
  std::map<std::pair<dataplane::PuntReason, std::size_t>, std::uint64_t> punts;
  std::uint64_t unknown_spis = 0;
  std::vector<Packet> closed;   ///< packets to a UDP port that nobody listens on
  std::vector<Packet> overdue;  ///< first fragments of packets that were not whole in time
  /// Packets that came from elsewhere, as `told_moved` has it.
  std::vector<Packet> moved;
  friend bool operator==(const Expected&, const Expected&) = default;
};

/// `way`: the SA or the port that it leaves by. Empty: of none whose order can be told.
inline Packet flow_of(std::uint32_t way, const Packet& ip) {
  const std::optional<model::IpView> view = model::view_ip(ip);
  constexpr std::uint8_t kTcp = 6, kUdp = 17;
  if (!view || model::is_fragment(ip) || (view->protocol != kTcp && view->protocol != kUdp) ||
      ip.size() < view->header_bytes + 4) {
    return {};
  }
  Packet flow{view->protocol};
  model::put32(flow, way);
  for (const wire::IpAddress& address : {view->source, view->destination}) {
    flow.insert(flow.end(), address.view().begin(), address.view().end());
  }
  model::put32(flow, model::get32(ip, view->header_bytes));
  return flow;
}
inline void add_to_flow(std::uint32_t way, const Packet& ip, Expected& to) {
  if (Packet flow = flow_of(way, ip); !flow.empty()) to.flows[std::move(flow)].push_back(ip);
}

/// The port, the headers of the packets on the wire, the next header, and what was inside.
inline Packet told_sealed(unsigned port, const std::vector<Packet>& headers,
                          std::uint8_t next_header, const Packet& payload) {
  Packet told = {static_cast<std::uint8_t>(port)};
  model::put16(told, static_cast<unsigned>(headers.size()));
  for (const Packet& header : headers) model::put(told, header);
  told.push_back(next_header);
  model::put(told, payload);
  return told;
}
inline Packet told_moved(std::uint64_t sa, const wire::IpAddress& source, unsigned port) {
  Packet told;
  model::put32(told, sa);
  model::put16(told, port);
  told.insert(told.end(), source.view().begin(), source.view().end());
  return told;
}

inline std::string told(const Expected& what) {
  std::string text;
  for (const auto& [port, packets] : what.clear) {
    text += " clear on port " + std::to_string(port) + ": " + std::to_string(packets.size());
  }
  for (const auto& [spi, packets] : what.sealed) {
    text += " sealed by " + std::to_string(spi) + ": " + std::to_string(packets.size());
  }
  for (const auto& [reason, count] : what.drops) {
    text += " " + std::string(dataplane::info(reason).name) + ": " + std::to_string(count);
  }
  for (const auto& [punt, count] : what.punts) {
    text += " punt " + std::to_string(static_cast<int>(punt.first)) + " (MTU " +
            std::to_string(punt.second) + "): " + std::to_string(count);
  }
  if (!what.closed.empty()) text += " closed: " + std::to_string(what.closed.size());
  if (!what.overdue.empty()) text += " overdue: " + std::to_string(what.overdue.size());
  if (!what.moved.empty()) text += " moved: " + std::to_string(what.moved.size());
  return text + " unknown SPIs: " + std::to_string(what.unknown_spis);
}

}  // namespace culvert::test
