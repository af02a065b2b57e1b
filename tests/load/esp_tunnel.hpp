// A peer's ESP in tunnel mode (RFC 4303): sealed with the SA that its machine has told the data
// plane to send on, opened with whichever SA the SPI names as long as the machine keeps it. No
// replay window: whoever counts the packets sees which come twice.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/esp/transform.hpp"
#include "tests/simulator/data_plane.hpp"
#include "wire/esp.hpp"

namespace culvert::load {

class EspTunnel {
 public:
  /// Both outlive it.
  EspTunnel(const simulation::DataPlane& data_plane, crypto::esp::Engine& engine)
      : data_plane_(data_plane), engine_(engine) {}

  static constexpr std::size_t kMaxPacketBytes = 1500;

  struct Sealed {
    channel::Spi spi{};
    wire::Endpoint local, remote;
    bool udp_encapsulation = false;
    wire::Bytes esp;  ///< from the SPI on; until the next call
  };
  /// An IPv4 packet of at most kMaxPacketBytes; nullopt: there is no SA to send on.
  [[nodiscard]] std::optional<Sealed> seal(wire::Bytes packet);

  enum class Refusal : std::uint8_t { unknown_spi, icv_wrong, malformed };
  struct Opened {
    channel::Spi spi{};
    wire::Bytes packet;  ///< until the next call
  };
  /// `esp`: from the SPI on.
  [[nodiscard]] std::expected<Opened, Refusal> open(wire::Bytes esp);

 private:
  /// What an SA needs beyond what the data plane remembers of it.
  struct State {
    crypto::esp::ExpandedKey key;
    const crypto::esp::Transform* transform = nullptr;
    std::uint64_t sequence = 0;  ///< the last one given out

    [[nodiscard]] const crypto::esp::Form& form() const { return transform->form; }
  };
  /// nullptr: the engine does not take such a key.
  State* state_of(const channel::InstallSa& sa);
  /// On the packet in the buffer, whose header and IV stand in front of `text_bytes`.
  [[nodiscard]] crypto::esp::Operation operation(const channel::InstallSa& sa, const State& state,
                                                 std::size_t text_bytes);

  /// Engines may change four bytes in front of the ESP header, and behind the text.
  static constexpr std::size_t kMargin = 16;
  static constexpr std::size_t kMaxIvBytes = 16, kMaxPadding = 15;
  static constexpr std::size_t kMaxEspBytes = wire::esp::kHeaderBytes + kMaxIvBytes +
                                              kMaxPacketBytes + kMaxPadding +
                                              wire::esp::kTrailerBytes + crypto::esp::kMaxIcvBytes;
  [[nodiscard]] std::uint8_t* esp() { return buffer_.data() + kMargin; }

  const simulation::DataPlane& data_plane_;
  crypto::esp::Engine& engine_;
  std::map<channel::SaId, std::unique_ptr<State>> states_;
  std::array<std::uint8_t, 12> nonce_{}, aad_{};
  std::array<std::uint8_t, kMargin + kMaxEspBytes + kMargin> buffer_{};
};

}  // namespace culvert::load
