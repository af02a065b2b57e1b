#include "ike/identity/pre_shared_keys.hpp"

namespace culvert::ike {
std::expected<std::unique_ptr<PreSharedKeys>, std::string> PreSharedKeys::load(
    const config::Config& configuration) {
  auto keys = std::make_unique<PreSharedKeys>();
  for (const config::Secret& secret : configuration.secrets) {
    auto key = config::read_psk(secret.psk_file);
    if (!key) {
      return std::unexpected(configuration.file + ":" + std::to_string(secret.location.line) + ":" +
                             std::to_string(secret.location.column) + ": " + key.error());
    }
    keys->add(secret.ids, std::move(*key));
  }
  return keys;
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
