#include "config/checks.hpp"

namespace culvert::config {
std::optional<Identity> configured_identity(const Peer& peer) {
  if (peer.id) return peer.id;
  if (!peer.id_pattern.empty()) return std::nullopt;
  return peer.address ? parse_identity(peer.address->to_string()) : std::nullopt;
}

namespace {

std::string show(const std::optional<Identity>& identity) {
  return identity ? identity->text : "%any";
}

/// RFC 8784 §3: both sides name the key by its PPK_ID.
void check_post_quantum_keys(const Config& config, Diagnostics& diagnostics) {
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Connection& connection = config.connections[index];
    const std::string path = indexed("connections", index);
    if (connection.ppk_id.empty()) {
      if (!connection.ppk_required) continue;
      diagnostics.error(path + ".ppk_required",
                        {"yes without ppk_id", "ppk_id: NAME", "name the key that is required"});
      continue;
    }
    bool found = false;
    for (const PostQuantumKey& key : config.post_quantum_keys) {
      found = found || key.id == connection.ppk_id;
    }
    if (found) continue;
    diagnostics.error(path + ".ppk_id",
                      {"\"" + connection.ppk_id + "\", which stands nowhere under secrets",
                       "the ppk_id of an entry under secrets",
                       "write {ppk_id: " + connection.ppk_id + ", ppk_file: FILE} under secrets"});
  }
}

}  // namespace

void check_secrets(const Config& config, Diagnostics& diagnostics) {
  if (diagnostics.has_error_under("secrets")) return;
  check_post_quantum_keys(config, diagnostics);
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Connection& connection = config.connections[index];
    const std::string path = indexed("connections", index);
    const bool psk =
        connection.local.auth == AuthMethod::psk || connection.remote.auth == AuthMethod::psk;
    if (!psk || diagnostics.has_error_under(path + ".local") ||
        diagnostics.has_error_under(path + ".remote")) {
      continue;
    }
    const Identity nobody{Identity::Type::fqdn, "", {}};
    const auto local = configured_identity(connection.local);
    const auto remote = configured_identity(connection.remote);
    // What a peer of unknown address and identity calls itself shows only when it comes.
    if (!remote && !config.secrets.empty()) continue;
    if (config.find_secret(local.value_or(nobody), remote.value_or(nobody)) != nullptr) continue;
    diagnostics.error(path, {"no secret for " + show(local) + " and " + show(remote),
                             "an entry under secrets that names them",
                             "write {ids: [" + show(local) + ", " + show(remote) +
                                 "], psk_file: FILE} under secrets"});
  }
}

}  // namespace culvert::config
