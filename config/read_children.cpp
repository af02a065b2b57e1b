// children: the traffic of a connection, how it is protected and for how long.
#include <algorithm>
#include <array>
#include <bit>

#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {
namespace {

void read_esp_proposals(const Field& field, std::vector<crypto::Proposal>& proposals) {
  if (!field.present()) {
    for (const std::string_view text : {"aes256gcm16", "aes128gcm16"}) {
      if (auto proposal = crypto::parse_esp_proposal(text)) {
        proposals.push_back(*std::move(proposal));
      }
    }
    return;
  }
  for (const Field& item : read_items(field, "proposals", limits::kProposals)) {
    const auto text = read_text(item, "a proposal such as aes256gcm16 or aes256gcm16-ecp384");
    if (!text) continue;
    const auto proposal = crypto::parse_esp_proposal(*text);
    if (!proposal) {
      report_proposal(item, proposal.error());
      continue;
    }
    if (std::ranges::find(proposals, *proposal) != proposals.end()) {
      item.warning({quote(*text) + " a second time", "each proposal once", "remove it"});
    } else if (!proposals.empty() && proposals.front().groups.empty() != proposal->groups.empty()) {
      item.warning({quote(*text), "a group in every proposal or in none",
                    "the peer may choose the one without perfect forward secrecy"});
    }
    warn_of_weak_protection(item, *proposal);
    proposals.push_back(*proposal);
  }
  if (field.node->kind == Node::Kind::list && field.node->items.empty()) {
    field.error(
        {"an empty list", "at least one proposal", "leave esp_proposals out for the default"});
  }
}

/// A hard limit that does not lie beyond a soft one stops traffic before a rekey can happen.
void check_order(const Field& life, std::uint64_t hard, std::uint64_t soft,
                 std::string_view soft_name) {
  if (!life.present() || hard == 0) return;
  if (soft == 0) {
    life.warning(
        {describe(life) + " without " + std::string(soft_name),
         std::string(soft_name) + ", some 10 % less, so that a rekey comes before",
         "unless the peer rekeys before, packets are lost from the end of the SA until there is "
         "another one"});
    return;
  }
  if (hard > soft) return;
  life.error({describe(life), "more than " + std::string(soft_name),
              "leave it out, or write some 10 % more than " + std::string(soft_name)});
}

void read_lifetimes(MapReader& map, Child& child) {
  const Field rekey_time = map.take("rekey_time");
  set(child.rekey_time, read_duration(rekey_time));
  if (rekey_time.present() && child.rekey_time.count() != 0 &&
      child.rekey_time < limits::kRekeyShort) {
    rekey_time.warning(
        {describe(rekey_time), "at least 60s", "keys this short-lived are for tests"});
  }
  const Field life_time = map.take("life_time");
  const auto tenth = std::max<std::int64_t>(child.rekey_time.count() / 10, 1);
  child.life_time = child.rekey_time.count() == 0 ? std::chrono::seconds{0}
                                                  : child.rekey_time + std::chrono::seconds{tenth};
  set(child.life_time, read_duration(life_time));
  check_order(life_time, static_cast<std::uint64_t>(child.life_time.count()),
              static_cast<std::uint64_t>(child.rekey_time.count()), "rekey_time");

  const Field rekey_bytes = map.take("rekey_bytes");
  set(child.rekey_bytes, read_size(rekey_bytes));
  if (child.rekey_bytes != 0 && child.rekey_bytes < limits::kRekeyBytesShort) {
    const std::string& text = rekey_bytes.node->text;
    const bool is_bare = text.find_first_not_of("0123456789") == std::string::npos;
    rekey_bytes.warning({describe(rekey_bytes), "at least 1MiB",
                         is_bare
                             ? "without a unit it is bytes; write " + text + "GiB if that is meant"
                             : "keys that last for so few packets are for tests"});
  }
  const Field life_bytes = map.take("life_bytes");
  set(child.life_bytes, read_size(life_bytes));
  check_order(life_bytes, child.life_bytes, child.rekey_bytes, "rekey_bytes");

  constexpr Bounds kPackets{0, std::uint64_t{1} << 62U, "packets"};
  const Field rekey_packets = map.take("rekey_packets");
  set(child.rekey_packets, read_number(rekey_packets, kPackets));
  if (child.rekey_packets != 0 && child.rekey_packets < limits::kRekeyPacketsShort) {
    rekey_packets.warning({describe(rekey_packets), "at least 1000",
                           "keys that last for so few packets are for tests"});
  }
  const Field life_packets = map.take("life_packets");
  set(child.life_packets, read_number(life_packets, kPackets));
  check_order(life_packets, child.life_packets, child.rekey_packets, "rekey_packets");
}

/// Absent selectors mean the peers' own addresses (as "dynamic" does elsewhere); none: not known.
std::vector<wire::TrafficSelector> read_side(const Field& field, const Peer& peer) {
  if (field.present()) return read_selectors(field);
  if (!peer.address) return {};
  const auto bits = static_cast<std::uint8_t>(peer.address->size() * 8);
  return {wire::TrafficSelector::of({*peer.address, bits})};
}

void read_child(const Field& field, const Connection& connection, Child& child) {
  static constexpr std::array kStartActions{Word<StartAction>{"none", StartAction::none},
                                            Word<StartAction>{"trap", StartAction::trap},
                                            Word<StartAction>{"start", StartAction::start}};
  static constexpr std::array kSwitch{Word<bool>{"yes", true}, Word<bool>{"no", false},
                                      Word<bool>{"true", true}, Word<bool>{"false", false}};
  MapReader map(field, "a child: name, mode, local_ts, remote_ts");
  child.location = field.location;
  set(child.name,
      read_name(map.require("name", "a name", "write name: office"), limits::kNameCharacters));
  set(child.mode, read_mode(map.take("mode")));
  if (!map.is_map()) return;
  const Field local_ts = map.take("local_ts");
  child.local_ts = read_side(local_ts, connection.local);
  if (!local_ts.present() && child.local_ts.empty()) {
    local_ts.error({"nothing", "a list of selectors, because local has no address",
                    "write which addresses this side may use"});
  }
  child.remote_ts = read_side(map.take("remote_ts"), connection.remote);
  read_esp_proposals(map.take("esp_proposals"), child.esp_proposals);
  const Field start_action = map.take("start_action");
  set(child.start_action, read_choice(start_action, kStartActions));
  if (start_action.present() && child.start_action == StartAction::start &&
      !connection.remote.address) {
    start_action.error({"\"start\"", "none or trap, because the peer's address is not known",
                        "write the remote address, or let the peer start"});
  }
  read_lifetimes(map, child);
  set(child.rehearse_rekey, read_choice(map.take("rehearse_rekey"), kSwitch));
  set(child.replay_window, read_replay_window(map.take("replay_window"), false));
  const auto& outer =
      connection.remote.address ? connection.remote.address : connection.local.address;
  read_header_options(map, child.mode, outer ? std::optional(outer->family) : std::nullopt,
                      child.headers);
  map.finish();
}

}  // namespace

