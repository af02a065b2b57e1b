#include "tests/unit/dataplane/chaos/traffic.hpp"

#include <algorithm>

#include "tests/unit/dataplane/chaos/changes.hpp"
#include "wire/esp.hpp"

namespace culvert::test {

using namespace dataplane;

namespace {

constexpr std::size_t kIp = 14, kEsp = kIp + 20, kIv = kEsp + 8, kText = kIv + 8;
constexpr std::size_t kIcvBytes = 16, kData = 20 + 8;
constexpr std::uint32_t kClear = 0;  ///< in the place of an SPI: came unprotected

/// UDP whose data says by which inbound SA it comes, if by any.
Packet packet(const std::string& source, const std::string& destination, std::uint32_t port,
              std::uint32_t spi, std::size_t bytes) {
  Packet data(4 + bytes, 0x5a);
  wire::store_u32(data.data(), spi);
  return ip_packet({.source = source,
                    .destination = destination,
                    .payload = udp(static_cast<std::uint16_t>(1000 + port), 2000, data)});
}
std::uint32_t address_at(const Packet& bytes, std::size_t at) { return wire::load_u32(&bytes[at]); }
/// The n of 10.`second`.n.x, kChildren when it is none.
std::uint32_t child_of(std::uint32_t address, std::uint32_t second) {
  const std::uint32_t child = address >> 8U & 0xffU;
  return address >> 16U == (10U << 8U | second) && child < kChildren ? child : kChildren;
}

crypto::esp::Operation operation(const KnownSa& sa, Packet& frame, std::uint8_t* nonce,
                                 std::uint8_t* aad, std::uint8_t* icv) {
  const auto salt = sa.spec.key.view().last(4);
  std::copy(salt.begin(), salt.end(), nonce);
  std::copy_n(&frame[kIv], 8, nonce + 4);
  std::copy_n(&frame[kEsp], 8, aad);
  const auto text_bytes = static_cast<std::uint32_t>(frame.size() - kText - kIcvBytes);
  return {sa.key.get(), &frame[kText], nonce, aad, icv, text_bytes, 8};
}

}  // namespace

// ---- what comes ----

std::vector<Packet> Traffic::from_clients() {
  std::vector<Packet> frames;
  for (std::uint32_t number = 16 + below(48); number > 0; --number) {
    const std::uint32_t child = below(kChildren), kind = below(10), host = 1 + below(250);
    std::string destination = text_of("10.77.0.", host, "");  // nobody's
    if (kind < 7) destination = text_of("10.2.", child, ".") + std::to_string(host);
    if (kind == 7 || kind == 8) destination = text_of("10.9.", child, ".") + std::to_string(host);
    frames.push_back(
        frame(packet("10.1.0.9", destination, below(16), kClear, std::size_t{16} * below(20))));
  }
  return frames;
}

std::vector<Packet> Traffic::from_peers() {
  std::vector<Packet> frames;
  const auto sas = known_.inbound();
  for (std::uint32_t number = 8 + below(40); number > 0 && !sas.empty(); --number) {
    const KnownSa& sa = *sas[below(static_cast<std::uint32_t>(sas.size()))];
    // Some claim to come from what another child's SA protects.
    const std::uint32_t child = below(16) == 0 ? (sa.child + 1) % kChildren : sa.child;
    const std::uint32_t spi = child == sa.child ? static_cast<std::uint32_t>(sa.spec.spi) : kClear;
    frames.push_back(sealed_for(
        sa, packet(text_of("10.2.", child, ".7"), "10.1.0.9", below(4), spi, 16U * below(20))));
  }
  for (std::uint32_t child = 0; child < kChildren; ++child) {
    const char* const network = below(2) == 0 ? "10.2." : "10.9.";
    frames.push_back(
        frame(packet(text_of(network, child, ".7"), "10.1.0.9", below(4), kClear, 64)));
  }
  return frames;
}

Packet Traffic::sealed_for(const KnownSa& sa, const Packet& inner) {
  Packet text = inner;
  const std::size_t padding = wire::esp::padding_for(text.size());
  for (std::size_t i = 1; i <= padding; ++i) text.push_back(static_cast<std::uint8_t>(i));
  text.push_back(static_cast<std::uint8_t>(padding));
  text.push_back(4);  // IPv4
  const std::uint32_t sequence = ++sent_[sa.spec.spi];
  Packet esp(8 + 8);
  wire::store_u32(&esp[0], static_cast<std::uint32_t>(sa.spec.spi));
  wire::store_u32(&esp[4], sequence);
  wire::store_u64(&esp[8], sequence);
  esp.insert(esp.end(), text.begin(), text.end());
  esp.resize(esp.size() + kIcvBytes);
  Packet whole = frame(ip_packet({.source = sa.spec.remote.address.to_string(),
                                  .destination = sa.spec.local.address.to_string(),
                                  .protocol = 50,
                                  .payload = esp}));
  alignas(16) std::uint8_t nonce[16] = {}, aad[16] = {};
  const auto sealing = operation(sa, whole, nonce, aad, &whole[whole.size() - kIcvBytes]);
  gateway_.context().engine->seal(sa.spec.suite, std::span(&sealing, 1));
  return whole;
}

void Traffic::turn() {
  const std::uint64_t turn = known_.begin_turn();
  for (const PortId port : {kLan, kWan}) {
    const auto frames = port == kLan ? from_clients() : from_peers();
    given += frames.size();
    Result result = gateway_.receive(port, frames);
    // While policies have just changed a worker takes less than there is. The ports are looped:
    // what it left stands in front of what it sent, byte for byte as it was given.
    auto& looped = port == kLan ? result.lan : result.wan;
    const auto sent = std::ranges::find_if(looped, [&](const Packet& frame) {
      return std::ranges::find(frames, frame) == frames.end();
    });
    given -= static_cast<std::uint64_t>(sent - looped.begin());
    looped.erase(looped.begin(), sent);
    judge(turn, result);
  }
}

// ---- what leaves ----

void Traffic::judge(std::uint64_t turn, const Result& result) {
  const auto note = [&](const std::string& where, const std::string& why) {
    if (!why.empty()) ++violations_[where + why];
  };
  for (const Packet& frame : result.wan) note("WAN: ", why_not_on_wan(turn, frame));
  for (const Packet& frame : result.lan) note("LAN: ", why_not_on_lan(turn, frame));
  punted += result.punts.size();
  for (const auto& [reason, count] : result.drops) dropped += count;
}

std::string Traffic::why_not_on_wan(std::uint64_t turn, const Packet& frame) {
  if (frame.size() < kIp + kData + 4) return "too short for anything";
  if (frame[kIp + 9] == 50) return why_not_sealed(turn, frame);
  const std::uint32_t child = child_of(address_at(frame, kIp + 16), 9);
  if (child == kChildren) return "in clear";
  ++bypassed;
  return known_.holds(Known::bypass, child, turn) ? "" : "bypassed without a policy";
}

std::string Traffic::why_not_sealed(std::uint64_t turn, Packet frame) {
  const KnownSa* const sa = known_.find(channel::Direction::out, address_at(frame, kEsp));
  if (sa == nullptr) return "ESP of no SA";
  if (frame.size() < kText + kData + kIcvBytes) return "ESP too short";
  alignas(16) std::uint8_t nonce[16] = {}, aad[16] = {}, icv[crypto::esp::kMaxIcvBytes] = {};
  const auto opening = operation(*sa, frame, nonce, aad, icv);
  gateway_.context().engine->open(sa->spec.suite, std::span(&opening, 1));
  if (!std::equal(icv, icv + kIcvBytes, frame.end() - kIcvBytes)) return "sealed with another key";
  ++sealed;
  if (child_of(address_at(frame, kText + 16), 2) != sa->child) return "in another child's SA";
  if (address_at(frame, kIp + 16) != sa->spec.remote.address.v4_host()) return "to another peer";
  const bool is_one_address = std::all_of(frame.begin(), frame.begin() + 12,
                                          [&](std::uint8_t byte) { return byte == frame[0]; });
  if (!is_one_address) return "to halves of two neighbours";
  if (!known_.holds(*sa, turn)) return "by an SA that is gone";
  if (!known_.holds(Known::protect, sa->child, turn)) return "sealed without a policy";
  if (!known_.holds(Known::route, sa->child, turn)) return "sent without a route";
  return "";
}

std::string Traffic::why_not_on_lan(std::uint64_t turn, const Packet& frame) {
  if (frame.size() < kIp + kData + 4) return "too short for anything";
  const std::uint32_t source = address_at(frame, kIp + 12), spi = address_at(frame, kIp + kData);
  if (const std::uint32_t child = child_of(source, 9); child != kChildren) {
    ++bypassed;
    return known_.holds(Known::bypass, child, turn) ? "" : "bypassed without a policy";
  }
  if (spi == kClear) return "in clear, or by another child's SA";
  const KnownSa* const sa = known_.find(channel::Direction::in, spi);
  if (sa == nullptr || child_of(source, 2) != sa->child)
    return "by an SA that it was not sealed for";
  ++opened;
  return known_.holds(*sa, turn) ? "" : "by an SA that is gone";
}

}  // namespace culvert::test
