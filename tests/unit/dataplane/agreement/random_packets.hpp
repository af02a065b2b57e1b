// Random packets for the agreement test: in transit and of our own, small and too big, whole and in
// fragments, with options; many of them of flows that some policy names.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/tables/spd.hpp"
#include "tests/model/ip_model.hpp"
#include "tests/model/policy_model.hpp"
#include "tests/unit/dataplane/agreement/addresses.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

/// In the reserved byte of an IPv6 fragment header, which nobody looks at.
inline constexpr std::uint8_t kNotOurs = 0x5a;

/// Each octet of the SPI of the one IKE SA that there is.
inline constexpr std::uint8_t kOurIkeSpi = 0x22;

class RandomPackets {
 protected:
  explicit RandomPackets(std::uint64_t seed) : random_(seed) {}

  std::size_t below(std::size_t limit) { return static_cast<std::size_t>(random_() % limit); }
  bool one_in(std::size_t n) { return below(n) == 0; }
  template <typename T>
  const T& any(const std::vector<T>& of) {
    return of[below(of.size())];
  }

  Packet any_ip() {
    if (one_in(8)) return icmp_error();
    if (one_in(25)) return on_ike_port();
    if (one_in(12)) {
      if (const auto piece = any_piece()) return *piece;
    }
    const bool is_for_us = one_in(15);
    PacketOptions options = any_options(is_for_us);
    if (is_for_us && one_in(2)) return with_ip_options(any_echo(options));
    if (!is_for_us) follow_latest(options);
    const Packet ip = with_ip_options(ip_packet(options));
    const bool has_options = !is_for_us && ip[0] >> 4U == 6 && one_in(12);
    return with_flow_label(has_options ? with_extensions(ip) : with_fragment_header(ip));
  }
  /// A request, now and then as large as a link takes.
  Packet any_echo(const PacketOptions& options) {
    Packet ip = echo_request(options.source, options.destination);
    if (!one_in(4)) return ip;
    const bool v4 = ip[0] >> 4U == 4;
    const std::size_t message = v4 ? 20 : 40;
    model::put(ip, model::counting(1300 + below(100)));
    model::set16(ip, v4 ? 2 : 4, static_cast<unsigned>(v4 ? ip.size() : ip.size() - message));
    model::set16(ip, message + 2, 0);
    model::set16(ip, message + 2, model::icmp_checksum(ip, model::view_ip(ip).value()));
    return model::with_checksum(std::move(ip));
  }
  /// Often of the flow of the one before, whatever else is different.
  void follow_latest(PacketOptions& options) {
    if (options.payload.size() < 4) return;
    if (latest_ && one_in(2)) {
      options.source = latest_->source;
      options.destination = latest_->destination;
      options.protocol = latest_->protocol;
      std::copy_n(latest_->payload.begin(), 4, options.payload.begin());
      options.fragment &= 0x4000U;
    } else if (options.protocol == 6 || options.protocol == 17) {
      latest_ = options;
    }
  }
  PacketOptions any_options(bool is_for_us) {
    const bool v4 = !one_in(3);
    const auto& pool = v4 ? kV4 : kV6;
    PacketOptions options;
    options.source = one_in(40) ? any(v4 ? kOwn4 : kOwn6) : any(pool);
    options.destination = is_for_us ? any(v4 ? kOwn4 : kOwn6) : any(pool);
    options.ttl = one_in(12) ? static_cast<std::uint8_t>(below(3)) : 64;
    options.traffic_class = static_cast<std::uint8_t>(below(256));
    static const std::vector<std::uint16_t> kFragments = {0x4000, 0x4000, 0x4000, 0x0000, 0x2000,
                                                          0x2000, 0x20b9, 0x00b9, 0x2005, 0x0005,
                                                          0x0001, 0x0001, 0x2002};
    options.fragment = is_for_us ? 0x4000 : any(kFragments);
    static const std::vector<std::uint8_t> kProtocols = {17, 17, 17, 6, 6, 1, 47, 50};
    options.protocol = any(kProtocols);
    if (!v4 && options.protocol == 1) options.protocol = 58;
    options.payload = payload_of(options.protocol);
    if ((options.fragment & 0x2000U) != 0 && !one_in(6)) shorten_to_eights(options.payload, 0);
    if (!is_for_us && one_in(2)) aim(options);
    return options;
  }