std::optional<Mode> read_mode(const Field& field) {
  static constexpr std::array kModes{Word<Mode>{"tunnel", Mode::tunnel},
                                     Word<Mode>{"transport", Mode::transport}};
  return read_choice(field, kModes);
}

void warn_of_weak_protection(const Field& field, const crypto::Proposal& proposal) {
  const bool hides_nothing =
      std::ranges::any_of(proposal.encryption, [](const crypto::Proposal::Cipher& cipher) {
        return cipher.id == crypto::Encryption::null ||
               cipher.id == crypto::Encryption::null_aes_gmac;
      });
  if (hides_nothing) {
    field.warning({describe(field) + ", which hides nothing", "a cipher such as aes256gcm16",
                   "whoever is on the way reads all that is sent; keep it only where that is "
                   "meant"});
  }
  const bool is_sha1 = std::ranges::find(proposal.integrity, crypto::Integrity::hmac_sha1_96) !=
                       proposal.integrity.end();
  if (is_sha1) {
    field.warning({describe(field) + ", with SHA-1, which is on its way out (RFC 8221 §6)",
                   "sha256, or a cipher that needs no integrity such as aes256gcm16",
                   "keep it only for a peer that has nothing else"});
  }
}

std::vector<wire::TrafficSelector> read_selectors(const Field& field) {
  std::vector<wire::TrafficSelector> selectors;
  for (const Field& item : read_items(field, "selectors", limits::kSelectors)) {
    if (const auto selector = read_selector(item)) selectors.push_back(*selector);
  }
  if (field.present() && field.node->kind == Node::Kind::list && field.node->items.empty()) {
    field.error({"an empty list", "at least one selector",
                 "write 0.0.0.0/0 for all of IPv4, ::/0 for all of IPv6"});
  }
  return selectors;
}

std::optional<std::uint32_t> read_replay_window(const Field& field, bool zero_allowed) {
  const Bounds bounds{zero_allowed ? 0 : limits::kReplayWindowMin, limits::kReplayWindowMax,
                      "packets, a power of two"};
  const auto value = read_number(field, bounds);
  if (!value) return std::nullopt;
  const auto window = static_cast<std::uint32_t>(*value);
  const bool off = window == 0 && zero_allowed;
  if (off || (window >= limits::kReplayWindowMin && std::has_single_bit(window))) return window;
  field.error(
      {quote(std::to_string(window)),
       "a power of two from 32 to 65536" + std::string(zero_allowed ? ", or 0" : ""),
       "write " + std::to_string(std::max(limits::kReplayWindowMin, std::bit_ceil(window)))});
  return std::nullopt;
}

void read_children(const Field& field, Connection& connection) {
  for (const Field& item : read_items(field, "children", limits::kSas)) {
    Child& child = connection.children.emplace_back();
    read_child(item, connection, child);
    child.id = child_id(connection.name, child.name);
  }
  if (field.present() && field.node->kind == Node::Kind::list && field.node->items.empty()) {
    field.error({"an empty list", "at least one child", "write the traffic to protect"});
  }
}

}  // namespace culvert::config
