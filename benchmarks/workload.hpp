// What is measured: the packets of a case and the SAs and policies they meet.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "crypto/suite.hpp"

namespace culvert::benchmarks {

enum class Direction : std::uint8_t { out, in };

/// One row of the table.
struct Case {
  Direction direction = Direction::out;
  std::uint32_t size = 64;  ///< bytes of inner IP packet; 0: IMIX (64×7 + 570×4 + 1400×1)
  std::uint32_t sas = 1;
  std::uint32_t policies = 10;  ///< beside one per SA
};
[[nodiscard]] std::string size_name(const Case& test);

inline constexpr crypto::EspSuite kSuite{crypto::Encryption::aes_gcm_16, 128,
                                         crypto::Integrity::none};

/// MAC addresses that the frames and the port table agree on.
inline constexpr std::uint8_t kLanMac[6] = {0x02, 0, 0, 0, 0, 0x01};
inline constexpr std::uint8_t kWanMac[6] = {0x02, 0, 0, 0, 0, 0x02};
inline constexpr std::uint8_t kNeighborMac[6] = {0x02, 0, 0, 0, 0, 0x99};

/// 198.51.100.1 is ours, 198.51.100.2 the peer; SA n protects 10.x.y.0/24 → 20.x.y.0/24.
inline constexpr std::uint32_t kOurWan = 0xc6336401, kPeerWan = 0xc6336402;
inline constexpr std::uint32_t kOurLan = 0x0a000001;
inline constexpr std::uint32_t kLocalBase = 0x0a000000, kRemoteBase = 0x14000000;

/// The request that installs SA `index` in `direction`; `spi` inbound as leased.
[[nodiscard]] channel::InstallSa sa_request(Direction direction, std::uint32_t index,
                                            channel::Spi spi);

/// Frames in the order in which they arrive, a whole number of bursts, sizes mixed for IMIX.
struct Frames {
  std::vector<std::vector<std::uint8_t>> frames;
  std::vector<std::uint32_t> inner_bytes;  ///< of each frame
};
/// Clear packets for the LAN port: every SA in turn.
[[nodiscard]] Frames clear_frames(const Case& test);
/// Sealed packets for the WAN port with rising sequence numbers; `spis` by SA.
[[nodiscard]] Frames sealed_frames(const Case& test, const std::vector<channel::Spi>& spis,
                                   crypto::esp::Engine& engine);

/// Writes a capture that net_pcap plays.
void write_capture(const std::string& file, const Frames& frames);

}  // namespace culvert::benchmarks