  /// Keepalives, IKE, ESP of no SA and what is none of these (RFC 3948 §2), for us or in transit.
  Packet on_ike_port() {
    static const std::vector<std::uint16_t> kPorts = {4500, 4500, 4500, 4500, 500, 4501};
    static const std::vector<unsigned> kLengths = {0, 7, 8, 9, 12, 1500};
    PacketOptions options = any_options(!one_in(3));
    options.protocol = 17;
    options.payload = udp(one_in(2) ? 4500 : 500, any(kPorts), any_nat_traversal());
    if (one_in(12)) model::set16(options.payload, 4, any(kLengths));
    return ip_packet(options);
  }
  Packet any_nat_traversal() {
    if (one_in(3)) return Packet(1 + (one_in(3) ? below(4) : 0), one_in(4) ? 0 : 0xff);
    Packet data(one_in(3) ? 0 : 4);  // the marker, or none
    const std::size_t message = data.size();
    model::put(data, Packet(8, one_in(2) ? 0x11 : kOurIkeSpi));
    model::put(data, Packet(8, one_in(2) ? 0 : kOurIkeSpi));
    model::put(data, model::counting(12 + below(40)));
    data[message + 19] = one_in(2) ? 0x08 : 0x20;  // the initiator's, or an answer to it
    if (one_in(6)) data.resize(below(24));
    return data;
  }
  Packet with_flow_label(Packet ip) {
    if (ip[0] >> 4U == 6 && one_in(2)) {
      ip[1] = static_cast<std::uint8_t>((ip[1] & 0xf0U) | below(16));
      model::set16(ip, 2, static_cast<unsigned>(below(0x10000)));
    }
    return ip;
  }

  /// About a packet that goes against what some policy names, quoted as far as its router likes.
  Packet icmp_error() {
    PacketOptions options = any_options(false);
    std::swap(options.source, options.destination);
    const Packet whole = with_fragment_header(with_ip_options(ip_packet(options)));
    const bool v4 = whole[0] >> 4U == 4;
    static const std::vector<std::size_t> kQuoted4 = {20, 23, 24, 28, 28, 48, 548};
    static const std::vector<std::size_t> kQuoted6 = {40, 43, 47, 48, 52, 60, 1232};
    const std::size_t quoted = std::min(whole.size(), any(v4 ? kQuoted4 : kQuoted6));
    static const std::vector<std::uint8_t> kTypes4 = {3, 3, 11, 12, 5}, kTypes6 = {1, 2, 3, 4, 129};
    Packet message = {any(v4 ? kTypes4 : kTypes6), 0, 0, 0, 0, 0, 0, 0};
    message.insert(message.end(), whole.begin(),
                   whole.begin() + static_cast<std::ptrdiff_t>(quoted));
    const bool is_stray = one_in(12);
    return ip_packet({.source = any(v4 ? kV4 : kV6),
                      .destination = is_stray ? any(v4 ? kV4 : kV6) : options.source,
                      .protocol = static_cast<std::uint8_t>(v4 ? 1 : 58),
                      .ttl = static_cast<std::uint8_t>(one_in(12) ? below(3) : 64),
                      .payload = message});
  }

