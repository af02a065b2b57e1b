// Pre-shared keys by the identities they are for. Read once, before privileges are dropped.
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/config.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

/// The secrets of a configuration. The best match wins: a secret that names both identities before
/// one that names the peer's only, before one that names ours only, before one that names none.
class PreSharedKeys final : public SecretSource {
 public:
  /// Reads every secret's file. The error is a sentence with the place in the configuration.
  static std::expected<std::unique_ptr<PreSharedKeys>, std::string> load(
      const config::Config& configuration);

  [[nodiscard]] const crypto::SecretBytes* find_post_quantum(std::string_view id) const override;
  void add(std::vector<config::Identity> ids, crypto::SecretBytes key);

  [[nodiscard]] const crypto::SecretBytes* find(const config::Identity& local,
                                                const config::Identity& remote) const override;

 private:
  struct Entry {
    std::vector<config::Identity> ids;
    crypto::SecretBytes key;
  };
  using Places = std::vector<std::size_t>;  ///< in `entries_`

  std::vector<Entry> entries_;
  /// A hub has a secret for each of its peers: they are found by the peer's name, those with one
  /// name also by ours.
  std::unordered_map<std::string, Places> pairs_, alone_;
  /// Those that names do not find: without any, or with a distinguished name, which may be written
  /// in several ways (RFC 5280 §7.1).
  Places others_;
  std::map<std::string, crypto::SecretBytes, std::less<>> post_quantum_;  ///< by PPK_ID
};

}  // namespace culvert::ike
