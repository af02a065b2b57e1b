// OCSP responses and revocation lists as they come from outside: whatever parses is judged for a
// certificate, and nothing that a stranger made may vouch for it.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>

#include "crypto/pki/ocsp.hpp"
#include "crypto/pki/trust_store.hpp"

using namespace culvert::crypto;

namespace {

constexpr std::size_t kMostBytes = 65536;

void require(bool claim) {
  if (!claim) std::abort();
}

/// A certificate that signed itself, made up for this: nobody has its key, so nothing is signed by
/// it.
const pki::Certificate& certificate() {
  static constexpr char kPem[] = R"(-----BEGIN CERTIFICATE-----
MIIBnzCCAUWgAwIBAgIUJcZZc7RNn2ziyBAdryh5tuLBVr4wCgYIKoZIzj0EAwIw
JDEQMA4GA1UECgwHQ3VsdmVydDEQMA4GA1UEAwwHRnV6eiBDQTAgFw0yNjExMjgx
NzI2MTBaGA8yMTI2MTEwNDE3MjYxMFowJDEQMA4GA1UECgwHQ3VsdmVydDEQMA4G
A1UEAwwHRnV6eiBDQTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABN7tJrOZAqEo
+klCyHBLKejObi/3zh/EzChPYW4FTWg2KDYLoxje3kvrJ9fe9ZrmgTm2p/CyK7Mr
ujP2iO7vq0ujUzBRMB0GA1UdDgQWBBSAbqpMn8vwHIv5xZLTQi+TarmDjzAfBgNV
HSMEGDAWgBSAbqpMn8vwHIv5xZLTQi+TarmDjzAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIQCY2lEz8o7J2LZg+MzxLflUp0+7INgVTHDWkLl5CmR0
uAIgZIynAUs0HmJJSK9r7GIIFvoE61kRD+yEOO2O5zHANKA=
-----END CERTIFICATE-----
)";
  static const pki::Certificate one =
      pki::parse_certificates({reinterpret_cast<const std::uint8_t*>(kPem), sizeof kPem - 1})
          ->front();
  return one;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes(data, std::min(size, kMostBytes));
  if (const auto response = pki::OcspResponse::from_der(bytes)) {
    require(std::ranges::equal(response->der(), bytes));
    for (const std::int64_t now : {std::int64_t{0}, std::int64_t{1893456000}}) {
      const auto status = response->status_of(certificate(), certificate(),
                                              {now, std::chrono::seconds(1) * 4000000000});
      require(!status && !status.error().what.empty());
    }
  }
  if (const auto lists = pki::parse_revocation_lists(bytes)) {
    pki::TrustStore store;
    store.add_authority(certificate());
    store.replace_revocation_lists(*lists);
    static_cast<void>(
        store.validate(certificate(), {}, {1893456000, pki::RevocationPolicy::strict, false}));
  }
  if (const auto parsed = pki::Certificate::from_der(bytes)) {
    static_cast<void>(pki::ocsp_responders(*parsed));
    static_cast<void>(pki::ocsp_name(*parsed, *parsed));
    static_cast<void>(pki::ocsp_request(*parsed, *parsed));
  }
  return 0;
}