  /// Of a packet in pieces whose first one a bypass policy lets pass by its ports, as it may be.
  std::optional<Packet> any_piece() {
    constexpr std::size_t kOfLate = 4;
    if (firsts_.empty() || one_in(3)) {
      if (const auto begun = any_first_by_ports()) {
        firsts_.push_back(*begun);
        if (firsts_.size() > kOfLate) firsts_.erase(firsts_.begin());
        return piece_of(*begun, 0, true, begun->payload);
      }
    }
    if (firsts_.empty()) return std::nullopt;
    const PacketOptions& first = any(firsts_);
    const bool more = !one_in(3);
    const std::size_t end = first.payload.size() / 8;
    const std::size_t place = one_in(6) ? 1 + below(end) : end + below(4);
    const std::size_t bytes = more ? 8 * (1 + below(3)) : 1 + below(30);
    return piece_of(first, 8 * place, more, model::counting(bytes));
  }
  std::optional<PacketOptions> any_first_by_ports() {
    std::vector<std::pair<wire::TrafficSelector, wire::TrafficSelector>> asking;
    for (const dataplane::PolicyEntry& entry : *aimed_at_) {
      if (entry.action != dataplane::PolicyAction::bypass) continue;
      for (std::size_t i = 0; i < entry.local.size(); ++i) {
        const auto &local = entry.local[i], &remote = entry.remote[i];
        const bool asks = !local.any_port() || !remote.any_port();
        if (asks && !local.opaque_port() && !remote.opaque_port())
          asking.emplace_back(local, remote);
      }
    }
    if (asking.empty()) return std::nullopt;
    const auto& [local, remote] = any(asking);
    const auto source = any_inside(local), destination = any_inside(remote);
    if (!source || !destination) return std::nullopt;
    const auto port_of = [](const wire::TrafficSelector& selector) {
      return selector.any_port() ? std::uint16_t{4000} : selector.port_first;
    };
    PacketOptions options{.source = *source, .destination = *destination};
    options.protocol = local.protocol;
    options.ttl = one_in(8) ? 1 : 64;
    options.payload = udp(port_of(local), port_of(remote), model::counting(8 * (1 + below(3))));
    return options;
  }
  std::optional<std::string> any_inside(wire::TrafficSelector selector) {
    selector.protocol = 0;
    selector.port_first = 0;
    selector.port_last = 65535;
    std::vector<std::string> inside;
    for (const std::string& text : selector.first.is_v4() ? kV4 : kV6) {
      if (std::ranges::find(kNobody, text) != kNobody.end()) continue;
      if (model::selector_takes(selector, model::parsed(text), 0, 0)) inside.push_back(text);
    }
    if (inside.empty()) return std::nullopt;
    return any(inside);
  }
  /// Now and then of another packet, by its name.
  Packet piece_of(PacketOptions options, std::size_t offset, bool more, const Packet& data) {
    const std::size_t name = one_in(10) ? below(4) : 1;
    const bool v4 = options.source.find(':') == std::string::npos;
    options.fragment = static_cast<std::uint16_t>(offset / 8 | (more ? 0x2000U : 0U));
    options.payload.clear();
    if (!v4) {
      options.payload = {options.protocol, kNotOurs};
      model::put16(options.payload, static_cast<unsigned>(offset | (more ? 1U : 0U)));
      model::put32(options.payload, name);
      options.protocol = 44;
    }
    model::put(options.payload, data);
    Packet ip = ip_packet(options);
    if (v4) ip[5] = static_cast<std::uint8_t>(name);
    return model::with_checksum(std::move(ip));
  }

  /// What a sound fragment is long that others come behind (RFC 791 §3.2).
  static void shorten_to_eights(Packet& of, std::size_t from) {
    if (of.size() >= from + 8) of.resize(of.size() - (of.size() - from) % 8);
  }

  /// At a policy that has an SA, as far as addresses go: by chance few packets meet one.
  void aim(PacketOptions& options) {
    std::vector<const dataplane::PolicyEntry*> bound;
    for (const dataplane::PolicyEntry& entry : *aimed_at_) {
      if (entry.outbound != dataplane::kNoSlot) bound.push_back(&entry);
    }
    if (bound.empty()) return;
    const dataplane::PolicyEntry& entry = *any(bound);
    const bool v4 = options.source.find(':') == std::string::npos;
    for (const auto& [selectors, address] : {std::pair(&entry.local, &options.source),
                                             std::pair(&entry.remote, &options.destination)}) {
      wire::TrafficSelector selector = any(*selectors);
      selector.protocol = 0;
      std::vector<std::string> inside;
      for (const std::string& text : v4 ? kV4 : kV6) {
        if (std::ranges::find(kNobody, text) != kNobody.end()) continue;
        if (model::selector_takes(selector, model::parsed(text), 0, 0)) inside.push_back(text);
      }
      if (!inside.empty()) *address = any(inside);
    }
  }

