#include "ike/identity/pre_shared_keys.hpp"

#include <algorithm>

namespace culvert::ike {
namespace {

bool names(const std::vector<config::Identity>& ids, const config::Identity& identity) {
  return std::ranges::find(ids, identity) != ids.end();
}

/// 0: not for this pair. A secret that names identities is for no others.
int match(const std::vector<config::Identity>& ids, const config::Identity& local,
          const config::Identity& remote) {
  if (ids.empty()) return 1;
  const bool ours = names(ids, local);
  const bool theirs = names(ids, remote);
  if (ours && theirs) return 4;
  if (theirs && ids.size() == 1) return 3;
  if (ours && ids.size() == 1) return 2;
  return 0;
}

}  // namespace

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
  int best_match = 0;
  for (const Entry& entry : entries_) {
    const int quality = match(entry.ids, local, remote);
    if (quality > best_match) {
      best = &entry;
      best_match = quality;
    }
  }
  return best == nullptr ? nullptr : &best->key;
}

}  // namespace culvert::ike
