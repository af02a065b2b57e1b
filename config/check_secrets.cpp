// Secrets: one for each connection that needs one, each once, each for somebody.
#include <algorithm>
#include <map>
#include <set>

#include "config/checks.hpp"
#include "config/limits.hpp"

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

/// A word as it may stand in a list in brackets.
std::string in_yaml(const std::string& text) {
  const auto alphanumeric = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const bool plain = alphanumeric(text.front()) && std::ranges::all_of(text, [&](char c) {
                       return alphanumeric(c) || c == '.' || c == '-' || c == '_' || c == '@';
                     });
  return plain ? text : "\"" + text + "\"";
}

/// An entry that `find_secret` takes for the two; who is not known by now is not named.
std::string advice_for(const std::optional<Identity>& local,
                       const std::optional<Identity>& remote) {
  std::string ids = local ? in_yaml(local->text) : "";
  if (remote) ids += (ids.empty() ? "" : ", ") + in_yaml(remote->text);
  if (!ids.empty()) ids = "ids: [" + ids + "], ";
  return "write {" + ids + "psk_file: FILE} under secrets";
}

/// Equal for equal identities. Names that RFC 5280 §7.1 calls equal may be written in several ways:
/// of these the letters count.
std::string key_of(const Identity& identity) {
  std::string key(1, static_cast<char>(identity.type));
  if (identity.type != Identity::Type::dn) {
    return key.append(identity.encoded.begin(), identity.encoded.end());
  }
  for (const char c : identity.text) {
    if (c != ' ') key += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  }
  return key;
}

/// Of some identities in any order.
std::string key_of(const std::vector<Identity>& ids) {
  std::vector<std::string> keys;
  keys.reserve(ids.size());
  for (const Identity& id : ids) keys.push_back(key_of(id));
  std::ranges::sort(keys);
  std::string key;
  for (const std::string& one : keys) key += std::to_string(one.size()) + ":" + one;
  return key;
}

/// Of two that are equal only one could count, and nothing says which.
void check_once(const Config& config, Diagnostics& diagnostics) {
  const auto report = [&](Location place, std::size_t entry, const std::string& what,
                          const Location& first) {
    diagnostics.error(place, indexed("secrets", entry),
                      {what + " a second time", "one secret for each",
                       "it stands in line " + std::to_string(first.line) + " already; remove one"});
  };
  std::map<std::string, const Secret*> secrets;
  for (const Secret& secret : config.secrets) {
    const auto [first, is_new] = secrets.try_emplace(key_of(secret.ids), &secret);
    const bool is_equal = !is_new && std::ranges::is_permutation(first->second->ids, secret.ids);
    if (!is_equal) continue;
    std::string names;
    for (const Identity& id : secret.ids) names += (names.empty() ? "" : ", ") + id.text;
    report(secret.location, secret.entry, names.empty() ? "a secret without ids" : quote(names),
           first->second->location);
  }
  std::map<std::string_view, Location> keys;
  for (const PostQuantumKey& key : config.post_quantum_keys) {
    const auto [first, is_new] = keys.try_emplace(key.id, key.location);
    if (!is_new) report(key.location, key.entry, "ppk_id " + quote(key.id), first->second);
  }
}

/// Whom the connections are between, as far as the file says.
class Peers {
 public:
  explicit Peers(const Config& config) {
    for (const Connection& connection : config.connections) {
      const auto local = configured_identity(connection.local);
      const auto remote = configured_identity(connection.remote);
      const std::string ours = local ? key_of(*local) : std::string();
      if (remote) {
        pairs_.insert({ours, key_of(*remote)});
      } else {
        const std::string& pattern = connection.remote.id_pattern;
        patterns_.insert({ours, pattern.empty() ? "%any" : pattern});
      }
      ours_.insert(ours);
      if (remote) theirs_.insert(key_of(*remote));
    }
  }

  /// Whether the secret may be one of theirs by `secret_rank`. Says yes where asking takes long.
  [[nodiscard]] bool want(const std::vector<Identity>& ids) const {
    if (ids.size() > limits::kComparedIdentities || patterns_.size() > limits::kComparedPatterns) {
      return true;
    }
    return std::ranges::any_of(ids, [&](const Identity& local) {
      if (ids.size() == 1) return want_alone(local);
      return std::ranges::any_of(ids, [&](const Identity& remote) {
        return &local != &remote && want_pair(local, remote);
      });
    });
  }

 private:
  /// An empty key stands for a side whose address, and identity with it, a route decides.
  [[nodiscard]] bool want_alone(const Identity& id) const {
    const std::string key = key_of(id);
    return ours_.contains("") || ours_.contains(key) || theirs_.contains(key) ||
           std::ranges::any_of(patterns_,
                               [&](const auto& one) { return is_identity_of(one.second, id); });
  }
  [[nodiscard]] bool want_pair(const Identity& local, const Identity& remote) const {
    const std::string ours = key_of(local), theirs = key_of(remote);
    return pairs_.contains({ours, theirs}) || pairs_.contains({"", theirs}) ||
           std::ranges::any_of(patterns_, [&](const auto& one) {
             return (one.first.empty() || one.first == ours) && is_identity_of(one.second, remote);
           });
  }

  std::set<std::string> ours_, theirs_;
  std::set<std::pair<std::string, std::string>> pairs_, patterns_;
};

/// A name that is misspelt, or a connection that is gone.
void check_wanted(const Config& config, Diagnostics& diagnostics) {
  const Peers peers(config);
  for (const Secret& secret : config.secrets) {
    if (secret.ids.empty() || peers.want(secret.ids)) continue;
    std::string names;
    for (const Identity& id : secret.ids) names += (names.empty() ? "" : ", ") + id.text;
    diagnostics.warning(indexed("secrets", secret.entry) + ".ids",
                        {quote(names) + ", which no connection is between",
                         "the identities of a connection's local and remote, or one of them",
                         "compare them with local.id and remote.id, or remove the entry"});
  }
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
  // Half-read connections would make every secret look like one too many.
  if (!diagnostics.has_error_under("connections")) check_wanted(config, diagnostics);
  check_once(config, diagnostics);
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
                             "an entry under secrets that names them", advice_for(local, remote)});
  }
}

}  // namespace culvert::config
