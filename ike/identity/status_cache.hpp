// What OCSP said of certificates: responses that peers sent along (RFC 4806), later also fetched
// ones. A response that is taken was judged: signed, current, about its certificate. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "crypto/pki/ocsp.hpp"
#include "crypto/pki/trust_store.hpp"

namespace culvert::ike {

class StatusCache {
 public:
  /// Certificates whose status is kept: as many peers as a gateway may have.
  static constexpr std::size_t kMostEntries = 1U << 15U;

  void set_grace(std::chrono::seconds grace) { grace_ = grace; }

  /// Judges what a response says of a certificate and keeps it, unless a newer one is there. The
  /// error is a sentence's end.
  crypto::pki::Result<void> learn(const crypto::pki::OcspResponse& response,
                                  const crypto::pki::Certificate& certificate,
                                  const crypto::pki::Certificate& issuer, std::int64_t now);
  /// What is known now: nothing, good or revoked.
  [[nodiscard]] crypto::pki::StatusAnswer status_of(const crypto::pki::Certificate& certificate,
                                                    const crypto::pki::Certificate& issuer,
                                                    std::int64_t now) const;
  /// The last second that what is known counts; 0: nothing is.
  [[nodiscard]] std::int64_t until(const crypto::pki::Certificate& certificate,
                                   const crypto::pki::Certificate& issuer) const;
  /// The response itself, for a peer that asks for it; nullptr: there is none that counts.
  [[nodiscard]] const std::vector<std::uint8_t>* response_for(
      const crypto::pki::Certificate& certificate, const crypto::pki::Certificate& issuer,
      std::int64_t now) const;

 private:
  struct Entry {
    std::vector<std::uint8_t> response;
    crypto::pki::OcspStatus status;
  };
  [[nodiscard]] const Entry* current(const crypto::pki::Certificate& certificate,
                                     const crypto::pki::Certificate& issuer,
                                     std::int64_t now) const;
  void make_room(std::int64_t now);

  std::chrono::seconds grace_{0};
  std::map<std::string, Entry> entries_;  ///< by crypto::pki::ocsp_name
};

}  // namespace culvert::ike
