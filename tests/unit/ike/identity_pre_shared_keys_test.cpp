#include <filesystem>
#include <fstream>
#include <random>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "ike/identity/pre_shared_keys.hpp"

namespace culvert::ike {
namespace {

config::Identity id(std::string_view text) { return config::parse_identity(text).value(); }

/// Keys whose content names the secret they came from.
void add(PreSharedKeys& keys, std::vector<config::Identity> ids, std::string_view name) {
  const std::vector<std::uint8_t> bytes(name.begin(), name.end());
  keys.add(std::move(ids), crypto::SecretBytes(crypto::Bytes(bytes)));
}

std::string found(const PreSharedKeys& keys, std::string_view local, std::string_view remote) {
  const crypto::SecretBytes* key = keys.find(id(local), id(remote));
  return key == nullptr ? "none" : std::string(key->view().begin(), key->view().end());
}

struct KeyFolder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("culvert-psk-" + std::to_string(::getpid()));
  KeyFolder() { std::filesystem::create_directories(path); }
  ~KeyFolder() { std::filesystem::remove_all(path); }
  KeyFolder(const KeyFolder&) = delete;
  KeyFolder& operator=(const KeyFolder&) = delete;
};

}  // namespace

TEST_CASE("pre-shared keys: both identities before one, one before none") {
  PreSharedKeys keys;
  add(keys, {}, "any");
  add(keys, {id("hq.example.org")}, "ours");
  add(keys, {id("branch.example.org")}, "theirs");
  add(keys, {id("hq.example.org"), id("branch.example.org")}, "both");
  CHECK(found(keys, "hq.example.org", "branch.example.org") == "both");
  CHECK(found(keys, "branch.example.org", "hq.example.org") == "both");
  CHECK(found(keys, "other.example.org", "branch.example.org") == "theirs");
  CHECK(found(keys, "hq.example.org", "other.example.org") == "ours");
  CHECK(found(keys, "a.example.org", "b.example.org") == "any");
}

TEST_CASE("pre-shared keys: the order in the file does not matter, the first of equals wins") {
  PreSharedKeys keys;
  add(keys, {id("hq.example.org"), id("branch.example.org")}, "first");
  add(keys, {id("branch.example.org"), id("hq.example.org")}, "second");
  add(keys, {}, "any");
  CHECK(found(keys, "hq.example.org", "branch.example.org") == "first");
}

TEST_CASE("pre-shared keys: what is found by name is what a search of all secrets finds") {
  const std::vector<config::Identity> ids = {
      id("hq.example.org"),  id("a.example.org"),   id("b.example.org"),   id("10.0.0.1"),
      id("ops@example.org"), id("CN=a, O=Example"), id("CN=A, O=example"), id("@#cafe01")};
  std::mt19937 dice(5);
  const auto any_id = [&] { return ids[dice() % ids.size()]; };
  for (int round = 0; round < 200; ++round) {
    PreSharedKeys keys;
    std::vector<std::vector<config::Identity>> secrets;
    for (auto i = dice() % 20; i > 0; --i) {
      std::vector<config::Identity> named(dice() % 4);
      for (config::Identity& one : named) one = any_id();
      add(keys, named, std::to_string(secrets.size()));
      secrets.push_back(named);
    }
    for (int i = 0; i < 20; ++i) {
      const config::Identity local = any_id(), remote = any_id();
      std::string expected = "none";
      int best = 0;
      for (std::size_t at = 0; at < secrets.size(); ++at) {
        const int rank = config::secret_rank(secrets[at], local, remote);
        if (rank <= best) continue;
        best = rank;
        expected = std::to_string(at);
      }
      const crypto::SecretBytes* key = keys.find(local, remote);
      const std::string got =
          key == nullptr ? "none" : std::string(key->view().begin(), key->view().end());
      CHECK(got == expected);
    }
  }
}

TEST_CASE("pre-shared keys: a secret of another pair is never used") {
  PreSharedKeys keys;
  add(keys, {id("hq.example.org"), id("branch.example.org")}, "branch");
  CHECK(found(keys, "hq.example.org", "mallory.example.org") == "none");
  CHECK(found(keys, "mallory.example.org", "branch.example.org") == "none");
}

TEST_CASE("pre-shared keys: an identity is its type and its bytes, not its spelling") {
  PreSharedKeys keys;
  add(keys, {id("192.0.2.1"), id("192.0.2.2")}, "addresses");
  CHECK(found(keys, "192.0.2.1", "192.0.2.2") == "addresses");
  config::Identity as_name = id("192.0.2.2");
  as_name.type = config::Identity::Type::fqdn;
  CHECK(keys.find(id("192.0.2.1"), as_name) == nullptr);
}

TEST_CASE("pre-shared keys: a file that cannot be read is named with its place") {
  const KeyFolder folder;
  std::ofstream(folder.path / "branch.psk") << "0123456789abcdef\n";
  std::filesystem::permissions(folder.path / "branch.psk", std::filesystem::perms::owner_read);
  config::Config configuration;
  configuration.file = (folder.path / "hq.yaml").string();
  configuration.secrets.push_back(
      {{id("branch.example.org")}, (folder.path / "branch.psk").string(), {14, 5}});
  const auto keys = PreSharedKeys::load(configuration);
  REQUIRE(keys);
  CHECK(found(**keys, "hq.example.org", "branch.example.org") == "0123456789abcdef");

  configuration.secrets[0].psk_file = (folder.path / "missing.psk").string();
  const auto missing = PreSharedKeys::load(configuration);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().starts_with(configuration.file + ":14:5: "));
}

}  // namespace culvert::ike
