#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>
#include <stdlib.h>

#include "ike/identity/certificates.hpp"
#include "tests/unit/authority.hpp"

namespace culvert::ike {
namespace {

using test::Issued;

/// A folder that goes away with the test.
struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "culvert-pki-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(path / name, std::ios::binary) << content;
    // Each write is later than the one before, however coarse the file system's clock is.
    static auto later = std::filesystem::file_time_type::clock::now();
    later += std::chrono::seconds(1);
    std::filesystem::last_write_time(path / name, later);
    return (path / name).string();
  }
  std::filesystem::path path;
};

std::string text_of(const crypto::pki::RevocationList& list) {
  const auto der = list.der();
  return {der.begin(), der.end()};
}

config::Config configuration(const Folder& folder, const Issued& authority, const Issued& end) {
  config::Config result;
  result.pki.authorities = {folder.write("ca.pem", authority.pem())};
  const auto key = test::to_pem(end.key());
  result.pki.private_keys = {{folder.write("hq.key", std::string(key.begin(), key.end())), "", {}}};
  config::Connection connection;
  connection.local.auth = config::AuthMethod::pubkey;
  connection.local.certificate = folder.write("hq.pem", end.pem());
  result.connections = {connection, connection};
  return result;
}

}  // namespace

TEST_CASE("certificates: files are read, a file that several connections name once") {
  const Folder folder;
  const Issued authority = Issued::authority();
  const auto loaded = Certificates::load(configuration(folder, authority, authority.issue({})));
  REQUIRE(loaded);
  REQUIRE((*loaded)->loaded().size() == 2);
  CHECK((*loaded)->loaded()[0].kind == "own");
  CHECK((*loaded)->loaded()[1].kind == "authority");
  CHECK((*loaded)->loaded()[0].not_after == test::kNow + test::kYear);
}

TEST_CASE("certificates: a file that cannot be read is named") {
  const Folder folder;
  const Issued authority = Issued::authority();
  const config::Config whole = configuration(folder, authority, authority.issue({}));
  for (const char* name : {"ca.pem", "hq.key", "hq.pem"}) {
    const Folder other;
    config::Config broken = configuration(other, authority, authority.issue({}));
    std::filesystem::remove(other.path / name);
    const auto loaded = Certificates::load(broken);
    REQUIRE_FALSE(loaded);
    CHECK_THAT(loaded.error(), Catch::Contains(name));
  }
  config::Config broken = whole;
  broken.pki.crls = {folder.write("ca.crl", "no list")};
  const auto loaded = Certificates::load(broken);
  REQUIRE_FALSE(loaded);
  CHECK_THAT(loaded.error(), Catch::Contains("ca.crl holds no revocation list"));
}

TEST_CASE("certificates: a revocation list that changes is read again, one that breaks is not") {
  const Folder folder;
  const Issued authority = Issued::authority();
  const Issued peer = authority.issue({});
  config::Config whole = configuration(folder, authority, authority.issue({}));
  whole.pki.crls = {folder.write("ca.crl", text_of(authority.revocation_list({})))};
  const auto loaded = Certificates::load(whole);
  REQUIRE(loaded);
  const auto accepted = [&] {
    return (*loaded)
        ->trust()
        .validate(peer.certificate(), {}, {test::kNow, crypto::pki::RevocationPolicy::strict, true})
        .has_value();
  };
  CHECK(accepted());
  CHECK_FALSE((*loaded)->refresh_revocation_lists().changed);

  folder.write("ca.crl", text_of(authority.revocation_list({peer})));
  CHECK((*loaded)->refresh_revocation_lists().changed);
  CHECK_FALSE(accepted());

  folder.write("ca.crl", "half a li");
  auto refresh = (*loaded)->refresh_revocation_lists();
  CHECK_FALSE(refresh.changed);
  CHECK(refresh.problems.size() == 1);
  CHECK(refresh.lists == 1);
  CHECK_FALSE(accepted());
  CHECK((*loaded)->refresh_revocation_lists().problems.empty());

  std::filesystem::remove(folder.path / "ca.crl");
  CHECK((*loaded)->refresh_revocation_lists().problems.empty());
  CHECK_FALSE(accepted());
}

}  // namespace culvert::ike
