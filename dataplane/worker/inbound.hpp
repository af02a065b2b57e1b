// What the general and the short way of inbound packets share.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/stages.hpp"
#include "wire/udp.hpp"

namespace culvert::dataplane {

/// One packet that was worth decrypting, and is decrypted but not yet believed.
struct OpenedPacket {
  InboundSa* sa;
  std::uint64_t sequence;
  std::uint8_t* text;
  const std::uint8_t* received_icv;
  std::uint16_t text_bytes;
  std::uint8_t position;
  bool peer_moved;
};

/// Where ESP begins in a packet of `Burst::encrypted`, and how it came.
struct EspAt {
  std::uint8_t* esp = nullptr;
  std::size_t bytes = 0;
  bool in_udp = false;
};

[[nodiscard]] inline EspAt esp_of(std::uint8_t* ip, const wire::IpHeader& header) {
  std::uint8_t* const payload = ip + header.payload_offset;
  if (header.protocol == wire::protocol::kEsp) return {payload, header.payload_bytes(), false};
  const std::size_t length = wire::udp::length_of(wire::Bytes(payload, header.payload_bytes()));
  if (length == 0) return {payload, 0, true};
  return {payload + wire::udp::kHeaderBytes, length - wire::udp::kHeaderBytes, true};
}

/// nullopt: the window takes it.
[[nodiscard]] inline std::optional<DropReason> refused_by_window(ReplayVerdict verdict) {
  switch (verdict) {
    case ReplayVerdict::fresh:
      return std::nullopt;
    case ReplayVerdict::duplicate:
      return DropReason::replay_duplicate;
    case ReplayVerdict::left_of_window:
      return DropReason::replay_left_of_window;
  }
  return DropReason::replay_duplicate;
}

/// ESP for us of which no SA knows (RFC 4303 §3.4.2). The main thread is shown one a millisecond at
/// most, for it tells of ten a second, and IKE needs its ring too; the others end in the worker.
/// False: this one is the worker's to drop.
[[nodiscard]] inline bool hint_unknown_spi(WorkerState& worker, Burst& burst,
                                           std::uint32_t position) {
  if (burst.tsc < worker.next_spi_hint) [[likely]]
    return false;
  worker.next_spi_hint = burst.tsc + worker.millisecond;
  punt_frame(worker, burst, position, PuntReason::unknown_spi);
  return true;
}

/// A packet that is to be decrypted.
struct WorthOpening {
  std::uint64_t sequence;
  bool peer_moved;  ///< it came from where ours do not go
};
/// RFC 4303 §3.4.2, §3.4.3: addresses, lifetime, length, window, of ESP for an SA of this worker's.
/// `burst` knows the outer packet. nullopt: it is undecided, in transit, or dropped with a reason.
[[nodiscard]] std::optional<WorthOpening> worth_opening(WorkerState& worker, Burst& burst,
                                                        std::uint32_t position, InboundSa& sa,
                                                        const EspAt& at);

/// RFC 4303 §3.4.3, §3.4.4: ICV, window, lifetimes, trailer, decapsulation, selectors. `icv`: the
/// computed one. `burst` knows the outer packet. It is undecided then, or dropped with a reason.
void accept_or_drop(WorkerState& worker, Burst& burst, const OpenedPacket& packet,
                    const std::uint8_t* icv);

}  // namespace culvert::dataplane
