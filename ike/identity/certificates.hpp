// Certificates, private keys and authorities of a configuration: signs for us, judges peers. Read
// once, before privileges are dropped.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "crypto/pki/private_key.hpp"
#include "crypto/pki/trust_store.hpp"
#include "ike/identity/revocation_fetches.hpp"
#include "ike/identity/status_cache.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

/// The OCSP responses among a peer's CERT payloads (RFC 4806 §3.2).
class PeerStatuses {
 public:
  explicit PeerStatuses(std::span<const wire::ike::Certificate> sent);
  /// Keeps what they say of a certificate. What is wrong with them otherwise, as a sentence's end;
  /// empty when nothing came.
  [[nodiscard]] std::string teach(StatusCache& cache, const crypto::pki::Certificate& certificate,
                                  const crypto::pki::Certificate& issuer, std::int64_t now);

 private:
  struct Sent {
    crypto::pki::OcspResponse response;
    bool used = false;  ///< it was for a certificate
  };
  std::vector<Sent> responses_;
  std::string problem_;
};

/// What is asked while a path is judged, and what came with it.
struct Inquiry {
  explicit Inquiry(std::span<const wire::ike::Certificate> certificates) : sent(certificates) {}
  PeerStatuses sent;
  std::string awaits;          ///< the fetch that will tell; empty: none
  std::int64_t ask_again = 0;  ///< when a responder is asked again, Unix time; 0: never
};

class Certificates final : public SignatureSource {
 public:
  /// The calendar: Unix seconds.
  using Calendar = std::function<std::int64_t()>;

  explicit Certificates(const config::Pki& rules, Calendar calendar = system_calendar());
  [[nodiscard]] static Calendar system_calendar();

  /// Reads every file that the configuration names. The error is a sentence with the file.
  [[nodiscard]] static std::expected<std::unique_ptr<Certificates>, std::string> load(
      const config::Config& configuration);

  /// What connections with this `certificate` path send: end entity, then intermediates.
  void add_own(std::string path, std::vector<crypto::pki::Certificate> chain);
  void add_private_key(crypto::pki::PrivateKey key) { keys_.push_back(std::move(key)); }
  [[nodiscard]] crypto::pki::TrustStore& trust() { return trust_; }

  [[nodiscard]] std::expected<Proof, Problem> sign(
      const config::Connection& connection,
      std::optional<std::span<const std::uint16_t>> peer_hashes, wire::Bytes octets) const override;
  [[nodiscard]] std::expected<Verified, Problem> verify(const Claim& claim) const override;
  [[nodiscard]] std::expected<std::chrono::seconds, Problem> still_valid(
      const config::Identity& identity,
      std::span<const wire::ike::Certificate> certificates) const override;
  [[nodiscard]] std::vector<std::uint8_t> authority_hashes() const override;
  [[nodiscard]] bool wants_statuses() const override { return rules_.ocsp != config::Ocsp::off; }
  [[nodiscard]] std::string trust_text() const override;
  [[nodiscard]] StatusCache& statuses() { return *statuses_; }

  /// What an earlier configuration had fetched.
  void inherit(Certificates& former);
  /// From time to time: what has become due, our own certificates' statuses too, for peers that
  /// ask.
  void tick_fetches();
  /// What is to be fetched now.
  [[nodiscard]] std::vector<RevocationFetches::Fetch> due_fetches();
  [[nodiscard]] RevocationFetches::Outcome fetched(std::uint64_t id,
                                                   const RevocationFetches::Result& result);
  [[nodiscard]] const RevocationFetches& fetches() const { return *fetches_; }
  [[nodiscard]] const crypto::pki::TrustStore& trusted() const { return trust_; }
  [[nodiscard]] const config::Pki& rules() const { return rules_; }

  /// Reads the revocation lists again whose files have changed since. A file that cannot be read
  /// leaves its former lists in force.
  struct Refresh {
    bool changed = false;
    std::size_t lists = 0;  ///< in force now
    std::vector<std::string> problems;
  };
  [[nodiscard]] Refresh refresh_revocation_lists();

  /// For expiry metrics and warnings.
  struct Loaded {
    std::string file;
    std::string kind;  ///< "own", "authority", "intermediate"
    std::string subject;
    std::int64_t not_after = 0;  ///< Unix seconds
  };
  [[nodiscard]] const std::vector<Loaded>& loaded() const { return loaded_; }
  void note_loaded(const std::string& file, std::string kind,
                   const crypto::pki::Certificate& certificate);

 private:
  struct Own {
    std::string path;
    std::vector<crypto::pki::Certificate> chain;
  };
  struct RevocationFile {
    std::string path;
    std::filesystem::file_time_type written{};
    std::vector<crypto::pki::RevocationList> lists;
  };
  [[nodiscard]] const crypto::pki::PrivateKey* key_of(
      const crypto::pki::Certificate& certificate) const;

  [[nodiscard]] crypto::pki::ValidationRules rules_at(std::int64_t now, Inquiry& inquiry) const;
  [[nodiscard]] crypto::pki::StatusAnswer status_of(const crypto::pki::Certificate& certificate,
                                                    const crypto::pki::Certificate& issuer,
                                                    bool needed, std::int64_t now,
                                                    Inquiry& inquiry) const;
  void collect_lists();
  [[nodiscard]] std::vector<std::vector<std::uint8_t>> own_statuses(const Own& own) const;

  config::Pki rules_;
  Calendar calendar_;
  std::unique_ptr<StatusCache> statuses_;
  std::unique_ptr<RevocationFetches> fetches_;
  std::vector<Own> own_;
  std::vector<crypto::pki::PrivateKey> keys_;
  crypto::pki::TrustStore trust_;
  std::vector<RevocationFile> revocation_files_;
  std::vector<Loaded> loaded_;
};

}  // namespace culvert::ike
