#include <cerrno>
#include <cstring>

#include <sys/stat.h>
#include <unistd.h>

#include "config/checks.hpp"
#include "config/limits.hpp"

namespace culvert::config {

bool check_readable(const std::string& file, const std::string& path, Diagnostics& diagnostics) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) {
    const bool missing = errno == ENOENT || errno == ENOTDIR;
    diagnostics.error(path, {quote(file) + " (" + std::strerror(errno) + ")", "a readable file",
                             missing ? "write the file, or mend the path (relative to the "
                                       "configuration's folder)"
                                     : "give the service user access"});
    return false;
  }
  if (!S_ISREG(status.st_mode)) {
    diagnostics.error(path, {quote(file) + ", which is no regular file", "a file", ""});
    return false;
  }
  if (::access(file.c_str(), R_OK) != 0) {
    diagnostics.error(path, {quote(file) + " (" + std::strerror(errno) + ")", "a readable file",
                             "give the service user access (chgrp and chmod 640)"});
    return false;
  }
  return true;
}

bool check_private(const std::string& file, const std::string& path, Diagnostics& diagnostics) {
  if (!check_readable(file, path, diagnostics)) return false;
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) return false;
  const auto others = status.st_mode & (S_IRWXO | S_IWGRP);
  if (others == 0) return true;
  const std::string_view who = (others & S_IROTH) != 0   ? ", which everybody may read"
                               : (others & S_IWOTH) != 0 ? ", which everybody may write"
                               : (others & S_IWGRP) != 0 ? ", which its group may write"
                                                         : ", which everybody may execute";
  diagnostics.error(path,
                    {quote(file) + std::string(who), "mode 0600 or 0640", "chmod 640 " + file});
  return false;
}

namespace {

void check_psk(const Secret& secret, const std::string& path, Diagnostics& diagnostics) {
  if (secret.psk_file.empty() || !check_private(secret.psk_file, path, diagnostics)) return;
  const auto psk = read_psk(secret.psk_file);
  if (!psk) {
    diagnostics.error(path, {psk.error(), "text, 0x and hex, or 0s and base64",
                             "openssl rand -base64 32 makes a good key"});
  } else if (psk->size() < limits::kPskShort) {
    // RFC 7296 §2.15: the key must hold as much unpredictability as the strongest key negotiated.
    diagnostics.warning(path, {"a key of " + std::to_string(psk->size()) + " bytes",
                               "at least " + std::to_string(limits::kPskShort) + " random bytes",
                               "openssl rand -base64 32 makes a good key"});
  }
}

/// What a key file holds, in order (RFC 7296 §2.17).
std::string key_parts(const crypto::EspSuite& suite) {
  std::string text;
  const auto add = [&](std::size_t bytes, std::string_view what) {
    if (bytes == 0) return;
    text += (text.empty() ? "" : ", then ") + std::to_string(bytes) + " of " + std::string(what);
  };
  const std::size_t integrity = suite.integrity_key_bytes();
  add(suite.encryption_key_bytes(), "cipher key");
  add(suite.keymat_bytes() - suite.encryption_key_bytes() - integrity, "salt");
  add(integrity, "integrity key");
  return text;
}

void check_key(const ManualSa& sa, const std::string& path, Diagnostics& diagnostics) {
  if (sa.key_file.empty() || !check_private(sa.key_file, path, diagnostics)) return;
  const auto key = read_key(sa.key_file);
  if (!key) {
    diagnostics.error(path, {key.error(), "hex digits", "openssl rand -hex makes a key"});
    return;
  }
  const std::size_t wanted = sa.suite.keymat_bytes();
  if (sa.suite.encryption == crypto::Encryption::none || key->size() == wanted) return;
  diagnostics.error(
      path, {"a key of " + std::to_string(key->size()) + " bytes",
             std::to_string(wanted) + " bytes for " + sa.suite.name() + ": " + key_parts(sa.suite),
             "openssl rand -hex " + std::to_string(wanted) + " makes one"});
}

}  // namespace

void check_files(const Config& config, Diagnostics& diagnostics) {
  for (const Secret& secret : config.secrets) {
    check_psk(secret, indexed("secrets", secret.entry) + ".psk_file", diagnostics);
  }
  for (const PostQuantumKey& key : config.post_quantum_keys) {
    Secret secret;
    secret.psk_file = key.file;
    check_psk(secret, indexed("secrets", key.entry) + ".ppk_file", diagnostics);
  }
  for (std::size_t index = 0; index < config.manual_sas.size(); ++index) {
    check_key(config.manual_sas[index], indexed("manual_sas", index) + ".key_file", diagnostics);
  }
  check_certificates(config, diagnostics);
}

}  // namespace culvert::config
