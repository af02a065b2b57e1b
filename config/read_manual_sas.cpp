// manual_sas: one direction of a manually keyed SA each (RFC 4301 §4.5.1).
#include <array>

#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"
#include "wire/udp.hpp"

namespace culvert::config {
namespace {

constexpr std::uint16_t kEncapsulationPort = wire::udp::kNatTraversalPort;

constexpr std::string_view kOneSuite = "one suite, as aes128gcm16 or aes128-sha256";

/// One cipher and nothing to choose: both ends of a manual SA run what is written.
std::optional<crypto::EspSuite> read_suite(const Field& field) {
  const auto text = read_text(field, kOneSuite);
  if (!text) return std::nullopt;
  const auto proposal = crypto::parse_esp_proposal(*text);
  if (!proposal) {
    report_proposal(field, proposal.error());
    return std::nullopt;
  }
  const bool one = proposal->encryption.size() == 1 && proposal->integrity.size() <= 1;
  const bool plain = proposal->groups.empty() && proposal->esn && proposal->no_esn;
  if (!one || !plain) {
    field.error({quote(*text), std::string(kOneSuite) + ", without alternatives, group or esn",
                 "write esn: true beside it for extended sequence numbers"});
    return std::nullopt;
  }
  warn_of_weak_protection(field, *proposal);
  return crypto::EspSuite{
      proposal->encryption.front().id, proposal->encryption.front().key_bits,
      proposal->integrity.empty() ? crypto::Integrity::none : proposal->integrity.front()};
}

/// Counter modes, which take a salt beside the key, lose everything when a nonce comes twice under
/// a key, and nobody changes a manual one. RFC 4106 §2: "it can be difficult to use this mode
/// securely when using statically configured keys"; RFC 3686 §2.1: "implementations MUST use fresh
/// keys with AES-CTR". The data plane begins each start's IVs at a random place
/// (OutboundSa::iv_start), which makes a repetition unlikely and not impossible. A receiver makes
/// no IVs.
void warn_of_counter_mode(const Field& field, const ManualSa& sa) {
  const crypto::EncryptionInfo* const cipher = crypto::find(sa.suite.encryption);
  const bool is_counter_mode = cipher != nullptr && cipher->salt_bytes != 0;
  if (sa.direction != ManualSa::Direction::out || !is_counter_mode) return;
  field.warning({describe(field) + " with a manual key",
                 "a fresh key at every start, because an IV that comes again under the same key "
                 "breaks a counter mode",
                 "replace the key before each start, or use aes128-sha256, or IKE"});
}

/// Nobody tells a manual SA which address to take for the unspecified one.
std::optional<wire::IpAddress> read_outer_address(const Field& field) {
  const auto address = read_address(field);
  if (!address || !address->is_unspecified()) return address;
  field.error({quote(address->to_string()), "the address of one gateway",
               "write the address that is in the outer header"});
  return std::nullopt;
}

void read_encapsulation(const Field& field, ManualSa& sa) {
  if (!field.present()) return;
  if (field.node->kind == Node::Kind::scalar) {
    static constexpr std::array kWords{Word<bool>{"udp", true}, Word<bool>{"no", false}};
    if (read_choice(field, kWords).value_or(false)) {
      sa.udp_encap_local_port = kEncapsulationPort;
      sa.udp_encap_remote_port = kEncapsulationPort;
    }
    return;
  }
  MapReader map(field, "udp, no, or {local_port: 4500, remote_port: 4500}");
  if (!map.is_map()) return;
  constexpr Bounds kPorts{1, 65535, ""};
  const Field local = map.take("local_port");
  sa.udp_encap_local_port =
      static_cast<std::uint16_t>(read_number(local, kPorts).value_or(kEncapsulationPort));
  if (sa.udp_encap_local_port != kEncapsulationPort) {
    local.error({describe(local),
                 "4500, the port of IKE, where ESP in UDP is received (RFC 3948 §2.1)",
                 "write local_port: 4500, or leave it out; only remote_port may be another, which "
                 "a NAT chose"});
  }
  sa.udp_encap_remote_port = static_cast<std::uint16_t>(
      read_number(map.take("remote_port"), kPorts).value_or(kEncapsulationPort));
  map.finish();
}

/// With 32-bit numbers the SA would be at its end before it begins (RFC 4303 §3.3.3).
void read_first_sequence(const Field& field, ManualSa& sa) {
  const std::uint64_t most = sa.esn ? std::uint64_t{1} << 62U : 0xffffffff;
  set(sa.first_sequence, read_number(field, {1, most, ""}));
}

void read_manual_sa(const Field& field, ManualSa& sa) {
  static constexpr std::array kDirections{
      Word<ManualSa::Direction>{"in", ManualSa::Direction::in},
      Word<ManualSa::Direction>{"out", ManualSa::Direction::out}};
  MapReader map(field, "a manual SA: name, direction, spi, local, remote, suite, key_file");
  sa.location = field.location;
  set(sa.name,
      read_name(map.require("name", "a name", "write name: lab"), limits::kNameCharacters));
  set(sa.direction,
      read_choice(map.require("direction", "in or out", "write direction: out"), kDirections));
  const auto spi = read_number(map.require("spi", "an SPI of 256 or more", "write spi: 0x1000"),
                               {limits::kSpiMin, 0xffffffff, ""});
  if (spi) sa.spi = static_cast<std::uint32_t>(*spi);
  set(sa.mode, read_mode(map.take("mode")));
  set(sa.local,
      read_outer_address(map.require("local", "our outer address", "write local: ADDRESS")));
  set(sa.remote, read_outer_address(
                     map.require("remote", "the peer's outer address", "write remote: ADDRESS")));
  sa.local_ts = read_selectors(
      map.require("local_ts", "a list of selectors", "write the addresses on our side"));
  sa.remote_ts = read_selectors(
      map.require("remote_ts", "a list of selectors", "write the addresses on the peer's side"));
  const Field suite = map.require("suite", kOneSuite, "write suite: aes128-sha256");
  if (const auto known = read_suite(suite)) {
    sa.suite = *known;
    warn_of_counter_mode(suite, sa);
  }
  set(sa.key_file, read_text(map.require("key_file", "the path of a file with the key in hex",
                                         "write key_file: FILE"),
                             "the path of a file with the key in hex"));
  set(sa.esn, read_boolean(map.take("esn")));
  set(sa.replay_window, read_replay_window(map.take("replay_window"), true));
  read_first_sequence(map.take("first_sequence"), sa);
  read_header_options(map, sa.mode, sa.remote.family, sa.headers);
  read_encapsulation(map.take("encap"), sa);
  map.finish();
}

}  // namespace

void read_manual_sas(const Field& field, std::vector<ManualSa>& manual_sas) {
  for (const Field& item : read_items(field, "manual SAs", limits::kSas)) {
    ManualSa& sa = manual_sas.emplace_back();
    read_manual_sa(item, sa);
    // Both directions under one name are one child to the counters.
    sa.id = manual_id(sa.name);
  }
}

}  // namespace culvert::config
