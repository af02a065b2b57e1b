// A gateway that is given anything, and what must hold whatever it is given: every packet is
// accounted for, every buffer comes back, and nothing of the protected network leaves in clear.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "tests/unit/dataplane/worker/gateway.hpp"

namespace culvert::test {

/// How bytes get to the worker.
enum class Entry : std::uint8_t {
  wan_frame,
  lan_frame,
  tunnel,     ///< as payload of authentic tunnel-mode ESP
  transport,  ///< as payload of authentic transport-mode ESP
  tunnel_in_udp,
  ipv6_tunnel,
  tunnel_text,  ///< as the whole encrypted text, trailer included
  main_thread,  ///< as an IP packet that the main thread gives to send
};
inline constexpr unsigned kEntries = 8;

class BadInputGateway {
 public:
  BadInputGateway() {
    using channel::Direction;
    tunnel_ = gateway_.request(1, Direction::in, 0x5000);
    transport_ = gateway_.request(2, Direction::in, 0x5001);
    transport_.mode = channel::SaMode::transport;
    transport_.local_selectors = selectors({gateway_.wan(4)});
    transport_.remote_selectors = selectors({gateway_.peer(4)});
    in_udp_ = gateway_.request(3, Direction::in, 0x5002);
    in_udp_.udp_encapsulation = true;
    in_udp_.local.port = in_udp_.remote.port = 4500;
    in_udp_.esn = true;
    for (auto* side : {&in_udp_.local_selectors, &in_udp_.remote_selectors}) {
      side->items[0].protocol = wire::protocol::kUdp;
    }
    ipv6_ = gateway_.request(4, Direction::in, 0x5003, 6, 6);
    ipv6_.replay_window = 0;
    for (const auto* sa : {&tunnel_, &transport_, &in_udp_, &ipv6_})
      static_cast<void>(gateway_.install(*sa));
    std::vector<dataplane::PolicyEntry> policies;
    for (const unsigned family : {4U, 6U}) {
      auto out = gateway_.request(10 + family, Direction::out, 0x6000 + family, family, family);
      out.udp_encapsulation = family == 6;
      out.local.port = out.remote.port = family == 6 ? 4500 : 0;
      policies.push_back(Gateway::protect(out, gateway_.install(out)));
    }
    auto trapped = gateway_.request(20, Direction::out, 0x6009);
    trapped.remote_selectors = selectors({"10.3.0.0/24[udp/53]", "10.3.0.0/24"});
    policies.push_back(Gateway::protect(trapped, dataplane::kNoSlot));
    auto for_udp = gateway_.request(21, Direction::out, 0x600a);
    for_udp.local_selectors = selectors({"10.1.0.0/16[udp]"});
    for_udp.remote_selectors = selectors({"10.4.0.0/16[udp]"});
    policies.push_back(Gateway::protect(for_udp, gateway_.install(for_udp)));
    gateway_.tables().spd->replace(std::move(policies));
  }

  Gateway& gateway() { return gateway_; }

  /// At most kBurstPackets between two `run`s.
  void feed(Entry entry, ByteString bytes) {
    if (bytes.size() > 1700) bytes.resize(1700);
    switch (entry) {
      case Entry::wan_frame:
        gateway_.feed(kWan, bytes);
        return;
      case Entry::lan_frame:
        gateway_.feed(kLan, bytes);
        return;
      case Entry::tunnel:
        return feed_outer(4, 50, seal(tunnel_, bytes, is_v6(bytes) ? 41 : 4));
      case Entry::transport: {
        const std::uint8_t next_header = bytes.empty() ? 59 : bytes.back();
        return feed_outer(4, 50, seal(transport_, bytes, next_header));
      }
      case Entry::tunnel_in_udp:
        return feed_outer(4, 17, model::udp(4500, 4500, seal(in_udp_, bytes, 4)));
      case Entry::ipv6_tunnel:
        return feed_outer(6, 50, seal(ipv6_, bytes, is_v6(bytes) ? 41 : 4));
      case Entry::tunnel_text:
        while (bytes.size() % 4 != 0 || bytes.empty()) bytes.push_back(4);
        return feed_outer(4, 50, model::esp_seal_raw(model_of(tunnel_), ++sequence_, bytes, {}));
      case Entry::main_thread:
        gateway_.inject(dataplane::InjectKind::outbound_transit, bytes, kLan);
        return;
    }
  }

