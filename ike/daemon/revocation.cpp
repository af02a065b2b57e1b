// How the daemon learns of revocations: files that change, and what culvert-fetch brings.
#include <algorithm>

#include "ike/daemon/daemon.hpp"
#include "runtime/log.hpp"

namespace culvert::ike {
namespace {

using namespace std::chrono_literals;

constexpr auto kRevocationInterval = 5s;
constexpr std::uint32_t kListMilliseconds = 30'000;
/// Less than a handshake waits (Tuning::status_wait).
constexpr std::uint32_t kStatusMilliseconds = 4'000;

}  // namespace

void Daemon::use_fetch_helper(channel::Descriptor socket) {
  fetcher_ = std::make_unique<Fetcher>(
      loop_, std::move(socket),
      [this](std::uint64_t id, const Fetcher::Result& result) { fetched(id, result); });
}

void Daemon::warn_of_revocation() {
  const config::Pki& rules = certificates_.rules();
  const bool nothing = rules.crls.empty() && rules.ocsp == config::Ocsp::off;
  const bool off = rules.revocation == crypto::pki::RevocationPolicy::off;
  const bool asked = std::ranges::any_of(configuration_->connections, [](const auto& one) {
    return one.remote.auth == config::AuthMethod::pubkey;
  });
  if (!asked || (!off && !nothing)) return;
  runtime::log(runtime::Level::warning, "revocation_not_looked_at",
               {{"why", off ? "pki.revocation is off" : "pki has neither crls nor ocsp"},
                {"effect", "revoked certificates are accepted"},
                {"remedy", "write revocation: strict or if-available, and crls or ocsp"}});
}

void Daemon::fetch_due() {
  for (RevocationFetches::Fetch& due : certificates_.due_fetches()) {
    fetch::Request request;
    request.id = due.id;
    request.most_bytes = due.list ? fetch::kMostListBytes : fetch::kMostStatusBytes;
    request.most_milliseconds = due.list ? kListMilliseconds : kStatusMilliseconds;
    request.url = std::move(due.url);
    request.body = std::move(due.body);
    if (fetcher_ != nullptr) fetcher_->send(request);
  }
}

void Daemon::fetched(std::uint64_t id, const Fetcher::Result& result) {
  const auto outcome = certificates_.fetched(id, result);
  if (outcome.name.empty()) return;
  if (outcome.news) {
    const std::string kind = outcome.list ? "revocation_list" : "ocsp_response";
    if (outcome.ok) {
      runtime::log(runtime::Level::info, kind + "_fetched",
                   {{"url", outcome.url}, {"what", outcome.what}});
    } else {
      runtime::log(runtime::Level::warning, kind + "_not_fetched",
                   {{"url", outcome.url},
                    {"why", outcome.what},
                    {"effect", "what was fetched before counts until its end"}});
    }
  }
  machine_->on_status(outcome.name, runtime::now(), actions_);
  if (outcome.revokes) machine_->recheck_certificates(runtime::now(), actions_);
  carry_out();
}

void Daemon::refresh_revocation_lists() {
  const auto refresh = certificates_.refresh_revocation_lists();
  if (refresh.changed) {
    runtime::log(runtime::Level::info, "revocation_lists_read", {{"lists", refresh.lists}});
  }
  for (const std::string& problem : refresh.problems) {
    runtime::log(runtime::Level::warning, "revocation_list_unreadable",
                 {{"why", problem}, {"effect", "its former content stays in force"}});
  }
  certificates_.tick_fetches();
  fetch_due();
  if (refresh.changed && machine_ != nullptr) {
    machine_->recheck_certificates(runtime::now(), actions_);
    carry_out();
  }
  loop_.set_timer(runtime::now() + kRevocationInterval, [this] { refresh_revocation_lists(); });
}

}  // namespace culvert::ike
