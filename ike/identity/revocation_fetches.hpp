// Which revocation lists and OCSP responses are to be fetched, when, and what became of it. Pure:
// its owner carries requests out and says what came. An answer counts only by its signature: who
// carried it does not matter.
#pragma once

#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/config.hpp"
#include "crypto/pki/trust_store.hpp"
#include "ike/identity/status_cache.hpp"

namespace culvert::ike {

class RevocationFetches {
 public:
  static constexpr std::size_t kMostAtOnce = 8;
  /// Certificates that responders are asked about.
  static constexpr std::size_t kMostSources = StatusCache::kMostEntries;
  static constexpr std::int64_t kRetrySeconds = 60;
  /// Asked again when half the time to the next update is over, within these.
  static constexpr std::int64_t kSoonest = 60, kLatestList = 4L * 3600, kLatestStatus = 24L * 3600;

  explicit RevocationFetches(const config::Pki& rules);
  /// What an earlier configuration had fetched.
  void inherit(RevocationFetches& former);

  /// What a responder said, if that is over, or will say.
  struct Asked {
    crypto::pki::StatusAnswer answer;
    std::string awaits;        ///< not empty: the name of the fetch that will tell
    std::int64_t next_at = 0;  ///< when it is asked again; 0: nobody can be asked
  };
  [[nodiscard]] Asked ask(const crypto::pki::Certificate& certificate,
                          const crypto::pki::Certificate& issuer, std::int64_t now);

  struct Fetch {
    std::uint64_t id = 0;
    bool list = false;  ///< or a status
    std::string url;
    std::vector<std::uint8_t> body;  ///< of a POST; empty: GET
  };
  /// From time to time: lists whose time has come.
  void tick(std::int64_t now);
  /// What is to be fetched now: what was asked for, lists that are due.
  [[nodiscard]] std::vector<Fetch> due();

  struct Outcome {
    std::string name;  ///< what `awaits` said
    bool list = false, ok = false;
    bool news = false;      ///< worth a line in the log: a list came, or the problem is another one
    bool revokes = false;   ///< lists changed, or a certificate is revoked
    std::string url, what;  ///< what came, or the problem in words
  };
  using Result = std::expected<std::vector<std::uint8_t>, std::string>;
  [[nodiscard]] Outcome finished(std::uint64_t id, const Result& result, std::int64_t now,
                                 StatusCache& cache, const crypto::pki::TrustStore& trust);

  [[nodiscard]] std::vector<crypto::pki::RevocationList> lists() const;
  /// The first list that was never fetched: awaited, or the problem with it in words.
  [[nodiscard]] Asked first_missing_list() const;

  struct ListState {
    std::string url, problem;
    std::int64_t fetched = 0, next_update = 0;  ///< Unix seconds; 0: none
  };
  [[nodiscard]] std::vector<ListState> list_states() const;
  struct Counters {
    std::uint64_t lists_ok = 0, lists_failed = 0, statuses_ok = 0, statuses_failed = 0;
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Source {
    bool list = false;
    std::string url;
    std::vector<std::uint8_t> body;
    std::optional<std::pair<crypto::pki::Certificate, crypto::pki::Certificate>> about{};
    std::vector<crypto::pki::RevocationList> lists{};
    enum class Step : std::uint8_t { idle, wanted, under_way } step = Step::idle;
    std::int64_t next_at = 0, fetched = 0, next_update = 0;
    std::string problem{};
    bool unusable = false;  ///< something came, and it does not count
  };
  void want(const std::string& name, Source& source, std::int64_t now);
  [[nodiscard]] static std::expected<void, std::string> take_list(
      Source& source, const std::vector<std::uint8_t>& bytes, std::int64_t now,
      const crypto::pki::TrustStore& trust);
  [[nodiscard]] static std::expected<void, std::string> take_status(
      Source& source, const std::vector<std::uint8_t>& bytes, std::int64_t now, StatusCache& cache);
  void count(bool list, bool ok);
  void make_room(std::int64_t now);

  bool asks_responders_;
  std::string responder_;
  std::map<std::string, Source> sources_;  ///< lists by URL, statuses by crypto::pki::ocsp_name
  std::deque<std::string> wanted_;
  std::map<std::uint64_t, std::string> under_way_;
  std::uint64_t last_id_ = 0;
  Counters counters_;
};

}  // namespace culvert::ike
