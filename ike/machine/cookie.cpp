// Cookies against half-open floods: nothing is kept until the initiator has shown that it receives
// at its address (RFC 7296 §2.6).
#include <array>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using crypto::Bytes;
using wire::ike::NotifyType;

/// A cookie is good for one to two of these.
constexpr std::chrono::seconds kCookieLife{60};

}  // namespace

Octets Core::cookie_for(std::uint32_t version, Bytes secret, const wire::ike::Message& message,
                        const wire::Endpoint& remote) {
  // RFC 7296 §2.6: Cookie = <version of secret> | Hash(Ni | IPi | SPIi | secret).
  const auto* nonce = find_payload<wire::ike::Nonce>(message.payloads);
  const auto spi = octets_of(message.header.initiator_spi);
  const std::array<Bytes, 4> pieces{nonce != nullptr ? Bytes(nonce->data) : Bytes{},
                                    remote.address.view(), spi, secret};
  const auto hash = crypto::ike::sha256(pieces);
  Octets cookie(4 + hash.size());
  wire::Writer writer(cookie);
  writer.u32(version);
  writer.bytes(hash);
  return cookie;
}

/// It has a cookie that we made for it lately.
bool Core::cookie_is_ours(const wire::ike::Message& message, const wire::Endpoint& remote) {
  const auto* sent = find_notify(message.payloads, NotifyType::cookie);
  if (sent == nullptr || cookie_secret_.empty()) return false;
  const auto is = [&](std::uint32_t version, Bytes secret) {
    return crypto::equal_constant_time(sent->data, cookie_for(version, secret, message, remote));
  };
  return is(cookie_version_, cookie_secret_.view()) ||
         (!previous_cookie_secret_.empty() &&
          is(cookie_version_ - 1, previous_cookie_secret_.view()));
}

bool Core::cookie_satisfied(const wire::ike::Message& message, const wire::Endpoint& local,
                            const wire::Endpoint& remote) {
  if (half_open_.size() < tuning_.half_open_cookie_threshold) return true;
  if (cookie_secret_.empty() || now_ - cookie_made_ >= kCookieLife) {
    // After two lives the last secret is stale as well.
    const bool stale = cookie_secret_.empty() || now_ - cookie_made_ >= 2 * kCookieLife;
    previous_cookie_secret_ = stale ? crypto::SecretBytes{} : std::move(cookie_secret_);
    cookie_secret_ = crypto::SecretBytes(std::size_t{32});
    environment_.random->fill(cookie_secret_.span());
    ++cookie_version_;
    cookie_made_ = now_;
  }
  if (cookie_is_ours(message, remote)) return true;
  ++counters_.cookies_sent;
  const Octets cookie = cookie_for(cookie_version_, cookie_secret_.view(), message, remote);
  refuse_init(message.header, {NotifyType::cookie, Failure::temporary_failure, "", cookie}, local,
              remote);
  return false;
}

}  // namespace culvert::ike
