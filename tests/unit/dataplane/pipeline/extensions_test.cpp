// IPv6 extension headers around ESP in transport mode (RFC 4303 §3.1.1): in front of it, where it
// is put behind all of them, and behind it, where a peer may have them.
#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/forged.hpp"
#include "wire/checksum.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

const std::string kHere = "2001:db8:ff::1", kThere = "2001:db8:ff::2";

/// One extension header; who is chained behind it is filled in later.
struct Extension {
  std::uint8_t type = 0;
  Packet bytes;
};
using Chain = std::vector<Extension>;

/// Padding options only (RFC 8200 §4.2: PadN of 4 octets).
const Extension kHopByHop{0, {0, 0, 1, 4, 0, 0, 0, 0}};
const Extension kDestination{60, {0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}};
/// With one address: of type 2 (RFC 6275 §6.4) or a segment list (RFC 8754 §2).
Extension routing(std::uint8_t type, std::uint8_t segments_left, const std::string& address) {
  Packet bytes{0, 2, type, segments_left, 0, 0, 0, 0};
  const auto parsed = wire::IpAddress::parse(address).value();
  bytes.insert(bytes.end(), parsed.bytes.begin(), parsed.bytes.end());
  return {43, bytes};
}

/// The headers one behind the other, the last of them naming `upper`; and what names the first.
std::pair<std::uint8_t, Packet> linked(const Chain& chain, std::uint8_t upper) {
  Packet all;
  for (std::size_t i = 0; i < chain.size(); ++i) {
    Packet bytes = chain[i].bytes;
    bytes[0] = i + 1 < chain.size() ? chain[i + 1].type : upper;
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return {chain.empty() ? upper : chain[0].type, all};
}

Packet with_chain(const std::string& source, const std::string& destination, const Chain& chain,
                  std::uint8_t upper, const Packet& payload) {
  auto [first, bytes] = linked(chain, upper);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return ip_packet(
      {.source = source, .destination = destination, .protocol = first, .payload = bytes});
}

Packet echo_behind(const Chain& chain, const std::string& source, const std::string& destination) {
  const Packet echo = echo_request(source, destination);
  return with_chain(source, destination, chain, 58, Packet(echo.begin() + 40, echo.end()));
}

std::size_t bytes_of(const Chain& chain) { return linked(chain, 0).second.size(); }

/// What a receiver does (RFC 8200 §8.1): the sum over the pseudo-header and the datagram is zero,
/// and the field is not, for "IPv6 receivers must discard UDP packets containing a zero checksum".
bool udp_checksum_is_right(const Packet& ip, std::size_t udp_at, const std::string& destination) {
  const wire::Bytes udp = wire::Bytes(ip).subspan(udp_at);
  if (wire::load_u16(udp.data() + 6) == 0) return false;
  wire::ChecksumSum sum;
  sum.add_pseudo_header(wire::IpAddress::v6(wire::Bytes(ip).subspan(8, 16)),
                        wire::IpAddress::parse(destination).value(), 17,
                        static_cast<std::uint32_t>(udp.size()));
  sum.add(udp);
  return sum.finish() == 0;
}

SaOptions between(bool in_udp, channel::SaMode mode = channel::SaMode::transport) {
  SaOptions options;
  options.mode = mode;
  options.udp = in_udp;
  options.outer_local = kHere;
  options.outer_remote = kThere;
  options.local_selectors = {kHere + "/128"};
  options.remote_selectors = {kThere + "/128"};
  return options;
}

/// Two hosts with an SA each way.
struct Hosts {
  Gateway left, right{mirrored()};
  SlotIndex there{}, back{};

  explicit Hosts(const SaOptions& options) {
    SaOptions reverse = options;
    std::swap(reverse.outer_local, reverse.outer_remote);
    std::swap(reverse.local_selectors, reverse.remote_selectors);
    there = left.install(outbound_sa(options, 0x1000));
    right.install(inbound_sa(options, 0x1000));
    back = right.install(outbound_sa(reverse, 0x3000));
    left.install(inbound_sa(reverse, 0x3000));
    left.protect(options.local_selectors[0], options.remote_selectors[0], there);
    right.protect(reverse.local_selectors[0], reverse.remote_selectors[0], back);
  }
  Result send(const Packet& packet) {
    return left.inject(packet, {InjectKind::outbound_local, kWan, false});
  }
};

/// What a peer sends that has more under the encryption than one upper layer: an ESP packet by the
/// SA in `slot`, with `text` sealed behind `chain`.
Packet sealed_by_hand(Gateway& gateway, SlotIndex slot, const Chain& chain, Packet text) {
  OutboundSa& sa = *gateway.tables().sad->outbound(slot);
  const std::uint64_t sequence = sa.sequence.load() + 1;
  sa.sequence.store(sequence);
  Packet esp(16);
  wire::store_raw(esp.data(), sa.outer().spi);
  wire::store_u32(&esp[4], static_cast<std::uint32_t>(sequence));
  wire::store_u64(&esp[8], sequence);
  alignas(16) std::uint8_t nonce[16] = {}, aad[16] = {};
  wire::store_raw(nonce, sa.outer().salt);
  std::copy_n(&esp[8], 8, nonce + 4);
  std::copy_n(&esp[0], 8, aad);
  const std::size_t text_bytes = text.size();
  text.resize(text_bytes + 16);
  const crypto::esp::Operation operation{sa.key,
                                         text.data(),
                                         nonce,
                                         aad,
                                         text.data() + text_bytes,
                                         static_cast<std::uint32_t>(text_bytes),
                                         8};
  gateway.context().engine->seal(sa.details->suite, std::span(&operation, 1));
  esp.insert(esp.end(), text.begin(), text.end());
  const SaEndpoints& outer = sa.details->outer();
  const std::string here = outer.local.address.to_string(),
                    there = outer.remote.address.to_string();
  if (sa.outer().udp_bytes == 0) return with_chain(here, there, chain, 50, esp);
  return with_chain(here, there, chain, 17, udp(4500, 4500, esp));
}

const std::vector<Chain>& chains() {
  static const std::vector<Chain> all{{},
                                      {kHopByHop},
                                      {kDestination},
                                      {routing(2, 0, kThere)},
                                      {kHopByHop, kDestination, routing(4, 0, kThere)},
                                      {kHopByHop, routing(2, 0, kThere), kDestination}};
  return all;
}

}  // namespace