  /// One iteration; aborts with a sentence when something is wrong.
  void run() {
    gateway_.run();
    require(gateway_.unaccounted() == 0, "a packet is not accounted for");
    require(gateway_.buffers_in_use() == 0, "a buffer was not given back");
    for (const ByteString& frame : gateway_.sent[0])
      require(may_be_on_wan(frame), "clear text left by the WAN");
    gateway_.forget();
  }

  /// Valid input: what is then damaged.
  [[nodiscard]] std::vector<std::pair<Entry, ByteString>> samples();

 private:
  static void require(bool claim, const char* what) {
    if (claim) return;
    std::fprintf(stderr, "bad input: %s\n", what);
    std::abort();
  }
  static bool is_v6(const ByteString& bytes) { return !bytes.empty() && bytes[0] >> 4U == 6; }
  ByteString seal(const channel::InstallSa& sa, const ByteString& payload,
                  std::uint8_t next_header) {
    return model::esp_seal(model_of(sa), ++sequence_, next_header, payload);
  }
  void feed_outer(unsigned family, std::uint8_t protocol, const ByteString& payload) {
    const std::string from = gateway_.peer(family), to = gateway_.wan(family);
    gateway_.feed_ip(kWan,
                     model::ip({.source = from, .destination = to, .protocol = protocol}, payload));
  }
  /// By its source, which is ours, or not of the protected network.
  bool may_be_on_wan(const ByteString& frame) const {
    if (frame.size() < 34) return false;
    const ByteString source =
        frame[14] >> 4U == 4 ? model::slice(frame, 26, 4) : model::slice(frame, 22, 16);
    if (source.size() == 4) return !(source[0] == 10 && source[1] == 1);
    const auto client = address(gateway_.client(6));
    return !std::equal(client.bytes.begin(), client.bytes.begin() + 8, source.begin());
  }

