// Identities as operators write them (RFC 7296 §3.5).
#include <algorithm>
#include <charconv>

#include "config/config.hpp"
#include "config/limits.hpp"
#include "crypto/pki/distinguished_name.hpp"

namespace culvert::config {
namespace {

std::optional<std::vector<std::uint8_t>> parse_hex(std::string_view digits) {
  if (digits.empty() || digits.size() % 2 != 0) return std::nullopt;
  std::vector<std::uint8_t> bytes;
  for (std::size_t at = 0; at < digits.size(); at += 2) {
    std::uint8_t byte = 0;
    const char* start = digits.data() + at;
    const auto [end, error] = std::from_chars(start, start + 2, byte, 16);
    if (error != std::errc{} || end != start + 2) return std::nullopt;
    bytes.push_back(byte);
  }
  return bytes;
}

bool is_host_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

bool is_host_name(std::string_view text) {
  return !text.empty() && text.front() != '.' && text.back() != '.' &&
         std::ranges::all_of(text, is_host_name_character);
}

constexpr std::string_view kAnyIdentity = "%any";

}  // namespace

bool is_identity_pattern(std::string_view text) {
  if (text == kAnyIdentity) return true;
  const bool wild = text.starts_with("*.") || text.starts_with("*@");
  return wild && text.size() <= limits::kIdentityBytes && is_host_name(text.substr(2));
}

bool is_identity_of(std::string_view pattern, const Identity& identity) {
  if (pattern == kAnyIdentity) return true;
  if (!is_identity_pattern(pattern)) return false;
  const std::string_view domain = pattern.substr(1);
  const auto type = domain.front() == '@' ? Identity::Type::email : Identity::Type::fqdn;
  const std::string_view name(reinterpret_cast<const char*>(identity.encoded.data()),
                              identity.encoded.size());
  return identity.type == type && name.size() > domain.size() && name.ends_with(domain);
}

bool operator==(const Identity& a, const Identity& b) {
  if (a.type != b.type) return false;
  if (a.encoded == b.encoded) return true;
  return a.type == Identity::Type::dn && crypto::pki::same_distinguished_name(a.encoded, b.encoded);
}

std::optional<Identity> parse_identity(std::string_view text) {
  if (text.empty() || text.size() > limits::kIdentityBytes) return std::nullopt;
  Identity identity{Identity::Type::fqdn, std::string(text), {}};
  if (text.starts_with("@#")) {
    auto bytes = parse_hex(text.substr(2));
    if (!bytes) return std::nullopt;
    identity.type = Identity::Type::key_id;
    identity.encoded = *std::move(bytes);
    return identity;
  }
  if (const auto address = wire::IpAddress::parse(text)) {
    identity.type = address->is_v4() ? Identity::Type::ipv4 : Identity::Type::ipv6;
    identity.encoded.assign(address->view().begin(), address->view().end());
    return identity;
  }
  if (text.find('=') != std::string_view::npos) {
    if (auto der = crypto::pki::parse_distinguished_name(text)) {
      identity.type = Identity::Type::dn;
      identity.encoded = *std::move(der);
      return identity;
    }
  }
  const std::size_t at = text.find('@');
  if (at != std::string_view::npos) {
    const bool one = text.find('@', at + 1) == std::string_view::npos;
    if (!one || at == 0 || !is_host_name(text.substr(at + 1))) return std::nullopt;
    identity.type = Identity::Type::email;
  } else if (!is_host_name(text)) {
    return std::nullopt;
  }
  identity.encoded.assign(text.begin(), text.end());
  return identity;
}

}  // namespace culvert::config
