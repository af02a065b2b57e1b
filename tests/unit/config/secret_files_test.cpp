#include <algorithm>
#include <cstdlib>
#include <fstream>

#include <catch2/catch.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.hpp"
#include "tests/unit/config/valid_configuration.hpp"

namespace culvert::config {
namespace {

/// A folder that goes away with the test.
struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "culvert-config-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path); }

  std::filesystem::path write(const std::string& name, std::string_view text,
                              mode_t mode = 0600) const {
    const std::filesystem::path file = path / name;
    std::ofstream(file, std::ios::binary) << text;
    REQUIRE(::chmod(file.c_str(), mode) == 0);
    return file;
  }
  std::filesystem::path path;
};

std::string text_of(const std::expected<crypto::SecretBytes, std::string>& secret) {
  REQUIRE(secret);
  const auto view = secret->view();
  return {view.begin(), view.end()};
}

/// A folder in which the valid configuration's files are there and safe.
void write_all_files(const Folder& folder) {
  folder.write("hq.yaml", test::kValid);
  folder.write("branch.psk", "a pre-shared key of good length\n", 0640);
  folder.write("lab.key", std::string(96, 'a') + "\n");
  const std::filesystem::path pki = std::filesystem::path(CULVERT_TESTS_DIR) / "broken" / "pki";
  for (const char* name : {"ca.pem", "hq.key"}) {
    std::filesystem::copy(pki / name, folder.path / name);
    REQUIRE(::chmod((folder.path / name).c_str(), 0600) == 0);
  }
}

std::string only_diagnostic(const Folder& folder) {
  const LoadResult result = load_file(folder.path / "hq.yaml");
  REQUIRE(result.diagnostics.size() == 1);
  return result.diagnostics.front().to_string();
}

}  // namespace

TEST_CASE("psk file: text, hex and base64, one trailing newline cut") {
  const Folder folder;
  CHECK(text_of(read_psk(folder.write("a", "secret\n"))) == "secret");
  CHECK(text_of(read_psk(folder.write("b", "secret\r\n"))) == "secret");
  CHECK(text_of(read_psk(folder.write("c", "secret\n\n"))) == "secret\n");
  CHECK(text_of(read_psk(folder.write("d", "0x736563\n"))) == "sec");
  CHECK(text_of(read_psk(folder.write("e", "0sc2VjcmV0\n"))) == "secret");
  CHECK(text_of(read_psk(folder.write("f", "0sc2VjcmV0cw==\n"))) == "secrets");
}

TEST_CASE("psk file: what is empty, malformed, too large or no file is refused with a sentence") {
  const Folder folder;
  for (const std::string& content :
       {std::string(), std::string("\n"), std::string("0x"), std::string("0x123"),
        std::string("0xzz"), std::string("0sab"), std::string("0s????"), std::string(5000, 'x')}) {
    INFO(content.substr(0, 20));
    const auto secret = read_psk(folder.write("bad", content));
    REQUIRE_FALSE(secret);
    CHECK_FALSE(secret.error().empty());
  }
  CHECK_FALSE(read_psk(folder.path));
  CHECK_FALSE(read_psk(folder.path / "absent"));
  REQUIRE(::mkfifo((folder.path / "fifo").c_str(), 0600) == 0);
  CHECK_FALSE(read_psk(folder.path / "fifo"));
}

TEST_CASE("key file: hex with or without 0x") {
  const Folder folder;
  CHECK(text_of(read_key(folder.write("a", "414243\n"))) == "ABC");
  CHECK(text_of(read_key(folder.write("b", "0x414243"))) == "ABC");
  CHECK_FALSE(read_key(folder.write("c", "41 42")));
}

TEST_CASE("check: with every file in place the valid configuration passes") {
  const Folder folder;
  write_all_files(folder);
  const LoadResult result = load_file(folder.path / "hq.yaml");
  for (const auto& diagnostic : result.diagnostics) UNSCOPED_INFO(diagnostic.to_string());
  CHECK(result.diagnostics.empty());
}

TEST_CASE("check: a pre-shared key that everybody may read is refused") {
  const Folder folder;
  write_all_files(folder);
  folder.write("branch.psk", "a pre-shared key of good length\n", 0644);
  CHECK_THAT(only_diagnostic(folder),
             Catch::Contains("hq.yaml:62:59: error: secrets[0].psk_file") &&
                 Catch::Contains("everybody may read") && Catch::Contains("chmod 640"));
}

TEST_CASE("check: a pre-shared key behind a post-quantum one is named by its place in the list") {
  const Folder folder;
  write_all_files(folder);
  std::string text(test::kValid);
  text.insert(text.find("  - {ids: [hq.example.org"), "  - {ppk_id: one, ppk_file: one.ppk}\n");
  folder.write("hq.yaml", text);
  folder.write("one.ppk", "a post-quantum key of good length, in random octets\n");
  folder.write("branch.psk", "short\n");
  CHECK_THAT(only_diagnostic(folder),
             Catch::Contains("hq.yaml:63:59: warning: secrets[1].psk_file"));
}

TEST_CASE("check: a missing pre-shared key, an empty one and a short one are named") {
  const Folder folder;
  write_all_files(folder);
  std::filesystem::remove(folder.path / "branch.psk");
  CHECK_THAT(only_diagnostic(folder), Catch::Contains("No such file"));
  folder.write("branch.psk", "\n");
  CHECK_THAT(only_diagnostic(folder), Catch::Contains("is empty"));
  folder.write("branch.psk", "short\n");
  CHECK_THAT(only_diagnostic(folder), Catch::Contains("warning") && Catch::Contains("5 bytes"));
}

TEST_CASE("check: a manual key of the wrong length for its suite is refused") {
  const Folder folder;
  write_all_files(folder);
  folder.write("lab.key", std::string(32, 'a'));
  CHECK_THAT(only_diagnostic(folder),
             Catch::Contains("a key of 16 bytes") && Catch::Contains("48 bytes for aes128-sha256"));
}

TEST_CASE("check: a private key that the group may write is refused") {
  const Folder folder;
  write_all_files(folder);
  REQUIRE(::chmod((folder.path / "hq.key").c_str(), 0660) == 0);
  CHECK_THAT(only_diagnostic(folder),
             Catch::Contains("pki.private_keys[0]") && Catch::Contains("its group may write"));
}

TEST_CASE("check: no diagnostic holds a word of a secret's file") {
  const Folder folder;
  write_all_files(folder);
  folder.write("branch.psk", "hunter2\n", 0644);
  folder.write("lab.key", "deadbeefhunter2");
  for (const auto& diagnostic : load_file(folder.path / "hq.yaml").diagnostics) {
    CHECK_THAT(diagnostic.to_string(), !Catch::Contains("hunter2"));
  }
}

}  // namespace culvert::config
