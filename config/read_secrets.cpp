// secrets and pki: names of files; what is in them never enters the Config.
#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {
namespace {

void read_paths(const Field& field, std::vector<std::string>& paths) {
  for (const Field& item : read_items(field, "paths", limits::kSas)) {
    if (auto path = read_text(item, "a path")) paths.push_back(*std::move(path));
  }
}

}  // namespace

void read_secrets(const Field& field, std::vector<Secret>& secrets) {
  for (const Field& item : read_items(field, "secrets", limits::kSas)) {
    Secret secret;
    secret.location = item.location;
    MapReader map(item, "a secret: {ids: [OURS, THEIRS], psk_file: FILE}");
    for (const Field& id : read_items(map.take("ids"), "identities", limits::kSas)) {
      if (auto identity = read_identity(id)) secret.ids.push_back(*std::move(identity));
    }
    set(secret.psk_file, read_text(map.require("psk_file", "the path of a file that holds the key",
                                               "write psk_file: FILE"),
                                   "the path of a file that holds the key"));
    map.finish();
    secrets.push_back(std::move(secret));
  }
}

void read_pki(const Field& field, Pki& pki) {
  MapReader map(field, "a map: authorities, private_keys, crls");
  read_paths(map.take("authorities"), pki.authorities);
  read_paths(map.take("private_keys"), pki.private_keys);
  read_paths(map.take("crls"), pki.crls);
  map.finish();
}

}  // namespace culvert::config
