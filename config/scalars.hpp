// Words to values: numbers, durations, sizes, names, addresses, selectors. Each reader returns
// nullopt when the field is absent, and nullopt after an error when it is wrong.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "config/field.hpp"
#include "wire/arp.hpp"
#include "wire/ip_address.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::config {

/// A number's bounds, both included, and its unit in words ("bytes", or empty).
struct Bounds {
  std::uint64_t least = 0;
  std::uint64_t most = 0;
  std::string_view unit;
};

/// A scalar as it stands; `expected` is what the message says when a list or map stands there.
std::optional<std::string> read_text(const Field& field, std::string_view expected);
/// Decimal or 0x hexadecimal.
std::optional<std::uint64_t> read_number(const Field& field, const Bounds& bounds);
std::optional<bool> read_boolean(const Field& field);
/// "30s", "4h", "1d", "90m"; 0 is allowed without a unit. At most limits::kTimeMax.
std::optional<std::chrono::seconds> read_duration(const Field& field);
/// "64GiB", "500MB", "1500B" or plain bytes.
std::optional<std::uint64_t> read_size(const Field& field);
/// Letters, digits, '.', '_' and '-', beginning with a letter or digit.
std::optional<std::string> read_name(const Field& field, std::size_t longest);

std::optional<wire::IpAddress> read_address(const Field& field);
/// "02:00:00:00:00:01", one neighbour's: no group address, not all zeroes.
std::optional<wire::MacAddress> read_mac(const Field& field);
/// A prefix whose host bits stay, as an interface address has them.
std::optional<wire::Prefix> read_interface_address(const Field& field);
/// A prefix without host bits.
std::optional<wire::Prefix> read_network(const Field& field);
std::optional<wire::TrafficSelector> read_selector(const Field& field);
/// "127.0.0.1:9464", "[::1]:9464"
std::optional<wire::Endpoint> read_endpoint(const Field& field);

/// One word of a closed set.
template <typename Value>
struct Word {
  std::string_view text;
  Value value;
};
/// Reports a word that is not in the set.
void report_choice(const Field& field, std::string_view word,
                   std::span<const std::string_view> words);

template <typename Value, std::size_t N>
std::optional<Value> read_choice(const Field& field, const std::array<Word<Value>, N>& words) {
  std::array<std::string_view, N> texts;
  for (std::size_t index = 0; index < N; ++index) texts[index] = words[index].text;
  const auto text = read_text(field, alternatives(texts));
  if (!text) return std::nullopt;
  for (const Word<Value>& word : words) {
    if (word.text == *text) return word.value;
  }
  report_choice(field, *text, texts);
  return std::nullopt;
}

}  // namespace culvert::config