TEST_CASE("extensions: ESP in UDP behind them has a checksum (RFC 8200 §8.1)") {
  const Chain chain = GENERATE(from_range(chains()));
  Hosts hosts(between(true));
  const Result sealed = hosts.send(echo_behind(chain, kHere, kThere));
  REQUIRE(sealed.wan.size() == 1);
  const Packet outer = ip_of(sealed.wan[0]);
  const auto header = wire::parse_ip(outer);
  REQUIRE(header.has_value());
  CHECK(header->protocol == 17);
  CHECK(header->payload_offset == 40 + bytes_of(chain));
  CHECK(udp_checksum_is_right(outer, header->payload_offset, kThere));
}

TEST_CASE("extensions: the checksum is over the final destination (RFC 8200 §8.1)") {
  const std::string kFinal = "2001:db8:2::77";
  const std::uint8_t type = GENERATE(std::uint8_t{2}, std::uint8_t{4});
  Hosts hosts(between(true));
  const Result sealed = hosts.send(echo_behind({routing(type, 1, kFinal)}, kHere, kThere));
  REQUIRE(sealed.wan.size() == 1);
  CHECK(udp_checksum_is_right(ip_of(sealed.wan[0]), 64, kFinal));
}

TEST_CASE("extensions: in tunnel mode they are inside, and the outer checksum is right") {
  const Chain chain = GENERATE(from_range(chains()));
  SaOptions options = between(true, channel::SaMode::tunnel);
  options.local_selectors = {"2001:db8:1::/64"};
  options.remote_selectors = {"2001:db8:2::/64"};
  Hosts hosts(options);
  const Packet sent = echo_behind(chain, "2001:db8:1::9", "2001:db8:2::7");
  const Result sealed = hosts.left.receive(kLan, frame(sent));
  REQUIRE(sealed.wan.size() == 1);
  const Packet outer = ip_of(sealed.wan[0]);
  CHECK(outer[6] == 17);
  CHECK(udp_checksum_is_right(outer, 40, kThere));
  const Result opened = hosts.right.receive(kWan, sealed.wan[0]);
  REQUIRE(opened.lan.size() == 1);
  const Packet arrived = ip_of(opened.lan[0]);
  CHECK(Packet(arrived.begin() + 40, arrived.end()) == Packet(sent.begin() + 40, sent.end()));
}