  /// Now and then an IPv4 packet has options, some of which its fragments carry (RFC 791 §3.1).
  Packet with_ip_options(Packet ip) {
    if (ip[0] != 0x45 || !one_in(16)) return ip;
    static const std::vector<Packet> kOptions = {
        {1, 0x94, 4, 0, 0, 0, 0, 0},              // nothing, router alert
        {7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 0},  // record route, router alert
        {1, 1, 1, 1},
        {0x82, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},  // security
        {1, 0x83, 7, 8, 10, 1, 0, 9},              // a source route, at its end
        {0x89, 7, 4, 10, 1, 0, 9, 0}};             // a strict one
    const Packet& options = any(kOptions);
    ip.insert(ip.begin() + 20, options.begin(), options.end());
    ip[0] = static_cast<std::uint8_t>(0x45U + options.size() / 4);
    Packet length;
    model::put16(length, static_cast<unsigned>(ip.size()));
    std::copy(length.begin(), length.end(), ip.begin() + 2);
    return model::with_checksum(std::move(ip));
  }

  /// Now and then an IPv6 packet in transit is a fragment, or one that is whole (RFC 6946).
  Packet with_fragment_header(Packet ip) {
    if (ip[0] >> 4U == 4 || !one_in(8)) return ip;
    static const std::vector<unsigned> kPlaces = {0x0001, 0x0001, 0x05c9, 0x05c8,
                                                  0x0029, 0x0028, 0x0000};
    Packet header = {ip[6], kNotOurs};
    const unsigned place = is_ours(ip) ? 0 : any(kPlaces);
    model::put16(header, place);
    model::put32(header, below(2));
    if ((place & 1U) != 0 && !one_in(6)) shorten_to_eights(ip, 40);
    ip.insert(ip.begin() + 40, header.begin(), header.end());
    ip[6] = 44;
    Packet length;
    model::put16(length, static_cast<unsigned>(ip.size() - 40));
    std::copy(length.begin(), length.end(), ip.begin() + 4);
    return ip;
  }
  /// IPv6 extension headers but a fragment's (RFC 8200 §4): hop-by-hop options in front of all
  /// others, routing, destination options; now and then more than a gateway follows, or than there
  /// is of them.
  Packet with_extensions(Packet ip) {
    static const std::vector<std::uint8_t> kTypes = {43, 60};
    Packet chain;
    std::uint8_t next = ip[6];
    for (std::size_t left = one_in(10) ? 7 + below(4) : 1 + below(3); left > 0; --left) {
      Packet header(8 * (1 + below(3)), 0);
      header[0] = next;
      header[1] = static_cast<std::uint8_t>(header.size() / 8 - 1);
      header[3] = static_cast<std::uint8_t>(below(3));  // of a routing header, hops to come
      if (one_in(40)) header[1] = 0xff;
      header.insert(header.end(), chain.begin(), chain.end());
      chain = std::move(header);
      next = left == 1 && one_in(2) ? std::uint8_t{0} : any(kTypes);
    }
    ip[6] = next;
    ip.insert(ip.begin() + 40, chain.begin(), chain.end());
    model::set16(ip, 4, static_cast<unsigned>(ip.size() - 40));
    return ip;
  }
  static bool is_ours(const Packet& ip) {
    const auto to = model::view_ip(ip).value().destination;
    return std::ranges::any_of(kOwn6, [&](const auto& own) { return to == model::parsed(own); });
  }

  /// As `options` say in everything but its size.
  Packet resized(PacketOptions options, std::size_t bytes) {
    options.payload.resize(std::min<std::size_t>(options.payload.size(), 20));
    model::put(options.payload, model::counting(bytes));
    return ip_packet(options);
  }

