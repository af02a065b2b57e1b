// What is measured: the packets of a case and the SAs and policies they meet.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "crypto/esp/esp_crypto.hpp"
#include "crypto/esp/transform.hpp"
#include "wire/ip_address.hpp"

namespace culvert::benchmarks {

enum class Direction : std::uint8_t { out, in };

/// What is wrong with the packets that come beside the good ones, inbound.
enum class Flood : std::uint8_t { none, unknown_spis, wrong_icvs, replays, from_elsewhere };
inline constexpr std::uint32_t kBadPerGood = 10;

/// One row of the table.
struct Case {
  Direction direction = Direction::out;
  std::uint32_t size = 64;  ///< bytes of inner IP packet; 0: IMIX (64×7 + 570×4 + 1400×1)
  std::uint32_t sas = 1;
  std::uint32_t other_policies = 9;  ///< looked at before those of the SAs; no packet matches them
  bool has_many_shapes = false;      ///< theirs: 351 of prefix lengths, protocols and ports
  bool has_sa_policies = true;       ///< one an SA; outbound they are what names it
  std::uint32_t workers = 1;
  std::uint32_t flows = 64;           ///< of an SA, by ports; an SA among many has one
  std::uint32_t remembered = 65'536;  ///< flows a worker has room for (`limits.flows`)
  std::uint32_t replay_window = 1024;
  std::uint32_t disorder = 1;  ///< numbers of an SA come in any order within so many; a power of 2
  crypto::esp::TransformId transform{};  ///< AES-128-GCM-16
  wire::Family inner = wire::Family::v4, outer = wire::Family::v4;
  bool has_udp = false;               ///< ESP in UDP (RFC 3948), port 4500 on both sides
  bool has_inbound_esn = false;       ///< outbound SAs have ESN always; an AEAD suite
  Flood flood = Flood::none;          ///< kBadPerGood of them for each good packet; rates are of
                                      ///< the good ones
  std::uint32_t least_frames = 4096;  ///< before the capture begins again
  std::string variant;                ///< what else differs from the ordinary, for the row's name

  friend bool operator==(const Case&, const Case&) = default;
};
/// Whether two cases differ in nothing but their packets' sizes.
[[nodiscard]] bool have_same_tables(Case one, const Case& other);
[[nodiscard]] std::string size_name(const Case& test);
[[nodiscard]] std::string direction_name(const Case& test);
/// The ESP suite and the variant: "aes128gcm16", "aes128gcm16 cold flows".
[[nodiscard]] std::string suite_name(const Case& test);
/// Entries of the SPD.
[[nodiscard]] std::uint32_t policies_of(const Case& test);
/// What tells rows apart: "aes128gcm16/out/64/1/10/1": suite, direction, size, SAs, policies,
/// workers.
[[nodiscard]] std::string row_name(const Case& test);
/// Frames of one queue's capture: every flow of every SA, a whole number of bursts.
[[nodiscard]] std::uint32_t frames_of(const Case& test);
/// Frames received for each good packet, and those of them that must be decrypted.
[[nodiscard]] std::uint32_t frames_per_good(const Case& test);
[[nodiscard]] std::uint32_t openings_per_good(const Case& test);
/// Inner sizes in the order in which they come, again and again.
[[nodiscard]] std::span<const std::uint32_t> sizes_of(const Case& test);

/// MAC addresses that the frames and the port table agree on.
inline constexpr std::uint8_t kLanMac[6] = {0x02, 0, 0, 0, 0, 0x01};
inline constexpr std::uint8_t kWanMac[6] = {0x02, 0, 0, 0, 0, 0x02};
inline constexpr std::uint8_t kNeighborMac[6] = {0x02, 0, 0, 0, 0, 0x99};

/// 198.51.100.1 is ours, 198.51.100.2 the peer; SA n protects the n-th /28 of 10.0.0.0/8 towards
/// the n-th of 20.0.0.0/8. IPv6 addresses are the same numbers in 2001:db8::/96.
[[nodiscard]] wire::IpAddress address_of(wire::Family family, std::uint32_t number);
/// Of `bits` of the number.
[[nodiscard]] wire::Prefix prefix_of(wire::Family family, std::uint32_t number, unsigned bits);
inline constexpr std::uint32_t kOurWan = 0xc6336401, kPeerWan = 0xc6336402;
inline constexpr std::uint32_t kLocalBase = 0x0a000000, kRemoteBase = 0x14000000;

/// Of policy `number` of a list with 351 shapes, of prefix lengths, protocols and ports,
/// in 11.0.0.0/8 and 12.0.0.0/8, where no packet is from or for.
struct Selectors {
  wire::TrafficSelector local, remote;
};
[[nodiscard]] Selectors selectors_of_many_shapes(wire::Family family, std::uint32_t number);

/// The request that installs SA `index` of a case; `spi` inbound as leased.
[[nodiscard]] channel::InstallSa sa_request(const Case& test, std::uint32_t index,
                                            channel::Spi spi);

/// Where in a sealed frame the number of its burst stands, as the identification of the outer IPv4
/// header, or in IPv6's flow label (modulo 2^16): it falls where a looped capture begins again.
[[nodiscard]] constexpr std::uint16_t burst_number_at(wire::Family outer) {
  return 14 + (outer == wire::Family::v4 ? 4 : 2);
}

/// An Ethernet frame.
using Frame = std::vector<std::uint8_t>;
/// The frames of a case in their order: clear packets for the LAN port, the SAs in turn.
void for_each_clear_frame(const Case& test, std::span<const std::uint32_t> sas,
                          const std::function<void(const Frame&)>& take);
/// Sealed packets for the WAN port with rising sequence numbers; `spis` by SA.
void for_each_sealed_frame(const Case& test, std::span<const std::uint32_t> sas,
                           std::span<const channel::Spi> spis, crypto::esp::Engine& engine,
                           const std::function<void(const Frame&)>& take);

/// The SA of a frame, by its number in either order.
[[nodiscard]] std::uint32_t sa_of_frame(const Case& test, std::span<const std::uint32_t> sas,
                                        std::size_t number);

/// Writes the clear frames as a capture that net_pcap plays.
void write_clear_capture(const std::string& file, const Case& test,
                         std::span<const std::uint32_t> sas);
/// The same of the sealed frames.
void write_sealed_capture(const std::string& file, const Case& test,
                          std::span<const std::uint32_t> sas, std::span<const channel::Spi> spis,
                          crypto::esp::Engine& engine);

}  // namespace culvert::benchmarks
