#include "config/checks.hpp"

namespace culvert::config {
std::optional<Identity> configured_identity(const Peer& peer) {
  if (peer.id) return peer.id;
  return peer.address ? parse_identity(peer.address->to_string()) : std::nullopt;
}

namespace {

std::string show(const std::optional<Identity>& identity) {
  return identity ? identity->text : "%any";
}

}  // namespace

void check_secrets(const Config& config, Diagnostics& diagnostics) {
  if (diagnostics.has_error_under("secrets")) return;
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
