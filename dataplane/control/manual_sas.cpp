#include "dataplane/control/manual_sas.hpp"

#include <algorithm>
#include <filesystem>

namespace culvert::dataplane::control {
namespace {

// Manual SAs are named from a range of their own; the key daemon's names start from a random
// 64-bit number.
constexpr std::uint64_t kFirstManualId = 0x6d616e75616c0000ULL;
constexpr std::uint16_t kUdpEncapsulationPort = 4500;

bool copy_selectors(const std::vector<wire::TrafficSelector>& from, channel::SelectorSet& to) {
  if (from.size() > to.items.size()) return false;
  std::ranges::copy(from, to.items.begin());
  to.count = static_cast<std::uint32_t>(from.size());
  return true;
}

}  // namespace

std::expected<channel::InstallSa, std::string> install_request(const config::Config& config,
                                                               const config::ManualSa& sa,
                                                               std::uint32_t child_index,
                                                               std::size_t ordinal) {
  const std::string name = "manual SA \"" + sa.name + "\": ";
  channel::InstallSa request;
  request.sa = channel::SaId{kFirstManualId + ordinal};
  request.direction = sa.direction == config::ManualSa::Direction::in ? channel::Direction::in
                                                                      : channel::Direction::out;
  request.mode =
      sa.mode == config::Mode::tunnel ? channel::SaMode::tunnel : channel::SaMode::transport;
  request.esn = sa.esn;
  request.udp_encapsulation = sa.udp_encap_local_port || sa.udp_encap_remote_port;
  request.child_index = child_index;
  request.spi = channel::Spi{sa.spi};
  request.replay_window = sa.replay_window;
  request.suite = sa.suite;
  request.local.address = sa.local;
  request.remote.address = sa.remote;
  if (request.udp_encapsulation) {
    request.local.port = sa.udp_encap_local_port.value_or(kUdpEncapsulationPort);
    request.remote.port = sa.udp_encap_remote_port.value_or(kUdpEncapsulationPort);
  }
  if (!copy_selectors(sa.local_ts, request.local_selectors) ||
      !copy_selectors(sa.remote_ts, request.remote_selectors)) {
    return std::unexpected(name + "more than " + std::to_string(channel::kMaxSelectors) +
                           " selectors on a side");
  }
  const auto file = std::filesystem::path(config.file).parent_path() / sa.key_file;
  const auto key = config::read_key(file);
  if (!key) return std::unexpected(name + key.error());
  if (key->size() != sa.suite.keymat_bytes()) {
    return std::unexpected(name + file.string() + " holds " + std::to_string(key->size()) +
                           " bytes, " + sa.suite.name() + " needs " +
                           std::to_string(sa.suite.keymat_bytes()) +
                           " (cipher key, salt, integrity key)");
  }
  if (!request.key.assign(key->view())) return std::unexpected(name + "its key is too long");
  return request;
}

}  // namespace culvert::dataplane::control
