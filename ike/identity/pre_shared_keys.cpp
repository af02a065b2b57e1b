#include "ike/identity/pre_shared_keys.hpp"

namespace culvert::ike {
std::expected<std::unique_ptr<PreSharedKeys>, std::string> PreSharedKeys::load(
    const config::Config& configuration) {
  auto keys = std::make_unique<PreSharedKeys>();
  const auto at = [&](const config::Location& location, const std::string& what) {
    return std::unexpected(configuration.file + ":" + std::to_string(location.line) + ":" +
                           std::to_string(location.column) + ": " + what);
  };
  for (const config::Secret& secret : configuration.secrets) {
    auto key = config::read_psk(secret.psk_file);
    if (!key) return at(secret.location, key.error());
    keys->add(secret.ids, std::move(*key));
  }
  for (const config::PostQuantumKey& post_quantum : configuration.post_quantum_keys) {
    auto key = config::read_psk(post_quantum.file);
    if (!key) return at(post_quantum.location, key.error());
    keys->post_quantum_.insert_or_assign(post_quantum.id, std::move(*key));
  }
  return keys;
}

const crypto::SecretBytes* PreSharedKeys::find_post_quantum(std::string_view id) const {
  const auto found = post_quantum_.find(id);
  return found == post_quantum_.end() ? nullptr : &found->second;
}

void PreSharedKeys::add(std::vector<config::Identity> ids, crypto::SecretBytes key) {
  entries_.push_back({std::move(ids), std::move(key)});
}

const crypto::SecretBytes* PreSharedKeys::find(const config::Identity& local,
                                               const config::Identity& remote) const {
  const Entry* best = nullptr;
  int best_rank = 0;
  for (const Entry& entry : entries_) {
    const int rank = config::secret_rank(entry.ids, local, remote);
    if (rank > best_rank) {
      best = &entry;
      best_rank = rank;
    }
  }
  return best == nullptr ? nullptr : &best->key;
}

}  // namespace culvert::ike
