#include "ike/machine/peer_index.hpp"

#include <functional>
#include <string_view>

namespace culvert::ike {

std::uint64_t PeerIndex::identity_key(const IkeSa& ike) {
  const config::Peer& peer = ike.connection->remote;
  if (peer.id || peer.address) return 0;
  // Distinguished names that are written differently may be the same one (RFC 5280 §7.1).
  if (ike.remote_id.type == config::Identity::Type::dn) return 1;
  const auto& octets = ike.remote_id.encoded;
  const std::string_view text(reinterpret_cast<const char*>(octets.data()), octets.size());
  return std::hash<std::string_view>()(text) * 31U + static_cast<std::uint64_t>(ike.remote_id.type);
}

}  // namespace culvert::ike
