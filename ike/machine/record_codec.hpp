// An IKE SA and its children as the octets of a record, and back. Nothing here knows a
// configuration: connections are named, and whether they still are what they were is for the
// reader to compare (`fingerprint`).
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ike/machine/ike_sa.hpp"
#include "ike/machine/record.hpp"

namespace culvert::ike {

/// Of all that a connection agrees with its peer upon and its children are made with.
using Fingerprint = std::array<std::uint8_t, 32>;
[[nodiscard]] Fingerprint fingerprint(const config::Connection& connection);

/// `connection_is`: of the connection of `ike`. `children`: those of `ike`, in its order.
[[nodiscard]] crypto::SecretBytes encode(const IkeSa& ike, const Fingerprint& connection_is,
                                         const std::vector<const ChildSa*>& children);

struct RecordedIkeSa {
  std::unique_ptr<IkeSa> ike;  ///< without connections; not nullptr
  std::vector<ChildSa> children;
  std::string connection;
  Fingerprint connection_is{};
  std::vector<std::string> candidates;
};
/// nullopt: it does not parse, or what it says cannot be.
[[nodiscard]] std::optional<RecordedIkeSa> decode_ike_sa(const Record& record);

/// The inbound SPIs that the peer has been told, or may have been, and under which no SA stands
/// yet: they must be held for us before anything is resumed.
[[nodiscard]] std::vector<channel::Spi> spis_of(const Records& records);

/// What an operator said of a connection.
struct RecordedConnection {
  std::string name;
  bool held_down = false;
  std::set<config::ChildId> held_children;
};
[[nodiscard]] crypto::SecretBytes encode(const RecordedConnection& connection);
[[nodiscard]] std::optional<RecordedConnection> decode_connection(const Record& record);

}  // namespace culvert::ike
