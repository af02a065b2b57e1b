#include "ike/identity/status_cache.hpp"

#include <algorithm>
#include <utility>

namespace culvert::ike {

using crypto::pki::Certificate;
using crypto::pki::OcspResponse;
using crypto::pki::StatusAnswer;

crypto::pki::Result<void> StatusCache::learn(const OcspResponse& response,
                                             const Certificate& certificate,
                                             const Certificate& issuer, std::int64_t now) {
  auto status = response.status_of(certificate, issuer, {now, grace_});
  if (!status) return std::unexpected(status.error());
  std::string name = crypto::pki::ocsp_name(certificate, issuer);
  const auto known = entries_.find(name);
  if (known != entries_.end()) {
    // An older one that says good must not undo a newer one that says revoked.
    if (status->this_update < known->second.status.this_update) return {};
    known->second = {response.der(), *std::move(status)};
    return {};
  }
  if (entries_.size() >= kMostEntries) make_room(now);
  entries_.emplace(std::move(name), Entry{response.der(), *std::move(status)});
  return {};
}

/// What is over goes first, then whatever ends soonest.
void StatusCache::make_room(std::int64_t now) {
  std::erase_if(entries_, [&](const auto& one) { return one.second.status.until < now; });
  if (entries_.size() < kMostEntries) return;
  entries_.erase(std::ranges::min_element(entries_, {},
                                          [](const auto& one) { return one.second.status.until; }));
}

const StatusCache::Entry* StatusCache::current(const Certificate& certificate,
                                               const Certificate& issuer, std::int64_t now) const {
  const auto found = entries_.find(crypto::pki::ocsp_name(certificate, issuer));
  if (found == entries_.end() || found->second.status.until < now) return nullptr;
  return &found->second;
}

StatusAnswer StatusCache::status_of(const Certificate& certificate, const Certificate& issuer,
                                    std::int64_t now) const {
  const Entry* entry = current(certificate, issuer, now);
  if (entry == nullptr) return {};
  if (!entry->status.revoked) return {StatusAnswer::Word::good};
  return {StatusAnswer::Word::revoked, "\"" + certificate.subject() + "\" was " +
                                           entry->status.what + ", by OCSP of \"" +
                                           issuer.subject() + "\""};
}

std::int64_t StatusCache::until(const Certificate& certificate, const Certificate& issuer) const {
  const auto found = entries_.find(crypto::pki::ocsp_name(certificate, issuer));
  return found == entries_.end() ? 0 : found->second.status.until - grace_.count();
}

const std::vector<std::uint8_t>* StatusCache::response_for(const Certificate& certificate,
                                                           const Certificate& issuer,
                                                           std::int64_t now) const {
  const Entry* entry = current(certificate, issuer, now);
  return entry == nullptr ? nullptr : &entry->response;
}

}  // namespace culvert::ike
