// Operations of a burst, called in runs of one suite.
#pragma once

#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {

/// Calls `process(suite, operations)` for each run of neighbours that share a suite.
template <typename Process>
void for_each_suite(CryptoScratch& scratch, std::uint32_t count, const Process& process) {
  std::uint32_t begin = 0;
  while (begin < count) {
    const crypto::EspSuite& suite = *scratch.suites[begin];
    std::uint32_t end = begin + 1;
    while (end < count && (scratch.suites[end] == &suite || *scratch.suites[end] == suite)) {
      ++end;
    }
    process(suite, std::span(scratch.operations).subspan(begin, end - begin));
    begin = end;
  }
}

/// Salt and explicit IV (RFC 4106 §4) in one store of 16 bytes; the last four are not read.
inline void write_nonce(CryptoScratch::Block& nonce, std::uint32_t salt, std::uint64_t iv_raw) {
  const unsigned __int128 whole = (static_cast<unsigned __int128>(iv_raw) << 32U) | salt;
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

/// Whether two ICVs agree, in constant time.
[[nodiscard]] inline bool icvs_agree(const std::uint8_t* computed, const std::uint8_t* received) {
  const std::uint64_t first =
      wire::load_raw<std::uint64_t>(computed) ^ wire::load_raw<std::uint64_t>(received);
  const std::uint64_t second =
      wire::load_raw<std::uint64_t>(computed + 8) ^ wire::load_raw<std::uint64_t>(received + 8);
  return (first | second) == 0;
}

}  // namespace culvert::dataplane
