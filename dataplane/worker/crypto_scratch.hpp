// A burst's operations of cryptography and what they need. Worker-local.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "crypto/esp/esp_crypto.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/burst.hpp"

namespace culvert::dataplane {

/// What sealing and opening need of each packet beside its bytes, apart from it and written well
/// before the cryptography reads it: a store that is loaded wider just after costs 15 ns.
struct CryptoScratch {
  struct alignas(16) Block {
    std::array<std::uint8_t, 16> bytes;
  };
  struct alignas(crypto::esp::kMaxIcvBytes) Icv {
    std::array<std::uint8_t, crypto::esp::kMaxIcvBytes> bytes;
  };
  std::array<Block, kBurstPackets> nonces, aads;
  std::array<Icv, kBurstPackets> icvs;
  std::array<crypto::esp::Operation, kBurstPackets> operations;
  std::array<crypto::esp::TransformId, kBurstPackets> transforms;
  std::array<crypto::esp::Operation, kBurstPackets> gathered;  ///< of one suite among several
  /// Sealing, a bit an operation: the packet is ESP in UDP over IPv6, whose checksum covers what
  /// the operation writes.
  std::uint64_t wants_udp_checksum = 0;
  static_assert(kBurstPackets <= 64);
  /// Of plain SAs, inbound: what is beside the operation of the same index.
  struct alignas(32) Opening {
    std::array<std::uint8_t, 12> nonce;
    std::uint16_t position;  ///< in the burst
    /// Zero of most packets: they have congestion to be told of, or are the general stage's to
    /// accept, and the burst knows their outer header; then, whether they came from elsewhere.
    std::uint8_t notes;
    static constexpr std::uint8_t kCongestion = 3, kOdd = 4, kMoved = 8;
    InboundSa* sa;
    std::uint64_t sequence;
  };
  std::array<Opening, kBurstPackets> opening_sides;
  std::array<crypto::esp::Operation, kBurstPackets> openings;

  /// Each opening has its nonce and its ICV for good.
  CryptoScratch() {
    for (std::size_t k = 0; k < openings.size(); ++k) {
      openings[k].nonce = opening_sides[k].nonce.data();
      openings[k].icv = icvs[k].bytes.data();
    }
  }
  CryptoScratch(const CryptoScratch&) = delete;
  CryptoScratch& operator=(const CryptoScratch&) = delete;
};

}  // namespace culvert::dataplane
