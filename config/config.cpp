#include "config/config.hpp"

#include <algorithm>
#include <cstdlib>

namespace culvert::config {

const Connection* Config::find_connection(std::string_view name) const {
  const auto found = std::ranges::find(connections, name, &Connection::name);
  return found == connections.end() ? nullptr : &*found;
}

int secret_rank(const std::vector<Identity>& ids, const Identity& local, const Identity& remote) {
  if (ids.empty()) return 1;
  const bool alone = ids.size() == 1;
  const bool names_local = std::ranges::find(ids, local) != ids.end();
  const bool names_remote = std::ranges::find(ids, remote) != ids.end();
  if (names_local && names_remote) return 4;
  if (names_remote && alone) return 3;
  return names_local && alone ? 2 : 0;
}

const Secret* Config::find_secret(const Identity& local, const Identity& remote) const {
  const Secret* best = nullptr;
  int best_rank = 0;
  for (const Secret& secret : secrets) {
    const int rank = secret_rank(secret.ids, local, remote);
    if (rank > best_rank) {
      best = &secret;
      best_rank = rank;
    }
  }
  return best;
}

std::filesystem::path run_directory(std::string_view instance) {
  const char* moved = std::getenv("CULVERT_RUN_DIR");
  const std::filesystem::path parent = moved != nullptr && *moved != '\0' ? moved : "/run/culvert";
  return parent / instance;
}

}  // namespace culvert::config
