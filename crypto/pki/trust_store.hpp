// Whom we trust, and the path from a peer's certificate to them (RFC 5280 §6, by OpenSSL).
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "crypto/pki/certificate.hpp"

struct X509_crl_st;

namespace culvert::crypto::pki {

/// A certificate revocation list; whether it counts depends on its signature and dates.
class RevocationList {
 public:
  [[nodiscard]] static Result<RevocationList> from_der(Bytes der);
  [[nodiscard]] std::vector<std::uint8_t> der() const;
  [[nodiscard]] std::string issuer() const;
  [[nodiscard]] std::int64_t this_update() const;                 ///< Unix seconds
  [[nodiscard]] std::optional<std::int64_t> next_update() const;  ///< Unix seconds
  [[nodiscard]] X509_crl_st* handle() const { return crl_.get(); }

 private:
  std::shared_ptr<X509_crl_st> crl_;
};
/// The lists of a file's content: PEM blocks, or one in DER.
[[nodiscard]] Result<std::vector<RevocationList>> parse_revocation_lists(Bytes content);

enum class RevocationPolicy : std::uint8_t {
  strict,        ///< neither a valid list nor a status: refused
  if_available,  ///< neither a valid list nor a status: accepted, with a note
  off,           ///< never asked
};

enum class RejectionReason : std::uint8_t {
  untrusted,      ///< no path to an authority of ours
  not_valid_now,  ///< expired or not yet valid
  revoked,
  revocation_unknown,  ///< strict, and nothing says whether it is revoked
  status_unusable,     ///< the same, and there is a status that does not count
  status_unreachable,  ///< the same, and whoever could tell was not reached
  unsuitable,          ///< a rule of the path: key too weak, name constraints, usage, length, …
};
struct Rejection {
  RejectionReason reason{};
  std::string what;  ///< names the certificate and what it has
};

/// What is known of a certificate beside the lists, by OCSP.
struct StatusAnswer {
  enum class Word : std::uint8_t { nothing, good, revoked, unusable, unreachable };
  Word word = Word::nothing;
  std::string what{};  ///< a sentence, except for nothing and good
};
/// Asked for each certificate of a path. `needed`: no list vouches for it.
using StatusSource = std::function<StatusAnswer(const Certificate& certificate,
                                                const Certificate& issuer, bool needed)>;

struct ValidationRules {
  std::int64_t now = 0;  ///< Unix seconds
  RevocationPolicy revocation = RevocationPolicy::if_available;
  bool check_extended_key_usage = true;  ///< RFC 4945 §5.1.3.12
  std::chrono::seconds grace{0};         ///< that a list counts beyond its nextUpdate
  StatusSource status{};
};
struct ValidPath {
  std::vector<Certificate> certificates;  ///< from the end entity to the authority
  std::vector<std::string> notes;         ///< what was let pass: "no revocation list of CN=…"
};

class TrustStore {
 public:
  void add_authority(Certificate certificate) { authorities_.push_back(std::move(certificate)); }
  /// Helps to find a path, is not trusted.
  void add_intermediate(Certificate certificate) {
    intermediates_.push_back(std::move(certificate));
  }
  void add_revocation_list(RevocationList list) { lists_.push_back(std::move(list)); }
  void replace_revocation_lists(std::vector<RevocationList> lists) { lists_ = std::move(lists); }

  [[nodiscard]] const std::vector<Certificate>& authorities() const { return authorities_; }
  [[nodiscard]] const std::vector<RevocationList>& revocation_lists() const { return lists_; }
  /// Who issued it, by name and key: one of `beside`, an authority or an intermediate.
  [[nodiscard]] const Certificate* find_issuer(const Certificate& certificate,
                                               std::span<const Certificate> beside) const;
  /// Whether one of them, an intermediate included, signed that list in its own name.
  [[nodiscard]] bool has_signed(const RevocationList& list) const;
  /// `intermediates` are the peer's own; they only help to find the path.
  [[nodiscard]] std::expected<ValidPath, Rejection> validate(
      const Certificate& end_entity, std::span<const Certificate> intermediates,
      const ValidationRules& rules) const;

 private:
  std::vector<Certificate> authorities_;
  std::vector<Certificate> intermediates_;
  std::vector<RevocationList> lists_;
};

}  // namespace culvert::crypto::pki
