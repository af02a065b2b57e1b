// Operations of a burst, called in runs of one suite.
#pragma once

#include <span>

#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {

/// Gathers the operations of one transform from `begin` on, calls `process` with them, and marks
/// them done. Multi-buffer ciphers run fastest with all of a burst at once.
template <typename Process>
void gather_and_process(CryptoScratch& scratch, std::span<const crypto::esp::Operation> operations,
                        std::uint32_t begin, std::uint64_t& done, const Process& process) {
  static_assert(kBurstPackets <= 64);
  const crypto::esp::TransformId id = scratch.transforms[begin];
  std::uint32_t gathered = 0;
  for (std::uint32_t i = begin; i < operations.size(); ++i) {
    if (scratch.transforms[i] != id) continue;
    scratch.gathered[gathered++] = operations[i];
    done |= std::uint64_t{1} << i;
  }
  process(crypto::esp::transform(id).suite, std::span(scratch.gathered).first(gathered));
}

/// Calls `process(suite, operations)` once for each suite of a burst's operations, whose transforms
/// are in `scratch`. One suite, the usual case, is called in place.
template <typename Process>
void for_each_suite(CryptoScratch& scratch, std::span<const crypto::esp::Operation> operations,
                    const Process& process) {
  if (operations.empty()) return;
  const auto count = static_cast<std::uint32_t>(operations.size());
  std::uint32_t same = 1;
  while (same < count && scratch.transforms[same] == scratch.transforms[0]) ++same;
  if (same == count) [[likely]] {
    return process(crypto::esp::transform(scratch.transforms[0]).suite, operations);
  }
  std::uint64_t done = 0;
  for (std::uint32_t begin = 0; begin < count; ++begin) {
    if ((done >> begin & 1U) == 0) gather_and_process(scratch, operations, begin, done, process);
  }
}

/// Salt and explicit IV (RFC 4106 §4, RFC 4309 §4) in one store of 16 bytes; what is behind the
/// nonce is not read. Suites without salt or a counter as IV do not read it at all.
inline void write_nonce(CryptoScratch::Block& nonce, std::uint32_t salt, crypto::esp::Form form,
                        std::uint64_t iv_raw) {
  const unsigned shift = 8U * form.salt_bytes;
  const unsigned __int128 whole = (static_cast<unsigned __int128>(iv_raw) << shift) | salt;
  wire::store_raw(nonce.bytes.data(), whole);
}

/// SPI and sequence number as authenticated (RFC 4106 §5): 8 bytes, or 12 with ESN. One store.
inline std::uint8_t write_aad(CryptoScratch::Block& aad, std::uint32_t spi_raw,
                              std::uint64_t sequence, bool has_esn) {
  const std::uint32_t low = wire::Be32{static_cast<std::uint32_t>(sequence)}.raw();
  if (!has_esn) {
    wire::store_raw(aad.bytes.data(), std::uint64_t{low} << 32U | spi_raw);
    return 8;
  }
  const std::uint32_t high = wire::Be32{static_cast<std::uint32_t>(sequence >> 32U)}.raw();
  const unsigned __int128 whole =
      (static_cast<unsigned __int128>(low) << 64U) | (std::uint64_t{high} << 32U | spi_raw);
  wire::store_raw(aad.bytes.data(), whole);
  return 12;
}

/// Whether two ICVs agree, in time that depends on their length only.
[[nodiscard]] inline bool icvs_agree(const std::uint8_t* computed, const std::uint8_t* received,
                                     std::size_t bytes) {
  if (bytes == 16) [[likely]] {
    const std::uint64_t first =
        wire::load_raw<std::uint64_t>(computed) ^ wire::load_raw<std::uint64_t>(received);
    const std::uint64_t second =
        wire::load_raw<std::uint64_t>(computed + 8) ^ wire::load_raw<std::uint64_t>(received + 8);
    return (first | second) == 0;
  }
  unsigned different = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    different |= static_cast<unsigned>(computed[i] ^ received[i]);
  }
  return different == 0;
}

}  // namespace culvert::dataplane
