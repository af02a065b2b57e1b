#include <array>
#include <filesystem>
#include <fstream>
#include <numeric>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "dataplane/control/manual_sas.hpp"
#include "tests/unit/channel/stack_remains.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"

namespace culvert::dataplane::control {
namespace {

/// A folder with a configuration's key file; removed at the end.
class KeyFolder {
 public:
  explicit KeyFolder(const std::string& hex) {
    const std::string name = "culvert_manual_sa_" + std::to_string(getpid());
    folder_ = std::filesystem::temp_directory_path() / name;
    std::filesystem::create_directory(folder_);
    const auto file = folder_ / "key.hex";
    std::ofstream(file) << hex << '\n';
    std::filesystem::permissions(file, std::filesystem::perms::owner_read);
  }
  ~KeyFolder() { std::filesystem::remove_all(folder_); }
  KeyFolder(const KeyFolder&) = delete;
  KeyFolder& operator=(const KeyFolder&) = delete;

  [[nodiscard]] std::string key_file() const { return (folder_ / "key.hex").string(); }

 private:
  std::filesystem::path folder_;
};

config::ManualSa outbound(const KeyFolder& folder) {
  config::ManualSa sa;
  sa.name = "pair";
  sa.spi = 0x1001;
  sa.local = test::address("192.0.2.1");
  sa.remote = test::address("192.0.2.2");
  sa.local_ts = {wire::TrafficSelector::of(test::prefix("10.1.0.0/24"))};
  sa.remote_ts = {wire::TrafficSelector::of(test::prefix("10.2.0.0/24"))};
  sa.suite = {crypto::Encryption::aes_gcm_16, 128, crypto::Integrity::none};
  sa.key_file = folder.key_file();
  sa.id = config::manual_id(sa.name);
  return sa;
}

}  // namespace

TEST_CASE("manual SA: key, addresses and selectors become an installation") {
  const KeyFolder folder("000102030405060708090a0b0c0d0e0f10111213");
  const auto request = install_request(outbound(folder), channel::SaId{7});
  REQUIRE(request);
  CHECK(request->direction == channel::Direction::out);
  CHECK(request->spi == channel::Spi{0x1001});
  CHECK(request->sa == channel::SaId{7});
  CHECK(request->child_id == config::manual_id("pair"));
  CHECK(request->key.length == 20);
  CHECK(request->key.bytes[19] == 0x13);
  CHECK(request->local_selectors.count == 1);
  CHECK(request->local.port == 0);
  CHECK_FALSE(request->udp_encapsulation);
}

TEST_CASE("manual SA: a request that was wiped leaves nothing of its key on the stack") {
  const KeyFolder folder("5152535455565758595a5b5c5d5e5f6061626364");
  std::array<std::uint8_t, 20> key{};
  std::iota(key.begin(), key.end(), std::uint8_t{0x51});
  bool had_it = false;
  const auto make = [&] {
    auto request = install_request(outbound(folder), channel::SaId{7});
    if (!request) return;
    had_it = std::ranges::equal(request->key.view(), key);
    request->key.wipe();
  };
  CHECK_FALSE(channel::test::leaves_on_stack(make, std::span(key).first(16)));
  CHECK(had_it);
}

TEST_CASE("manual SA: UDP encapsulation takes port 4500 where none is written (RFC 3948)") {
  const KeyFolder folder("000102030405060708090a0b0c0d0e0f10111213");
  auto sa = outbound(folder);
  sa.udp_encap_remote_port = 61000;
  const auto request = install_request(sa, channel::SaId{7});
  CHECK(request->udp_encapsulation);
  CHECK(request->local.port == 4500);
  CHECK(request->remote.port == 61000);
}

TEST_CASE("manual SA: a key without its salt is refused with both lengths") {
  const KeyFolder folder("000102030405060708090a0b0c0d0e0f");
  const auto request = install_request(outbound(folder), channel::SaId{7});
  REQUIRE_FALSE(request);
  CHECK(request.error().find("16 bytes") != std::string::npos);
  CHECK(request.error().find("20") != std::string::npos);
}

}  // namespace culvert::dataplane::control