TEST_CASE("extensions: in a burst only UDP over IPv6 gets a checksum, each its own") {
  Hosts plain(between(false));
  Gateway& gateway = plain.left;
  SaOptions in_udp = between(true, channel::SaMode::tunnel), over_v4;
  in_udp.local_selectors = {"2001:db8:1::/64"};
  in_udp.remote_selectors = {"2001:db8:2::/64"};
  over_v4.udp = true;
  gateway.protect("2001:db8:1::/64", "2001:db8:2::/64", gateway.install(outbound_sa(in_udp, 1001)));
  gateway.protect("10.1.0.0/24", "10.2.0.0/16", gateway.install(outbound_sa(over_v4, 1002)));
  std::vector<Packet> frames;
  for (int i = 0; i < 30; ++i) {
    frames.push_back(
        frame(i % 3 == 0 ? ip_packet({}) : echo_behind({}, "2001:db8:1::9", "2001:db8:2::7")));
  }
  const Result sealed = gateway.receive(kLan, frames);
  REQUIRE(sealed.wan.size() == 30);
  for (const Packet& each : sealed.wan) {
    const Packet outer = ip_of(each);
    if (wire::is_v4(outer.data())) {
      CHECK(wire::load_u16(&outer[26]) == 0);  // RFC 3948 §2.1
    } else {
      CHECK(udp_checksum_is_right(outer, 40, kThere));
    }
  }
}

TEST_CASE("extensions: in front of ESP they pass there and back (RFC 4303 §3.1.1)") {
  const Chain chain = GENERATE(from_range(chains()));
  const bool in_udp = GENERATE(false, true);
  INFO(bytes_of(chain) << " bytes in front, UDP " << in_udp);
  Hosts hosts(between(in_udp));
  const Result sealed = hosts.send(echo_behind(chain, kHere, kThere));
  REQUIRE(sealed.wan.size() == 1);
  const auto outer = wire::parse_ip(ip_of(sealed.wan[0]));
  REQUIRE(outer.has_value());
  CHECK(outer->protocol == (in_udp ? 17 : 50));

  // Answered where it stands, so the answer has the same headers in front; none when one is a
  // Routing header.
  const Result answered = hosts.right.receive(kWan, sealed.wan[0]);
  CHECK(answered.drops.empty());
  REQUIRE(answered.wan.size() == 1);
  const auto back = wire::parse_ip(ip_of(answered.wan[0]));
  REQUIRE(back.has_value());
  CHECK(back->protocol == (in_udp ? 17 : 50));
  const bool is_left = std::ranges::any_of(chain, [](const auto& one) { return one.type == 43; });
  CHECK(back->payload_offset == 40 + (is_left ? 0 : bytes_of(chain)));

  // Nobody here waits for a reply: that it was one says that all of it was read.
  const Result arrived = hosts.left.receive(kWan, answered.wan[0]);
  CHECK(arrived.drops == std::map<DropReason, std::uint64_t>{{DropReason::icmp_ignored, 1}});
}

TEST_CASE("extensions: behind ESP they are found under the encryption (RFC 4303 §3.1.1)") {
  const Chain in_front = GENERATE(Chain{}, Chain{kHopByHop}, Chain{kHopByHop, kDestination});
  const Chain behind = GENERATE(Chain{kDestination}, Chain{kDestination, kDestination});
  const bool in_udp = GENERATE(false, true);
  Hosts hosts(between(in_udp));
  const auto [first, bytes] = linked(behind, 58);
  const Packet echo = echo_request(kHere, kThere);
  Packet inner = bytes;
  inner.insert(inner.end(), echo.begin() + 40, echo.end());
  const Packet sealed =
      sealed_by_hand(hosts.left, hosts.there, in_front, with_trailer(inner, first));
  const Result answered = hosts.right.receive(kWan, frame(sealed));
  CHECK(answered.drops.empty());
  REQUIRE(answered.wan.size() == 1);
  // Sealed again with ESP behind all of them, as where none was behind.
  const auto back = wire::parse_ip(ip_of(answered.wan[0]));
  REQUIRE(back.has_value());
  CHECK(back->payload_offset == 40 + bytes_of(in_front) + bytes.size());
  const Result arrived = hosts.left.receive(kWan, answered.wan[0]);
  CHECK(arrived.drops == std::map<DropReason, std::uint64_t>{{DropReason::icmp_ignored, 1}});
}

TEST_CASE("extensions: what is broken under the encryption is dropped with its reason") {
  Hosts hosts(between(false));
  Packet inner(16, 0);
  inner[0] = 58;
  inner[1] = 200;  // longer than the packet
  const Packet sealed = sealed_by_hand(hosts.left, hosts.there, {}, with_trailer(inner, 60));
  const Result result = hosts.right.receive(kWan, frame(sealed));
  CHECK(result.dropped(DropReason::inner_header_invalid) == 1);
}

