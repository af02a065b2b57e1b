#include "wire/ip_address.hpp"

#include <algorithm>
#include <charconv>

#include <arpa/inet.h>

namespace culvert::wire {
namespace {

IpAddress with_host_bits(const Prefix& prefix, std::uint8_t fill) {
  IpAddress result = prefix.address;
  for (std::size_t index = 0; index < result.size(); ++index) {
    const auto bits_before = static_cast<int>(index) * 8;
    const int kept = std::clamp(static_cast<int>(prefix.length) - bits_before, 0, 8);
    const auto mask = static_cast<std::uint8_t>(0xff00U >> static_cast<unsigned>(kept));
    result.bytes[index] = static_cast<std::uint8_t>((result.bytes[index] & mask) | (fill & ~mask));
  }
  return result;
}

}  // namespace

IpAddress IpAddress::v4(std::uint32_t host_order) {
  IpAddress result;
  const std::uint32_t raw = Be32{host_order}.raw();
  std::memcpy(result.bytes.data(), &raw, sizeof(raw));
  return result;
}

IpAddress IpAddress::v4(Bytes four_bytes) {
  IpAddress result;
  std::copy_n(four_bytes.begin(), 4, result.bytes.begin());
  return result;
}

IpAddress IpAddress::v6(Bytes sixteen_bytes) {
  IpAddress result{Family::v6, {}};
  std::copy_n(sixteen_bytes.begin(), 16, result.bytes.begin());
  return result;
}

std::uint32_t IpAddress::v4_host() const {
  std::uint32_t raw = 0;
  std::memcpy(&raw, bytes.data(), sizeof(raw));
  return Be32::from_raw(raw).host();
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  // inet_pton would stop at a NUL and take what stands before it.
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  const std::string copy(text);
  IpAddress result;
  if (inet_pton(AF_INET, copy.c_str(), result.bytes.data()) == 1) return result;
  result = {Family::v6, {}};
  if (inet_pton(AF_INET6, copy.c_str(), result.bytes.data()) == 1) return result;
  return std::nullopt;
}

std::string IpAddress::to_string() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes.data(), text.data(), text.size());
  return text.data();
}

IpAddress lowest(Family family) { return {family, {}}; }

IpAddress highest(Family family) {
  IpAddress result{family, {}};
  std::fill_n(result.bytes.begin(), result.size(), std::uint8_t{0xff});
  return result;
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  const auto longest = static_cast<std::uint8_t>(address->size() * 8);
  if (slash == std::string_view::npos) return Prefix{*address, longest};
  const std::string_view digits = text.substr(slash + 1);
  std::uint8_t length = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), length);
  if (error != std::errc{} || end != digits.end() || length > longest) return std::nullopt;
  return Prefix{*address, length};
}

std::string Prefix::to_string() const {
  return address.to_string() + "/" + std::to_string(static_cast<unsigned>(length));
}

IpAddress Prefix::first() const { return with_host_bits(*this, 0x00); }
IpAddress Prefix::last() const { return with_host_bits(*this, 0xff); }

bool Prefix::contains(const IpAddress& candidate) const {
  return candidate.family == address.family && first() <= candidate && candidate <= last();
}

std::string Endpoint::to_string() const {
  const std::string text = address.to_string();
  return (address.is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

}  // namespace culvert::wire
