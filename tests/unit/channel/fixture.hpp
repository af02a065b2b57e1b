// Valid messages to start from, and a folder for sockets that goes away.
#pragma once

#include <filesystem>
#include <string>

#include <stdlib.h>
#include <unistd.h>

#include "channel/messages.hpp"

namespace culvert::channel::test {

/// A private folder for one test's sockets.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "channel-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  [[nodiscard]] std::filesystem::path socket() const { return path / "channel.sock"; }
};

inline wire::IpAddress address(std::string_view text) { return *wire::IpAddress::parse(text); }

inline wire::Endpoint endpoint(std::string_view text, std::uint16_t port) {
  return {address(text), port};
}

inline SelectorSet selectors(std::string_view text) {
  SelectorSet set;
  set.count = 1;
  set.items[0] = *wire::TrafficSelector::parse(text);
  return set;
}

inline Request request(RequestType type, std::uint64_t id = 7) {
  Request made;
  made.type = type;
  made.id = RequestId{id};
  return made;
}

/// An inbound AES-256-GCM tunnel-mode SA between two IPv4 gateways.
inline Request install_sa() {
  Request made = request(RequestType::install_sa);
  made.body.install_sa = InstallSa{};
  InstallSa& sa = made.body.install_sa;
  sa.sa = SaId{11};
  sa.spi = Spi{0xC0000101};
  sa.replay_window = 1024;
  sa.suite = {crypto::Encryption::aes_gcm_16, 256, crypto::Integrity::none};
  sa.local = endpoint("198.51.100.1", 0);
  sa.remote = endpoint("203.0.113.7", 0);
  sa.local_selectors = selectors("10.1.0.0/24");
  sa.remote_selectors = selectors("10.2.0.0/24");
  sa.key.length = 36;
  sa.key.bytes.fill(0xAB);
  return made;
}

inline Request install_policy() {
  Request made = request(RequestType::install_policy);
  made.body.install_policy = InstallPolicy{};
  made.body.install_policy.policy = PolicyId{21};
  made.body.install_policy.outbound = SaId{12};
  made.body.install_policy.local_selectors = selectors("10.1.0.0/24");
  made.body.install_policy.remote_selectors = selectors("10.2.0.0/24");
  return made;
}

inline Request query_sa(std::uint64_t id) {
  Request made = request(RequestType::query_sa, id);
  made.body.query_sa = QuerySa{SaId{id}};
  return made;
}

inline Event completion(std::uint64_t id) {
  Event made;
  made.type = EventType::completion;
  made.body.completion = Completion{};
  made.body.completion.request = RequestId{id};
  return made;
}

inline Event soft_expire(std::uint64_t sa) {
  Event made;
  made.type = EventType::soft_expire;
  made.body.soft_expire = {SaId{sa}, ExpiryCause::bytes};
  return made;
}

inline Datagram datagram(std::uint32_t length, std::uint8_t filling = 0x5A) {
  Datagram made;
  made.local = endpoint("198.51.100.1", 500);
  made.remote = endpoint("203.0.113.7", 500);
  made.length = length;
  std::fill_n(made.bytes.begin(), length, filling);
  return made;
}

}  // namespace culvert::channel::test
