// copy_dscp, dscp, copy_ecn, copy_flow_label, df, hop_limit, mss_clamp, fragmentation, icmp_errors,
// tfc_padding, path_mtu: of a child or a manual SA.
#include <array>

#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {
namespace {

/// A value of its own and a copied one exclude each other.
void read_dscp(MapReader& map, HeaderOptions& options) {
  static constexpr std::array kWords{
      Word<CopyDscp>{"out", CopyDscp::out}, Word<CopyDscp>{"in", CopyDscp::in},
      Word<CopyDscp>{"yes", CopyDscp::both}, Word<CopyDscp>{"no", CopyDscp::none}};
  const Field copy = map.take("copy_dscp");
  const Field fixed = map.take("dscp");
  const auto chosen = read_choice(copy, kWords);
  set(options.copy_dscp, chosen);
  const auto value = read_number(fixed, {0, limits::kDscpMax, ""});
  if (!value) return;
  options.dscp = static_cast<std::uint8_t>(*value);
  if (!copy.present()) {
    options.copy_dscp = CopyDscp::none;
  } else if (chosen == CopyDscp::out || chosen == CopyDscp::both) {
    fixed.error({describe(fixed), "no dscp, because copy_dscp takes it from the inner packet",
                 "write copy_dscp: no or in, or leave dscp out"});
  }
}

void read_tfc_padding(const Field& field, Mode mode, HeaderOptions& options) {
  if (!field.present()) return;
  const auto text = read_text(field, "a number of bytes, or mtu");
  if (!text) return;
  if (*text == "mtu") {
    options.tfc_padding = HeaderOptions::kPadToPath;
  } else if (const auto bytes = read_number(field, {0, limits::kMtuMax, "bytes"})) {
    options.tfc_padding = static_cast<std::uint16_t>(*bytes);
  }
  // RFC 4303 §2.7: only where the packet inside says how long it is.
  if (options.tfc_padding != 0 && mode == Mode::transport) {
    field.error({describe(field), "no tfc_padding in transport mode",
                 "use mode: tunnel, whose inner packets say how long they are"});
  }
}

/// Where the outer family is open, or may change with the peer's address, IPv4's bound holds: over
/// IPv6 less than every link carries is only wasteful.
void read_path_mtu(const Field& field, std::optional<wire::Family> outer, HeaderOptions& options) {
  const bool is_v6 = outer == wire::Family::v6;
  const Bounds bounds{is_v6 ? limits::kMtuMinV6 : limits::kMtuMin, limits::kMtuMax,
                      is_v6 ? "bytes of outer IPv6 packet" : "bytes of outer packet"};
  if (const auto bytes = read_number(field, bounds)) {
    options.path_mtu = static_cast<std::uint16_t>(*bytes);
  }
}

}  // namespace

void read_header_options(MapReader& map, Mode mode, std::optional<wire::Family> outer,
                         HeaderOptions& options) {
  static constexpr std::array kDf{Word<DontFragment>{"copy", DontFragment::copy},
                                  Word<DontFragment>{"set", DontFragment::set},
                                  Word<DontFragment>{"clear", DontFragment::clear}};
  static constexpr std::array kWhen{Word<FragmentationOrder>{"before", FragmentationOrder::before},
                                    Word<FragmentationOrder>{"after", FragmentationOrder::after}};
  static constexpr std::array kErrors{Word<IcmpErrors>{"header", IcmpErrors::header},
                                      Word<IcmpErrors>{"check", IcmpErrors::check}};
  read_dscp(map, options);
  set(options.copy_ecn, read_boolean(map.take("copy_ecn")));
  set(options.copy_flow_label, read_boolean(map.take("copy_flow_label")));
  set(options.df, read_choice(map.take("df"), kDf));
  if (const auto hops = read_number(map.take("hop_limit"), {1, 255, ""})) {
    options.hop_limit = static_cast<std::uint8_t>(*hops);
  }
  set(options.mss_clamp, read_boolean(map.take("mss_clamp")));
  set(options.fragmentation, read_choice(map.take("fragmentation"), kWhen));
  set(options.icmp_errors, read_choice(map.take("icmp_errors"), kErrors));
  read_tfc_padding(map.take("tfc_padding"), mode, options);
  read_path_mtu(map.take("path_mtu"), outer, options);
}

}  // namespace culvert::config
