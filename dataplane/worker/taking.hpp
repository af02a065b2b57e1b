// Pass 1 of the short way inbound (known_inbound.cpp): how a packet becomes an operation.
#pragma once

#include <cstdint>

#include "dataplane/worker/crypto_burst.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/esp.hpp"
#include "wire/unaligned.hpp"

namespace culvert::dataplane {

[[nodiscard]] inline bool is_mine(const WorkerState& worker, const InboundSa& sa) {
  return worker.tables.workers == 1 ||
         worker.tables.sad->slot_of(sa) % worker.tables.workers == raw(worker.context.id);
}

/// Whether an SA that is plain goes on, in step with its peer.
[[nodiscard]] inline bool goes_on(const InboundSa& sa, std::uint64_t now) {
  return !sa.stopped.load(std::memory_order_relaxed) &&
         !sa.resync_due.load(std::memory_order_relaxed) && !has_ended(sa, now);
}

/// What pass 1 takes, one after another.
struct Taking {
  CryptoScratch::Opening* side;
  crypto::esp::Operation* operation;
  std::uint64_t last_sequence = 0;  ///< of the run
};

/// The number up to which one may have come late. Without a window none does.
[[nodiscard]] inline std::uint64_t highest_late(const InboundSa& sa) {
  return sa.window_packets == 0 ? 0 : sa.highest;
}

/// The nonce is salt and IV (RFC 4106 §4), the AAD SPI and number as they stand in the packet, or
/// with all 64 bits of the number (§5).
template <bool kHasEsn>
void take(Taking& taking, CryptoScratch& scratch, InboundSa& sa, std::uint8_t* esp,
          std::uint32_t esp_bytes, std::uint32_t position, std::uint8_t notes,
          std::uint64_t sequence) {
  taking.last_sequence = sequence;
  CryptoScratch::Opening& side = *taking.side++;
  wire::store_raw(side.nonce.data(), sa.salt);
  wire::store_raw(side.nonce.data() + 4,
                  wire::load_raw<std::uint64_t>(esp + wire::esp::kHeaderBytes));
  side.position = static_cast<std::uint16_t>(position);
  side.notes = notes;
  side.sa = &sa;
  side.sequence = sequence;
  crypto::esp::Operation& operation = *taking.operation++;
  operation.key = sa.key;
  operation.text = esp + wire::esp::kHeaderBytes + kPlainIvBytes;
  operation.text_bytes = esp_bytes - kAroundPlain;
  operation.aad = esp;
  operation.aad_bytes = wire::esp::kHeaderBytes;
  if constexpr (kHasEsn) {
    CryptoScratch::Block& aad = scratch.aads[&side - scratch.opening_sides.data()];
    operation.aad = aad.bytes.data();
    operation.aad_bytes = write_aad(aad, wire::load_raw<std::uint32_t>(esp), sequence, true);
  }
}

/// What of an outer header pass 3 looks at.
template <typename Family>
[[nodiscard]] std::uint8_t notes_of(const std::uint8_t* ip) {
  return Family::traffic_class(ip) & CryptoScratch::Opening::kCongestion;
}

}  // namespace culvert::dataplane