  Gateway gateway_{1};
  channel::InstallSa tunnel_, transport_, in_udp_, ipv6_;
  std::uint64_t sequence_ = 0;
};

inline std::vector<std::pair<Entry, ByteString>> BadInputGateway::samples() {
  std::vector<std::pair<Entry, ByteString>> all;
  const auto frame = [&](Entry entry, dataplane::PortId port, const ByteString& ip) {
    all.emplace_back(entry, gateway_.frame(port, ip));
  };
  for (const unsigned family : {4U, 6U}) {
    const std::string us = gateway_.wan(family), peer = gateway_.peer(family);
    const std::string client = gateway_.client(family), far = gateway_.far_client(family);
    const ByteString datagram = model::udp(1000, 53, model::counting(40));
    const ByteString echo = family == 4 ? model::icmp(8, 0, model::counting(12))
                                        : model::icmp(128, 0, model::counting(12), peer, us);
    const std::uint8_t icmp = family == 4 ? 1 : 58;
    frame(Entry::wan_frame, kWan,
          model::ip({.source = peer, .destination = us, .protocol = icmp}, echo));
    frame(Entry::wan_frame, kWan, model::ip({.source = far, .destination = client}, datagram));
    frame(
        Entry::wan_frame, kWan,
        model::ip({.source = peer, .destination = us}, model::udp(500, 500, model::counting(28))));
    ByteString marked(4, 0);
    model::put(marked, model::counting(28));
    frame(Entry::wan_frame, kWan,
          model::ip({.source = peer, .destination = us}, model::udp(4500, 4500, marked)));
    frame(Entry::wan_frame, kWan,
          model::ip({.source = peer, .destination = us}, model::udp(4500, 4500, {0xff})));
    frame(
        Entry::wan_frame, kWan,
        model::ip({.source = peer, .destination = us, .protocol = 50},
                  model::esp_seal(model_of(family == 4 ? tunnel_ : ipv6_), 1, family == 4 ? 4 : 41,
                                  model::ip({.source = far, .destination = client}, datagram))));
    frame(Entry::lan_frame, kLan, model::ip({.source = client, .destination = far}, datagram));
    frame(Entry::lan_frame, kLan,
          model::ip({.source = client, .destination = far, .ttl = 1}, datagram));
    all.emplace_back(Entry::main_thread,
                     model::ip({.source = client, .destination = far}, datagram));
    for (const Entry entry : {Entry::tunnel, Entry::tunnel_in_udp, Entry::ipv6_tunnel}) {
      all.emplace_back(entry, model::ip({.source = far, .destination = client}, datagram));
    }
  }
  const std::string client = gateway_.client(4), far = gateway_.far_client(4),
                    client6 = gateway_.client(6), far6 = gateway_.far_client(6);
  frame(Entry::lan_frame, kLan,
        model::ip({.source = client, .destination = "10.3.0.9"}, model::udp(1, 53, {})));
  frame(Entry::lan_frame, kLan,
        model::ip({.source = client, .destination = far, .fragment = 0x2000},
                  model::udp(1, 2, model::counting(24))));
  frame(Entry::lan_frame, kLan,
        model::ip({.source = client, .destination = far, .options = {7, 7, 4, 0, 0, 0, 0, 0}},
                  model::udp(1, 2, {})));
  // Hop-by-hop, routing, fragment and destination options, in a row.
  ByteString chain{43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0,
                   60, 0, 0, 0, 0, 0, 0, 7, 17, 0, 1, 4, 0, 0, 0, 0};
  model::put(chain, model::udp(1, 2, model::counting(8)));
  frame(Entry::lan_frame, kLan,
        model::ip({.source = client6, .destination = far6, .protocol = 0}, chain));
  // ARP and neighbour solicitation.
  ByteString arp{0,   1,  8,   0, 6, 4, 0, 1, 2, 0, 0,   0,  9,   5,
                 198, 51, 100, 2, 0, 0, 0, 0, 0, 0, 198, 51, 100, 1};
  all.emplace_back(Entry::wan_frame,
                   model::ethernet(ByteString(6, 0xff), {2, 0, 0, 0, 9, 5}, 0x0806, arp));
  frame(
      Entry::wan_frame, kWan,
      model::ip(
          {.source = gateway_.peer(6), .destination = gateway_.wan(6), .protocol = 58, .ttl = 255},
          model::icmp(135, 0, model::counting(20), gateway_.peer(6), gateway_.wan(6))));
  all.emplace_back(Entry::transport, model::udp(1, 17, model::counting(17, 1)));
  // ICMP errors that selectors do not name: out of the SA for UDP, and into one.
  const auto error_about = [&](const std::string& sender, const std::string& other) {
    ByteString rest(4, 0);
    model::put(rest, model::ip({.source = sender, .destination = other},
                               model::udp(1000, 53, model::counting(40))));
    return model::ip({.source = "172.16.0.1", .destination = sender, .protocol = 1},
                     model::icmp(3, 4, rest));
  };
  all.emplace_back(Entry::tunnel_in_udp, error_about(client, far));
  frame(Entry::lan_frame, kLan, error_about("10.4.0.9", client));
  ByteString text =
      model::ip({.source = far, .destination = client}, model::udp(1, 2, model::counting(6)));
  model::put(text, model::esp_trailer(text.size(), 4, 2));
  all.emplace_back(Entry::tunnel_text, text);
  return all;
}

}  // namespace culvert::test