  Packet payload_of(std::uint8_t protocol) {
    if (one_in(30)) return Packet(below(8), 0x20);  // too short for ports, or nothing at all
    const Packet data = model::counting(
        one_in(8) ? 1300 + below(400) : below(one_in(8) ? 1100 : 40));  // about a link's MTU
    const auto port = [&] { return static_cast<std::uint16_t>(3999 + below(8)); };
    if (protocol == 17) return udp(port(), port(), data);
    Packet payload(20, 0x10);
    if (protocol == 6) {
      payload = udp(port(), port(), Packet(12, 0));
      payload[12] = 0x50;
      payload[13] = 0x10;  // ACK
      if (may_be_syn_ && one_in(4)) begin_connection(payload);
    } else if (protocol == 1 || protocol == 58) {
      payload[0] = protocol == 1 ? (one_in(2) ? 8 : 0) : (one_in(2) ? 128 : 129);
      payload[1] = one_in(6) ? static_cast<std::uint8_t>(below(4)) : std::uint8_t{0};
    }
    payload.insert(payload.end(), data.begin(), data.end());
    return payload;
  }

  /// A segment's header becomes a SYN's, with options, some of which do not hold together.
  void begin_connection(Packet& segment) {
    static const std::vector<Packet> kOptions = {
        {2, 4, 0x05, 0xb4},
        {2, 4, 0x23, 0x28},
        {1, 2, 4, 0x05, 0xb4, 1, 1, 1},
        {3, 3, 7, 2, 4, 0x02, 0x18, 0},
        {4, 2, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 0x05, 0x50, 1, 1, 0},
        {1, 1, 1, 1},
        {2, 3, 0x05, 0},
        {2, 9, 0x05, 0xb4},
        {0, 2, 4, 0xff},
        {}};
    const Packet& options = any(kOptions);
    segment[12] = static_cast<std::uint8_t>((5 + options.size() / 4) << 4U);
    if (one_in(10)) segment[12] = static_cast<std::uint8_t>(below(16) << 4U);
    segment[13] = one_in(2) ? 0x02 : 0x12;  // an answer to one
    model::set16(segment, 16, static_cast<unsigned>(below(0x10000)));
    model::put(segment, options);
  }

  /// What the gateway itself says, for somebody it could be said to.
  Packet own_packet() {
    if (one_in(4)) return own_error();
    const bool v6 = one_in(3);
    PacketOptions options;
    if (one_in(2)) {
      options.source = kHere.at(v6);
      options.destination = kThere.at(v6);
    } else {
      options.source = any(v6 ? kOwn6 : kOwn4);
      options.destination = any(v6 ? kSayable6 : kSayable4);
    }
    static const std::vector<std::uint8_t> kProtocols = {17, 6, 47};
    options.protocol = any(kProtocols);
    options.payload = payload_of(options.protocol);
    if (one_in(2)) options.fragment = 0;
    return ip_packet(options);
  }

  /// To somebody whose packet we could not pass on.
  Packet own_error() {
    for (;;) {
      const Packet error = icmp_error();
      const std::string to = model::view_ip(error).value().destination.to_string();
      const auto is_it = [&](const std::string& one) { return one == to; };
      if (std::ranges::any_of(kSayable4, is_it) || std::ranges::any_of(kSayable6, is_it)) {
        return error;
      }
    }
  }

  /// What the peer says to us in transport mode: a protocol and its message.
  std::pair<std::uint8_t, Packet> upper_layer(bool v6) {
    static const std::vector<std::uint8_t> kProtocols = {17, 6, 1, 47};
    std::uint8_t protocol = any(kProtocols);
    Packet payload = payload_of(protocol);
    // A checksum that a NAT has made wrong, or none.
    if (protocol == 17 && payload.size() >= 8 && one_in(2)) payload[7] = 0x42;
    if (protocol == 17 && payload.size() >= 8 && one_in(12)) {
      model::set16(payload, 4, static_cast<unsigned>(below(payload.size() + 4)));
    }
    if (protocol != 1) return {protocol, payload};
    if (v6) protocol = 58;
    const Packet request = v6 ? echo_request("2001:db8:ff::2", "2001:db8:ff::1")
                              : echo_request("198.51.100.2", "198.51.100.1");
    return {protocol, Packet(request.begin() + (v6 ? 40 : 20), request.end())};
  }

  const std::vector<dataplane::PolicyEntry>* aimed_at_ = nullptr;
  bool may_be_syn_ = false;  ///< a TCP segment

 private:
  std::vector<PacketOptions> firsts_;
  std::optional<PacketOptions> latest_;  ///< of TCP or UDP
  std::mt19937_64 random_;
};

}  // namespace culvert::test
