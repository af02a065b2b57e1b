// ESP packets that a gateway of ours would not send, sealed with its SA all the same.
#pragma once

#include <algorithm>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/esp.hpp"
#include "wire/ip.hpp"

namespace culvert::test {

/// An ESP packet with this text under the encryption: what a faulty peer might send.
inline Packet forged(Pair& pair, const Packet& text) {
  Packet whole = pair.sealed({.payload = Packet(400, 0)});
  dataplane::OutboundSa& sa =
      *pair.left.tables().sad->outbound(pair.left.tables().sad->find(pair.out_id)->slot);
  const std::uint64_t sequence = sa.sequence.load() + 1;
  sa.sequence.store(sequence);
  whole.resize(14 + 20 + 8 + 8 + text.size() + 16);
  std::copy(text.begin(), text.end(), &whole[14 + 36]);
  wire::store_u32(&whole[14 + 24], static_cast<std::uint32_t>(sequence));
  wire::store_u64(&whole[14 + 28], sequence);
  alignas(16) std::uint8_t nonce[16] = {}, aad[16] = {};
  wire::store_raw(nonce, sa.outer().salt);
  std::copy_n(&whole[14 + 28], 8, nonce + 4);
  std::copy_n(&whole[14 + 20], 8, aad);
  const crypto::esp::Operation operation{sa.key,
                                         &whole[14 + 36],
                                         nonce,
                                         aad,
                                         &whole[14 + 36 + text.size()],
                                         static_cast<std::uint32_t>(text.size()),
                                         8};
  pair.left.context().engine->seal(sa.details->suite, std::span(&operation, 1));
  wire::store_u16(&whole[16], static_cast<std::uint16_t>(whole.size() - 14));
  fix_checksum(whole);
  return whole;
}

inline Packet with_trailer(Packet payload, std::uint8_t next_header) {
  const std::size_t padding = wire::esp::padding_for(payload.size());
  for (std::size_t i = 1; i <= padding; ++i) payload.push_back(static_cast<std::uint8_t>(i));
  payload.push_back(static_cast<std::uint8_t>(padding));
  payload.push_back(next_header);
  return payload;
}

}  // namespace culvert::test
