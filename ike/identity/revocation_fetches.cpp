#include "ike/identity/revocation_fetches.hpp"

#include <algorithm>
#include <limits>

namespace culvert::ike {
namespace {

using crypto::pki::Certificate;
using crypto::pki::OcspResponse;
using crypto::pki::RevocationList;
using crypto::pki::StatusAnswer;

constexpr std::int64_t kListWithoutEnd = 3600;

std::int64_t half_way(std::int64_t now, std::int64_t end, std::int64_t latest) {
  return now + std::clamp((end - now) / 2, RevocationFetches::kSoonest, latest);
}

}  // namespace

RevocationFetches::RevocationFetches(const config::Pki& rules)
    : asks_responders_(rules.ocsp == config::Ocsp::fetch), responder_(rules.ocsp_responder) {
  if (rules.revocation == crypto::pki::RevocationPolicy::off) return;
  for (const std::string& entry : rules.crls) {
    if (config::is_url(entry)) sources_.emplace(entry, Source{true, entry, {}});
  }
}

void RevocationFetches::inherit(RevocationFetches& former) {
  for (auto& [name, source] : former.sources_) {
    const auto here = sources_.find(name);
    if (source.list ? here == sources_.end() : !asks_responders_) continue;
    // What is under way for the former one comes to nobody.
    if (source.step != Source::Step::idle) source.next_at = 0;
    source.step = Source::Step::idle;
    sources_.insert_or_assign(name, std::move(source));
  }
  counters_ = former.counters_;
  last_id_ = former.last_id_;
}

void RevocationFetches::want(const std::string& name, Source& source, std::int64_t now) {
  if (source.step != Source::Step::idle || now < source.next_at) return;
  source.step = Source::Step::wanted;
  wanted_.push_back(name);
}

void RevocationFetches::make_room(std::int64_t now) {
  std::erase_if(sources_, [&](const auto& one) {
    const Source& source = one.second;
    return !source.list && source.step == Source::Step::idle && source.next_at < now;
  });
}

RevocationFetches::Asked RevocationFetches::ask(const Certificate& certificate,
                                                const Certificate& issuer, std::int64_t now) {
  if (!asks_responders_) return {};
  std::string name = crypto::pki::ocsp_name(certificate, issuer);
  auto found = sources_.find(name);
  if (found == sources_.end()) {
    std::string url = responder_;
    if (url.empty()) {
      const auto named = crypto::pki::ocsp_responders(certificate);
      if (named.empty()) return {};
      url = named.front();
    }
    auto body = crypto::pki::ocsp_request(certificate, issuer);
    if (!body || name.empty()) return {};
    if (sources_.size() >= kMostSources) make_room(now);
    if (sources_.size() >= kMostSources) {
      return {{StatusAnswer::Word::unreachable, "too many certificates are asked about"}, "", 0};
    }
    Source source{false, std::move(url), *std::move(body)};
    source.about.emplace(certificate, issuer);
    found = sources_.emplace(std::move(name), std::move(source)).first;
  }
  Source& source = found->second;
  want(found->first, source, now);
  if (source.step != Source::Step::idle) return {{}, found->first, now + kSoonest};
  if (source.problem.empty()) return {{}, "", source.next_at};
  return {{source.unusable ? StatusAnswer::Word::unusable : StatusAnswer::Word::unreachable,
           "the OCSP responder " + source.url + ": " + source.problem},
          "",
          source.next_at};
}

void RevocationFetches::tick(std::int64_t now) {
  for (auto& [name, source] : sources_) {
    // Not statuses: those that nobody asks for are left to end.
    if (source.list) want(name, source, now);
  }
}

std::vector<RevocationFetches::Fetch> RevocationFetches::due() {
  std::vector<Fetch> all;
  while (!wanted_.empty() && under_way_.size() < kMostAtOnce) {
    const std::string name = std::move(wanted_.front());
    wanted_.pop_front();
    const auto found = sources_.find(name);
    if (found == sources_.end() || found->second.step != Source::Step::wanted) continue;
    Source& source = found->second;
    source.step = Source::Step::under_way;
    under_way_.emplace(++last_id_, name);
    all.push_back({last_id_, source.list, source.url, source.body});
  }
  return all;
}

std::expected<void, std::string> RevocationFetches::take_list(
    Source& source, const std::vector<std::uint8_t>& bytes, std::int64_t now,
    const crypto::pki::TrustStore& trust) {
  auto lists = crypto::pki::parse_revocation_lists(bytes);
  if (!lists) return std::unexpected("what came " + lists.error().what);
  std::int64_t newest = 0, end = std::numeric_limits<std::int64_t>::max();
  for (const RevocationList& list : *lists) {
    // Anybody on the way could send another: it must not take the place of one that counts.
    if (!trust.has_signed(list)) {
      return std::unexpected("the list of \"" + list.issuer() +
                             "\" is not signed by an authority or intermediate of pki");
    }
    newest = std::max(newest, list.this_update());
    end = std::min(end, list.next_update().value_or(now + kListWithoutEnd));
  }
  for (const RevocationList& list : source.lists) {
    if (list.this_update() > newest) return std::unexpected("an older list came");
  }
  source.lists = *std::move(lists);
  source.next_update = end;
  source.next_at = half_way(now, end, kLatestList);
  return {};
}

std::expected<void, std::string> RevocationFetches::take_status(
    Source& source, const std::vector<std::uint8_t>& bytes, std::int64_t now, StatusCache& cache) {
  const auto response = OcspResponse::from_der(bytes);
  if (!response) return std::unexpected("what came " + response.error().what);
  const auto& [certificate, issuer] = *source.about;
  const auto learnt = cache.learn(*response, certificate, issuer, now);
  if (!learnt) return std::unexpected("its response " + learnt.error().what);
  source.next_at = half_way(now, cache.until(certificate, issuer), kLatestStatus);
  return {};
}

void RevocationFetches::count(bool list, bool ok) {
  std::uint64_t& counter = list ? (ok ? counters_.lists_ok : counters_.lists_failed)
                                : (ok ? counters_.statuses_ok : counters_.statuses_failed);
  ++counter;
}

RevocationFetches::Outcome RevocationFetches::finished(std::uint64_t id, const Result& result,
                                                       std::int64_t now, StatusCache& cache,
                                                       const crypto::pki::TrustStore& trust) {
  const auto node = under_way_.extract(id);
  if (node.empty()) return {};
  const auto found = sources_.find(node.mapped());
  if (found == sources_.end()) return {};
  Source& source = found->second;
  source.step = Source::Step::idle;
  Outcome outcome{found->first, source.list, false, false, false, source.url, {}};
  const auto taken = !result       ? std::unexpected(result.error())
                     : source.list ? take_list(source, *result, now, trust)
                                   : take_status(source, *result, now, cache);
  count(source.list, taken.has_value());
  if (!taken) {
    outcome.what = taken.error();
    outcome.news = source.problem != taken.error();
    source.problem = taken.error();
    source.unusable = result.has_value();
    source.next_at = now + kRetrySeconds;
    return outcome;
  }
  outcome.ok = true;
  outcome.news = source.list || !source.problem.empty();
  source.problem.clear();
  source.fetched = now;
  if (source.list) {
    outcome.what = std::to_string(source.lists.size()) + " list(s), the next update by " +
                   crypto::pki::date_text(source.next_update);
    outcome.revokes = true;
  } else {
    const auto answer = cache.status_of(source.about->first, source.about->second, now);
    outcome.what = answer.what;
    outcome.revokes = answer.word == StatusAnswer::Word::revoked;
    outcome.news = outcome.news || outcome.revokes;
  }
  return outcome;
}

std::vector<RevocationList> RevocationFetches::lists() const {
  std::vector<RevocationList> all;
  for (const auto& [name, source] : sources_) {
    all.insert(all.end(), source.lists.begin(), source.lists.end());
  }
  return all;
}

RevocationFetches::Asked RevocationFetches::first_missing_list() const {
  for (const auto& [name, source] : sources_) {
    if (!source.list || !source.lists.empty()) continue;
    if (source.step != Source::Step::idle && source.problem.empty()) return {{}, name, 0};
    if (source.problem.empty()) continue;
    return {{source.unusable ? StatusAnswer::Word::nothing : StatusAnswer::Word::unreachable,
             "the revocation list " + source.url + ": " + source.problem},
            "",
            0};
  }
  return {};
}

std::vector<RevocationFetches::ListState> RevocationFetches::list_states() const {
  std::vector<ListState> all;
  for (const auto& [name, source] : sources_) {
    if (!source.list) continue;
    all.push_back({source.url, source.problem, source.fetched, source.next_update});
  }
  return all;
}

}  // namespace culvert::ike
