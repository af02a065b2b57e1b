#include "ike/identity/pre_shared_keys.hpp"

#include <algorithm>

namespace culvert::ike {
namespace {

/// Equal identities have equal ones, unless they are distinguished names.
std::string name_of(const config::Identity& id) {
  std::string name(1, static_cast<char>(id.type));
  name.append(id.encoded.begin(), id.encoded.end());
  return name;
}

}  // namespace

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
  const std::size_t place = entries_.size();
  const auto is_distinguished = [](const config::Identity& id) {
    return id.type == config::Identity::Type::dn;
  };
  if (ids.empty() || std::ranges::any_of(ids, is_distinguished)) {
    others_.push_back(place);
  } else {
    auto& index = ids.size() == 1 ? alone_ : pairs_;
    for (const config::Identity& id : ids) index[name_of(id)].push_back(place);
  }
  entries_.push_back({std::move(ids), std::move(key)});
}

const crypto::SecretBytes* PreSharedKeys::find(const config::Identity& local,
                                               const config::Identity& remote) const {
  std::size_t best = 0;
  int best_rank = 0;
  const auto consider = [&](const Places& places) {
    for (const std::size_t place : places) {
      const int rank = config::secret_rank(entries_[place].ids, local, remote);
      // The first of equals, as the file has them.
      if (rank < best_rank || rank == 0 || (rank == best_rank && place > best)) continue;
      best = place;
      best_rank = rank;
    }
  };
  const auto consider_named = [&](const auto& index, const config::Identity& id) {
    if (const auto found = index.find(name_of(id)); found != index.end()) consider(found->second);
  };
  consider_named(pairs_, remote);
  consider_named(alone_, remote);
  consider_named(alone_, local);
  consider(others_);
  return best_rank == 0 ? nullptr : &entries_[best].key;
}

}  // namespace culvert::ike
