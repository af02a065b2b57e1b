// The packets that the tester and a gateway exchange, as scripts/bench --gateway-config sets the
// gateway up: RFC 2544's addresses (198.18.0.0/15), one manual SA a direction.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "crypto/esp/esp_crypto.hpp"

namespace culvert::benchmarks {

using Mac = std::array<std::uint8_t, 6>;

/// A side of the gateway, and the tester's address there.
struct Link {
  std::uint32_t gateway, tester;
};
inline constexpr Link kLan{0xc6120001, 0xc6120002};  ///< 198.18.0.1, 198.18.0.2
inline constexpr Link kWan{0xc6120101, 0xc6120102};  ///< 198.18.1.1, 198.18.1.2
/// Behind the tester's end of the tunnel: 198.19.0.0/16.
inline constexpr std::uint32_t kRemoteHost = 0xc6130002;

inline constexpr std::size_t kLeastInnerBytes = 64;
inline constexpr std::size_t kMostFrameBytes = 2048;

/// What the tester knows a packet of its own by.
struct Mark {
  std::uint32_t trial = 0;
  std::uint64_t sent_tsc = 0;
};

/// What the gateway does with a packet.
enum class Way : std::uint8_t {
  tunnel,     ///< between the LAN and the remote host: ESP on the WAN
  forwarded,  ///< between the tester's addresses on both links: in clear, for the floor
};

/// A clear packet of `bytes` from the LAN to the far end of `way`, or the other way round; returns
/// its bytes.
std::size_t write_inner(std::span<std::uint8_t> out, Way way, bool from_lan, std::size_t bytes,
                        std::uint32_t flow, const Mark& mark);
/// nullopt: none of the tester's.
std::optional<Mark> read_inner(std::span<const std::uint8_t> packet, Way way, bool from_lan);

void write_ethernet(std::span<std::uint8_t> out, const Mac& destination, const Mac& source,
                    std::uint16_t type);

/// The tester's end of the tunnel: AES-128-GCM-16, extended sequence numbers.
class Tunnel {
 public:
  Tunnel();
  /// An ESP packet to the gateway with the next number; `write` fills the inner packet's bytes.
  /// Returns the bytes of the IP packet.
  template <typename Write>
  std::size_t seal(std::span<std::uint8_t> out, std::size_t inner_bytes, Write write) {
    write(out.subspan(kInnerAt, inner_bytes));
    return finish(out, inner_bytes);
  }
  /// The inner packet of an ESP packet from the gateway, opened in place; empty: not of this
  /// tunnel, or not authentic.
  std::span<const std::uint8_t> open(std::span<std::uint8_t> packet);

 private:
  static constexpr std::size_t kInnerAt = 20 + 8 + 8;
  std::size_t finish(std::span<std::uint8_t> out, std::size_t inner_bytes);

  std::unique_ptr<crypto::esp::Engine> engine_;
  crypto::esp::ExpandedKey key_{};
  std::uint64_t next_sequence_ = 1, highest_received_ = 0;
};

/// ARP (RFC 826) over Ethernet, 42 bytes. Who has `target`? `sender` at `mac` asks.
void write_arp_question(std::span<std::uint8_t> frame, const Mac& mac, std::uint32_t sender,
                        std::uint32_t target);
struct Arp {
  bool is_question = false;
  Mac mac{};
  std::uint32_t sender = 0, target = 0;
};
/// nullopt: no ARP frame.
std::optional<Arp> read_arp(std::span<const std::uint8_t> frame);
/// Turns a question into its answer: `target` is at `mac`.
void answer_arp(std::span<std::uint8_t> frame, const Mac& mac);
inline constexpr std::size_t kArpFrameBytes = 42;

}  // namespace culvert::benchmarks
