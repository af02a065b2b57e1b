// The Online Certificate Status Protocol (RFC 6960), by OpenSSL: the request that asks for a
// certificate's status, and what a response says of it. Where responses come from is not known
// here.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "crypto/pki/certificate.hpp"

struct ocsp_response_st;

namespace culvert::crypto::pki {

/// Bytes of a response: one signed by RSA-4096 with a delegated responder's certificate has 4000.
inline constexpr std::size_t kMaxOcspBytes = 64U << 10U;
/// Seconds that a responder's clock may be ahead of ours.
inline constexpr std::int64_t kOcspSkew = 300;
/// RFC 6960 §4.2.2.1: without nextUpdate newer information is always available; this many seconds
/// such a response counts.
inline constexpr std::int64_t kOcspWithoutEnd = 600;

/// Where authorityInfoAccess says that a certificate's responder is: http URLs in their order.
[[nodiscard]] std::vector<std::string> ocsp_responders(const Certificate& certificate);
/// The DER of a request without a nonce: its answer may come from a cache (RFC 5019 §2.1).
[[nodiscard]] Result<std::vector<std::uint8_t>> ocsp_request(const Certificate& certificate,
                                                             const Certificate& issuer);
/// What names a certificate and its issuer in requests: the same for both, another for any other.
[[nodiscard]] std::string ocsp_name(const Certificate& certificate, const Certificate& issuer);

struct OcspRules {
  std::int64_t now = 0;           ///< Unix seconds
  std::chrono::seconds grace{0};  ///< that a response counts beyond its nextUpdate
};
/// A status that is signed, current, and about the certificate in question.
struct OcspStatus {
  bool revoked = false;
  std::string what;        ///< "revoked on 2030-01-01 00:00 UTC (keyCompromise)"; empty when good
  std::int64_t until = 0;  ///< the last second that it counts, grace included, Unix time
  std::int64_t this_update = 0;
};

class OcspResponse {
 public:
  /// Only well-formed: whether it counts is `status_of`'s answer.
  [[nodiscard]] static Result<OcspResponse> from_der(Bytes der);
  [[nodiscard]] const std::vector<std::uint8_t>& der() const { return der_; }

  /// What it says of a certificate. The error is a sentence's end, "is for another certificate":
  /// also when the responder does not know it, or the signer may not speak for the issuer (RFC 6960
  /// §4.2.2.2: the issuer itself, or whom it gave id-kp-OCSPSigning).
  [[nodiscard]] Result<OcspStatus> status_of(const Certificate& certificate,
                                             const Certificate& issuer,
                                             const OcspRules& rules) const;

 private:
  std::shared_ptr<ocsp_response_st> response_;
  std::vector<std::uint8_t> der_;
};

}  // namespace culvert::crypto::pki
