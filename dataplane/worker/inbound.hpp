// What the general and the short way of inbound packets share.
#pragma once

#include <cstdint>

#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/stages.hpp"

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

/// RFC 4303 §3.4.3, §3.4.4: ICV, window, lifetimes, trailer, decapsulation, selectors. `icv`: the
/// computed one. `burst` knows the outer packet. It is undecided then, or dropped with a reason.
void accept_or_drop(WorkerState& worker, Burst& burst, const OpenedPacket& packet,
                    const std::uint8_t* icv);

}  // namespace culvert::dataplane
