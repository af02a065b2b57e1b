// secrets and pki: names of files; what is in them never enters the Config.
#include <algorithm>
#include <array>

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

/// What is fetched is signed: http tells no more and no less than https (RFC 5280 §8).
std::optional<std::string> read_url(const Field& field) {
  static constexpr std::string_view kExpected = "an http:// URL";
  auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  if (text->size() > limits::kUrlCharacters) {
    field.error({std::to_string(text->size()) + " characters",
                 "at most " + std::to_string(limits::kUrlCharacters), ""});
    return std::nullopt;
  }
  const bool printable =
      std::ranges::all_of(*text, [](char one) { return one > 0x20 && one < 0x7f; });
  if (text->starts_with("http://") && text->size() > 7 && printable) return text;
  field.error({quote(*text), std::string(kExpected),
               text->starts_with("https://")
                   ? "write http://: lists and statuses are signed, whoever carries them"
                   : ""});
  return std::nullopt;
}

/// Files and URLs.
void read_lists(const Field& field, std::vector<std::string>& lists) {
  for (const Field& item : read_items(field, "paths or URLs", limits::kSas)) {
    auto entry = read_text(item, "a path or URL");
    if (entry && is_url(*entry)) entry = read_url(item);
    if (entry) lists.push_back(*std::move(entry));
  }
}

/// A path, or {file: …, passphrase_file: …} for an encrypted key.
void read_private_keys(const Field& field, std::vector<PrivateKeyFile>& keys) {
  for (const Field& item : read_items(field, "paths", limits::kSas)) {
    PrivateKeyFile key;
    key.location = item.location;
    if (item.present() && item.node->kind == Node::Kind::map) {
      MapReader map(item, "a private key: {file: FILE, passphrase_file: FILE}");
      set(key.file, read_text(map.require("file", "the path of a private key", "write file: FILE"),
                              "the path of a private key"));
      set(key.passphrase_file,
          read_text(map.take("passphrase_file"), "the path of a file that holds the passphrase"));
      map.finish();
    } else {
      set(key.file, read_text(item, "the path of a private key"));
    }
    keys.push_back(std::move(key));
  }
}

}  // namespace

void read_secrets(const Field& field, Config& config) {
  std::size_t entry = 0;
  for (const Field& item : read_items(field, "secrets", limits::kSas)) {
    Secret secret;
    secret.location = item.location;
    MapReader map(item, "a secret: {ids: [OURS, THEIRS], psk_file: FILE}");
    const std::size_t here = entry++;
    secret.entry = here;
    if (const Field id = map.take("ppk_id"); id.present()) {
      PostQuantumKey key{{}, {}, here, item.location};
      set(key.id, read_name(id, limits::kIdentityBytes));
      set(key.file, read_text(map.require("ppk_file", "the path of a file that holds the key",
                                          "write ppk_file: FILE"),
                              "the path of a file that holds the key"));
      map.finish();
      config.post_quantum_keys.push_back(std::move(key));
      continue;
    }
    for (const Field& id : read_items(map.take("ids"), "identities", limits::kSas)) {
      if (auto identity = read_identity(id)) secret.ids.push_back(*std::move(identity));
    }
    set(secret.psk_file, read_text(map.require("psk_file", "the path of a file that holds the key",
                                               "write psk_file: FILE"),
                                   "the path of a file that holds the key"));
    map.finish();
    config.secrets.push_back(std::move(secret));
  }
}

void read_pki(const Field& field, Pki& pki) {
  using crypto::pki::RevocationPolicy;
  static constexpr std::array kPolicies{
      Word<RevocationPolicy>{"strict", RevocationPolicy::strict},
      Word<RevocationPolicy>{"if-available", RevocationPolicy::if_available},
      Word<RevocationPolicy>{"off", RevocationPolicy::off}};
  static constexpr std::array kKeyUsage{Word<bool>{"check", true}, Word<bool>{"ignore", false}};
  static constexpr std::array kOcsp{Word<Ocsp>{"off", Ocsp::off},
                                    Word<Ocsp>{"in-band", Ocsp::in_band},
                                    Word<Ocsp>{"fetch", Ocsp::fetch}};
  MapReader map(field, "a map: authorities, intermediates, private_keys, crls, revocation");
  read_paths(map.take("authorities"), pki.authorities);
  read_paths(map.take("intermediates"), pki.intermediates);
  read_private_keys(map.take("private_keys"), pki.private_keys);
  read_lists(map.take("crls"), pki.crls);
  set(pki.revocation, read_choice(map.take("revocation"), kPolicies));
  set(pki.ocsp, read_choice(map.take("ocsp"), kOcsp));
  if (const Field responder = map.take("ocsp_responder"); responder.present()) {
    set(pki.ocsp_responder, read_url(responder));
  }
  set(pki.revocation_grace, read_duration(map.take("revocation_grace")));
  set(pki.check_extended_key_usage, read_choice(map.take("extended_key_usage"), kKeyUsage));
  map.finish();
}

}  // namespace culvert::config
