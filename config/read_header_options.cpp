// copy_dscp, dscp, copy_ecn, copy_flow_label, df, hop_limit, mss_clamp, fragmentation, icmp_errors,
// tfc_padding, path_mtu, dummy_packets: of a child or a manual SA.
#include <array>

#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {
namespace {

/// Transport mode keeps the packet's own header (RFC 4303 §3.1.1): nothing is moved to an outer
/// one, and what says otherwise would be ignored. Defaults ask for nothing, and may be written.
void refuse_in_transport(const Field& field, Mode mode, std::string_view name,
                         bool says_otherwise) {
  if (mode != Mode::transport || !field.present() || !says_otherwise) return;
  field.error(
      {describe(field),
       "no " + std::string(name) + " in transport mode, where packets keep their own header",
       "leave it out, or use mode: tunnel"});
}

/// A value of its own and a copied one exclude each other.
void read_dscp(MapReader& map, Mode mode, HeaderOptions& options) {
  static constexpr std::array kWords{
      Word<CopyDscp>{"out", CopyDscp::out}, Word<CopyDscp>{"in", CopyDscp::in},
      Word<CopyDscp>{"yes", CopyDscp::both}, Word<CopyDscp>{"no", CopyDscp::none}};
  const Field copy = map.take("copy_dscp");
  const Field fixed = map.take("dscp");
  refuse_in_transport(fixed, mode, "dscp", true);
  const auto chosen = read_choice(copy, kWords);
  set(options.copy_dscp, chosen);
  refuse_in_transport(copy, mode, "copy_dscp", options.copy_dscp != CopyDscp::out);
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

/// RFC 4303 §2.6: "the controls might allow an administrator to generate random-length or
/// fixed-length dummy packets". `options.tfc_padding` is read.
void read_dummy_packets(const Field& field, HeaderOptions& options) {
  if (!field.present()) return;
  MapReader map(field, "{per_second: 50} or {per_second: 50, bytes: 1000}");
  if (!map.is_map()) return;
  const Field rate =
      map.require("per_second", "a number of packets a second", "write per_second: 50");
  if (const auto number =
          read_number(rate, {1, limits::kDummyPacketsPerSa, "packets a second of an SA"})) {
    options.dummy_packets.per_second = static_cast<std::uint16_t>(*number);
  }
  const Field size = map.take("bytes");
  if (const auto bytes = read_number(size, {limits::kDummyBytesMin, limits::kMtuMax, "bytes"})) {
    options.dummy_packets.bytes = static_cast<std::uint16_t>(*bytes);
  }
  if (size.present() && options.tfc_padding != 0) {
    size.error({describe(size), "no bytes beside tfc_padding, which is the size of dummies too",
                "leave bytes out: by another size they could be told apart"});
  }
  map.finish();
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
  read_dscp(map, mode, options);
  const Field ecn = map.take("copy_ecn"), label = map.take("copy_flow_label"), df = map.take("df"),
              hop_limit = map.take("hop_limit"), when = map.take("fragmentation");
  set(options.copy_ecn, read_boolean(ecn));
  refuse_in_transport(ecn, mode, "copy_ecn", !options.copy_ecn);
  set(options.copy_flow_label, read_boolean(label));
  refuse_in_transport(label, mode, "copy_flow_label", options.copy_flow_label);
  set(options.df, read_choice(df, kDf));
  refuse_in_transport(df, mode, "df", options.df != DontFragment::copy);
  if (const auto hops = read_number(hop_limit, {1, 255, ""})) {
    options.hop_limit = static_cast<std::uint8_t>(*hops);
  }
  refuse_in_transport(hop_limit, mode, "hop_limit", options.hop_limit != HeaderOptions{}.hop_limit);
  set(options.mss_clamp, read_boolean(map.take("mss_clamp")));
  set(options.fragmentation, read_choice(when, kWhen));
  set(options.icmp_errors, read_choice(map.take("icmp_errors"), kErrors));
  const bool cuts_first = options.fragmentation == FragmentationOrder::before;
  if (when.present() && cuts_first && mode == Mode::transport) {
    when.error({describe(when), "after, because transport mode protects whole packets",
                "leave it out, or use mode: tunnel"});
  }
  read_tfc_padding(map.take("tfc_padding"), mode, options);
  read_path_mtu(map.take("path_mtu"), outer, options);
  read_dummy_packets(map.take("dummy_packets"), options);
}

}  // namespace culvert::config