TEST_CASE(
    "extensions: a first fragment that ends before its upper layer is dropped (RFC 7112 §5)") {
  // In transit and for us.
  const std::string to = GENERATE(std::string("2001:db8:2::7"), std::string("2001:db8:1::1"));
  const auto [upper, least] = GENERATE(std::pair(std::uint8_t{6}, std::size_t{24}),
                                       std::pair(std::uint8_t{17}, std::size_t{8}),
                                       std::pair(std::uint8_t{58}, std::size_t{8}));
  const bool has_options = GENERATE(false, true);
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "2001:db8:1::/64", "2001:db8:2::/64");
  const auto first_with = [&](std::size_t bytes) {
    Chain chain = {{44, {0, 0, 0, 1, 0, 0, 0, 7}}};
    if (has_options) chain.push_back({60, kHopByHop.bytes});
    return frame(with_chain("2001:db8:1::9", to, chain, upper, Packet(bytes, 0x80)));
  };
  for (std::size_t bytes = 0; bytes < least; bytes += 8) {
    const Result result = gateway.receive(kLan, first_with(bytes));
    CHECK(result.wan.empty());
    CHECK(result.drops == std::map<DropReason, std::uint64_t>{{DropReason::fragment_invalid, 1}});
  }
  CHECK(gateway.receive(kLan, first_with(least)).drops.empty());
}

TEST_CASE("extensions: a first fragment that ends among them is dropped") {
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "2001:db8:1::/64", "2001:db8:2::/64");
  const Packet whole = with_chain("2001:db8:1::9", "2001:db8:2::7",
                                  {{44, {0, 0, 0, 1, 0, 0, 0, 7}}, {60, Packet(8)}}, 17, {});
  Packet cut(whole.begin(), whole.end() - 8);
  wire::store_u16(&cut[4], 8);
  CHECK(gateway.receive(kLan, frame(cut)).dropped(DropReason::ipv6_extension_unsupported) == 1);
}

TEST_CASE("extensions: for us a routing header with hops to come is the end (RFC 8200 §4.4)") {
  const std::uint8_t type = GENERATE(std::uint8_t{0}, std::uint8_t{2}, std::uint8_t{4});
  const std::string us = "2001:db8:1::1", client = "2001:db8:1::9", far = "2001:db8:2::7";
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "2001:db8:1::/64", "2001:db8:2::/64");
  const auto refused = [](const Result& result) {
    return result.dropped(DropReason::ipv6_extension_unsupported) == 1 && result.lan.empty() &&
           result.wan.empty();
  };
  CHECK(refused(gateway.receive(kLan, frame(echo_behind({routing(type, 1, far)}, client, us)))));
  // ESP and what is in fragments no less.
  CHECK(refused(gateway.receive(
      kLan, frame(with_chain(client, us, {routing(type, 1, far)}, 50, Packet(64, 1))))));
  CHECK(refused(gateway.receive(
      kLan, frame(with_chain(client, us, {routing(type, 1, far), {44, {0, 0, 0, 1, 0, 0, 0, 7}}},
                             17, Packet(64, 1))))));
  // In transit it is its destination's.
  CHECK(gateway.receive(kLan, frame(echo_behind({routing(type, 1, us)}, client, far))).wan.size() ==
        1);
}

TEST_CASE("extensions: an echo reply takes no routing header back (RFC 8200 §8.4)") {
  const std::string us = "2001:db8:1::1", client = "2001:db8:1::9";
  const bool has_routing = GENERATE(false, true);
  Chain chain = {kHopByHop, kDestination};
  if (has_routing) chain.push_back(routing(2, 0, us));
  Gateway gateway;
  const Result result = gateway.receive(kLan, frame(echo_behind(chain, client, us)));
  REQUIRE(result.lan.size() == 1);
  const Packet reply = ip_of(result.lan[0]);
  const auto header = wire::parse_ip(reply).value();
  CHECK(header.payload_offset == 40 + (has_routing ? 0 : bytes_of(chain)));
  CHECK(reply.size() == header.total_bytes);
  // The same message, its checksum right.
  CHECK(reply[header.payload_offset] == 129);
  const wire::Bytes message = wire::Bytes(reply).subspan(header.payload_offset);
  wire::ChecksumSum sum;
  sum.add_pseudo_header(wire::IpAddress::parse(us).value(), wire::IpAddress::parse(client).value(),
                        58, static_cast<std::uint32_t>(message.size()));
  sum.add(message);
  CHECK(sum.finish() == 0);
}
