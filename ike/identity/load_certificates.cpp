// The files of a configuration's certificates, before privileges are dropped.
#include <algorithm>

#include "config/certificates.hpp"
#include "ike/identity/certificates.hpp"

namespace culvert::ike {

std::expected<std::unique_ptr<Certificates>, std::string> Certificates::load(
    const config::Config& configuration) {
  auto loaded = std::make_unique<Certificates>(configuration.pki);
  for (const config::Connection& connection : configuration.connections) {
    const std::string& path = connection.local.certificate;
    if (connection.local.auth != config::AuthMethod::pubkey) continue;
    if (std::ranges::find(loaded->own_, path, &Own::path) != loaded->own_.end()) continue;
    auto chain = config::read_certificates(path);
    if (!chain) return std::unexpected(chain.error());
    for (const auto& one : *chain) loaded->note_loaded(path, "own", one);
    loaded->add_own(path, std::move(*chain));
  }
  for (const config::PrivateKeyFile& file : configuration.pki.private_keys) {
    auto key = config::read_private_key(file);
    if (!key) return std::unexpected(key.error());
    loaded->add_private_key(std::move(*key));
  }
  for (const std::string& file : configuration.pki.authorities) {
    auto authorities = config::read_certificates(file);
    if (!authorities) return std::unexpected(authorities.error());
    for (auto& one : *authorities) {
      loaded->note_loaded(file, "authority", one);
      loaded->trust_.add_authority(std::move(one));
    }
  }
  for (const std::string& file : configuration.pki.intermediates) {
    auto intermediates = config::read_certificates(file);
    if (!intermediates) return std::unexpected(intermediates.error());
    for (auto& one : *intermediates) {
      loaded->note_loaded(file, "intermediate", one);
      loaded->trust_.add_intermediate(std::move(one));
    }
  }
  for (const std::string& file : configuration.pki.crls) {
    if (config::is_url(file)) continue;
    loaded->revocation_files_.push_back({file, {}, {}});
  }
  const Refresh lists = loaded->refresh_revocation_lists();
  if (!lists.problems.empty()) return std::unexpected(lists.problems.front());
  return loaded;
}

Certificates::Refresh Certificates::refresh_revocation_lists() {
  Refresh result;
  for (RevocationFile& file : revocation_files_) {
    std::error_code error;
    const auto written = std::filesystem::last_write_time(file.path, error);
    if (!error && written == file.written) continue;
    // A file that is away for a moment is being replaced; the next turn sees it.
    if (error && !file.lists.empty()) continue;
    file.written = written;
    auto lists = config::read_revocation_lists(file.path);
    if (!lists) {
      result.problems.push_back(lists.error());
      continue;
    }
    file.lists = std::move(*lists);
    result.changed = true;
  }
  for (const RevocationFile& file : revocation_files_) result.lists += file.lists.size();
  if (result.changed) collect_lists();
  return result;
}

}  // namespace culvert::ike
