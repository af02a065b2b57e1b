// From text to Config in four steps: 1. the YAML tree, 2. section by section into typed values,
// 3. what must hold between sections, 4. the files it names.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "config/checks.hpp"
#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"
#include "config/yaml_tree.hpp"

namespace culvert::config {
namespace {

void read_sections(const Field& root, Config& config) {
  MapReader map(root, "a map of sections: instance, dataplane, connections, …");
  set(config.instance, read_name(map.take("instance"), limits::kInstanceCharacters));
  set(config.user, read_name(map.take("user"), limits::kInstanceCharacters));
  const Field dataplane = map.require("dataplane", "a map: workers, interfaces, routes",
                                      "write dataplane: with at least one interface");
  read_dataplane(dataplane, config.dataplane);
  read_policies(map.take("policies"), config.policies);
  read_default_policy(map.take("default_policy"), config.default_policy);
  read_connections(map.take("connections"), config.connections);
  read_manual_sas(map.take("manual_sas"), config.manual_sas);
  read_secrets(map.take("secrets"), config);
  read_pki(map.take("pki"), config.pki);
  read_metrics(map.take("metrics"), config.metrics);
  map.finish();
}

/// Relative paths are meant from where the configuration lies.
void resolve_paths(const std::filesystem::path& folder, Config& config) {
  const auto resolve = [&folder](std::string& path) {
    if (!path.empty()) path = (folder / path).string();
  };
  for (Secret& secret : config.secrets) resolve(secret.psk_file);
  for (PostQuantumKey& key : config.post_quantum_keys) resolve(key.file);
  for (ManualSa& sa : config.manual_sas) resolve(sa.key_file);
  for (Connection& connection : config.connections) resolve(connection.local.certificate);
  Pki& pki = config.pki;
  for (auto* paths : {&pki.authorities, &pki.intermediates, &pki.crls}) {
    for (std::string& path : *paths) {
      if (!is_url(path)) resolve(path);
    }
  }
  for (PrivateKeyFile& key : pki.private_keys) {
    resolve(key.file);
    resolve(key.passphrase_file);
  }
}

void check_all(const Config& config, bool files, Diagnostics& diagnostics) {
  check_names(config, diagnostics);
  check_addresses(config, diagnostics);
  check_neighbors(config, diagnostics);
  check_selectors(config, diagnostics);
  check_policy_order(config, diagnostics);
  check_dummy_packets(config, diagnostics);
  check_secrets(config, diagnostics);
  check_pki(config, diagnostics);
  if (files) check_files(config, diagnostics);
}

LoadResult refused(std::string_view file, Finding finding) {
  Diagnostics diagnostics(file);
  diagnostics.error({1, 1}, "", std::move(finding));
  return {std::nullopt, diagnostics.take()};
}

}  // namespace

LoadResult load_text(std::string_view text, std::string_view file_name, bool check_files,
                     Purpose purpose) {
  Diagnostics diagnostics(file_name, purpose);
  const auto tree = parse_yaml(text);
  if (!tree) {
    const YamlError& error = tree.error();
    diagnostics.error(error.location, "", {error.found, error.expected, error.advice});
    return {std::nullopt, diagnostics.take()};
  }
  Config config;
  config.file = file_name;
  const Field root{&diagnostics, &*tree, tree->location, ""};
  read_sections(root, config);
  resolve_paths(std::filesystem::path(file_name).parent_path(), config);
  if (tree->kind == Node::Kind::map && !diagnostics.full()) {
    check_all(config, check_files, diagnostics);
  }
  LoadResult result;
  if (!diagnostics.has_errors()) result.config = std::move(config);
  result.diagnostics = diagnostics.take();
  return result;
}

std::string LoadResult::why_not() const {
  if (ok()) return {};
  const auto found = std::ranges::find(diagnostics, Severity::error, &Diagnostic::severity);
  const std::string errors = "the file has errors";
  return found == diagnostics.end() ? errors : errors + ": " + found->to_string();
}

LoadResult load_file(const std::filesystem::path& file, Purpose purpose) {
  std::error_code ignored;
  if (std::filesystem::is_directory(file, ignored)) {
    return refused(file.string(), {"a folder", "a YAML file", "name the file in it"});
  }
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    return refused(file.string(), {"no readable file (" + std::string(std::strerror(errno)) + ")",
                                   "a YAML file", "check the path and the permissions"});
  }
  // What is beyond the limit is enough for the text's own check to refuse it.
  std::string text;
  std::array<char, 16384> piece;
  while (text.size() <= limits::kFileBytes && stream.good()) {
    stream.read(piece.data(), piece.size());
    text.append(piece.data(), static_cast<std::size_t>(stream.gcount()));
  }
  return load_text(text, file.string(), true, purpose);
}

}  // namespace culvert::config
