// Our ESP against an independent implementation (OpenSSL's EVP, tests/model): it opens what we
// sealed and we open what it sealed, in every mode, family, encapsulation and key size.
#include <algorithm>

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/worker/gateway.hpp"

namespace culvert::test {
namespace {

using channel::Direction;
using channel::SaMode;

/// What an SA looks like.
struct Shape {
  SaMode mode;
  unsigned outer, inner;  ///< families
  bool udp, esn;
  std::uint16_t key_bits;

  /// What packets of known flows go the short way by (dataplane/tables/sa.hpp).
  [[nodiscard]] bool is_plain() const { return mode == SaMode::tunnel && !(udp && outer == 6); }
  [[nodiscard]] std::string name() const {
    return (mode == SaMode::tunnel ? std::to_string(inner) + "in" + std::to_string(outer)
                                   : "transport" + std::to_string(outer)) +
           (udp ? " udp" : "") + (esn ? " esn" : "") + " aes" + std::to_string(key_bits);
  }
};

std::vector<Shape> all_shapes() {
  std::vector<Shape> shapes;
  for (const bool udp : {false, true}) {
    for (const bool esn : {false, true}) {
      for (const std::uint16_t bits : std::initializer_list<std::uint16_t>{128, 192, 256}) {
        for (const unsigned outer : {4U, 6U}) {
          shapes.push_back({SaMode::transport, outer, outer, udp, esn, bits});
          for (const unsigned inner : {4U, 6U}) {
            shapes.push_back({SaMode::tunnel, outer, inner, udp, esn, bits});
          }
        }
      }
    }
  }
  return shapes;
}

/// The ESP packet in a frame to the peer; every header around it is checked.
ByteString esp_of(const Gateway& gateway, const Shape& shape, const ByteString& frame) {
  const bool is_v4 = shape.outer == 4;
  const std::size_t ip_bytes = is_v4 ? 20 : 40;
  const ByteString ip = model::slice(frame, 14, frame.size() - 14);
  CHECK(model::slice(frame, 0, 6) == Gateway::mac(kWan, gateway.peer_site()));
  CHECK(ip[is_v4 ? 9 : 6] == (shape.udp ? 17 : 50));
  if (is_v4) {
    CHECK(model::get16(ip, 2) == ip.size());
    CHECK(model::internet_checksum(model::slice(ip, 0, 20)) == 0);
  } else {
    CHECK(model::get16(ip, 4) == ip.size() - 40);
  }
  const auto local = address(gateway.wan(shape.outer)), remote = address(gateway.peer(shape.outer));
  ByteString addresses(local.view().begin(), local.view().end());
  addresses.insert(addresses.end(), remote.view().begin(), remote.view().end());
  CHECK(model::slice(ip, is_v4 ? 12 : 8, addresses.size()) == addresses);
  const ByteString payload = model::slice(ip, ip_bytes, ip.size() - ip_bytes);
  if (!shape.udp) return payload;
  CHECK(model::get16(payload, 0) == 4500);
  CHECK(model::get16(payload, 2) == 4500);
  CHECK(model::get16(payload, 4) == payload.size());
  if (is_v4) {
    CHECK(model::get16(payload, 6) == 0);  // RFC 3948 §2.1: SHOULD be zero over IPv4
  } else {
    // RFC 8200 §8.1: never zero over IPv6, and right.
    CHECK(model::get16(payload, 6) != 0);
    ByteString summed = addresses;
    model::put32(summed, payload.size());
    model::put32(summed, 17);
    model::put(summed, payload);
    CHECK(model::internet_checksum(summed) == 0);
  }
  return model::slice(payload, 8, payload.size() - 8);
}

/// The same packet a hop further.
ByteString hop(ByteString ip) {
  if (ip[0] >> 4U == 6) {
    --ip[7];
    return ip;
  }
  --ip[8];
  ip[10] = ip[11] = 0;
  const unsigned checksum = model::internet_checksum(model::slice(ip, 0, (ip[0] & 15U) * 4U));
  ip[10] = static_cast<std::uint8_t>(checksum >> 8U);
  ip[11] = static_cast<std::uint8_t>(checksum);
  return ip;
}

/// A gateway with one SA each way.
class Bench {
 public:
  void use(const Shape& next, std::uint32_t spi) {
    if (out.sa != channel::SaId{}) {
      static_cast<void>(gateway.tables().sad->remove(out.sa));
      static_cast<void>(gateway.tables().sad->remove(in.sa));
    }
    shape = next;
    out = request(spi, Direction::out);
    in = request(spi + 0x10000, Direction::in);
    gateway.tables().spd->replace({Gateway::protect(out, gateway.install(out))});
    static_cast<void>(gateway.install(in));
    gateway.run();
    gateway.forget();
  }
  /// A packet of the protected flow, from our side or from the peer's, with `bytes` of UDP payload.
  [[nodiscard]] ByteString packet(std::size_t bytes, bool from_peer) const {
    const bool is_tunnel = shape.mode == SaMode::tunnel;
    const std::string ours = is_tunnel ? gateway.client(shape.inner) : gateway.wan(shape.outer);
    const std::string theirs =
        is_tunnel ? gateway.far_client(shape.inner) : gateway.peer(shape.outer);
    return model::ip(
        {.source = from_peer ? theirs : ours, .destination = from_peer ? ours : theirs},
        model::udp(1234, 5678, model::counting(bytes)));
  }
  /// What of a packet is inside ESP.
  [[nodiscard]] ByteString protected_part(const ByteString& ip) const {
    if (shape.mode == SaMode::tunnel) return ip;
    const std::size_t header = shape.outer == 4 ? 20 : 40;
    return model::slice(ip, header, ip.size() - header);
  }
  [[nodiscard]] std::uint8_t next_header() const {
    if (shape.mode == SaMode::transport) return 17;
    return shape.inner == 4 ? 4 : 41;
  }
  void send(const ByteString& ip) {
    if (shape.mode == SaMode::transport) {
      gateway.inject(dataplane::InjectKind::outbound_local, ip, kWan);
    } else {
      gateway.feed_ip(kLan, ip);
    }
  }
  void send_dummy(const ByteString& ip) {
    gateway.inject({.kind = dataplane::InjectKind::dummy,
                    .outbound = gateway.tables().sad->find(out.sa)->slot,
                    .sa = static_cast<std::uint64_t>(out.sa)},
                   ip);
  }
  void receive(const ByteString& esp) {
    const std::string from = gateway.peer(shape.outer), to = gateway.wan(shape.outer);
    gateway.feed_ip(kWan, model::ip({.source = from,
                                     .destination = to,
                                     .protocol = static_cast<std::uint8_t>(shape.udp ? 17 : 50)},
                                    shape.udp ? model::udp(4500, 4500, esp) : esp));
  }
  /// What came through: out of the LAN port, or for ourselves.
  [[nodiscard]] std::vector<ByteString> arrived() const {
    std::vector<ByteString> packets;
    for (const ByteString& frame : gateway.sent[1]) {
      packets.push_back(model::slice(frame, 14, frame.size() - 14));
    }
    for (const Punt& punt : gateway.punts) {
      CHECK(punt.what.reason == dataplane::PuntReason::port_unreachable);
      CHECK(punt.what.from_tunnel);
      packets.push_back(punt.bytes);
    }
    return packets;
  }

  Gateway gateway{1};
  Shape shape{SaMode::tunnel, 4, 4, false, false, 128};
  channel::InstallSa out, in;

 private:
  [[nodiscard]] channel::InstallSa request(std::uint32_t spi, Direction direction) const {
    channel::InstallSa sa = gateway.request(spi, direction, spi, shape.outer, shape.inner);
    sa.mode = shape.mode;
    sa.esn = shape.esn;
    sa.udp_encapsulation = shape.udp;
    if (shape.udp) sa.local.port = sa.remote.port = 4500;
    sa.suite.key_bits = shape.key_bits;
    static_cast<void>(sa.key.assign(keymat(shape.key_bits, static_cast<std::uint8_t>(spi))));
    if (shape.mode == SaMode::transport) {
      sa.local_selectors = selectors({gateway.wan(shape.outer)});
      sa.remote_selectors = selectors({gateway.peer(shape.outer)});
    }
    return sa;
  }
};

TEST_CASE("independent ESP: OpenSSL opens what we seal, of every shape and size (RFC 4303 §3.3)") {
  Bench bench;
  std::uint32_t spi = 0x1000;
  for (const Shape& shape : all_shapes()) {
    CAPTURE(shape.name());
    bench.use(shape, ++spi);
    std::uint64_t sequence = 0;
    for (std::size_t size = 0; size < 1340; size += size < 70 ? 1 : 97) {
      CAPTURE(size);
      const ByteString ip = bench.packet(size, false);
      bench.send(ip);
      bench.gateway.run();
      REQUIRE(bench.gateway.sent[0].size() == 1);
      // Of the first one the flow is learnt.
      CHECK(bench.gateway.went_the_short_way() == (shape.is_plain() && sequence != 0));
      const ByteString esp = esp_of(bench.gateway, shape, bench.gateway.sent[0].front());
      const auto contents = model::esp_open(model_of(bench.out), 0, esp);
      REQUIRE(contents);
      CHECK(contents->sequence == ++sequence);
      CHECK(contents->next_header == bench.next_header());
      const bool is_forwarded = shape.mode == SaMode::tunnel;
      CHECK(contents->payload == bench.protected_part(is_forwarded ? hop(ip) : ip));
      // RFC 4303 §2.4: 1, 2, 3…, no more than alignment needs.
      CHECK(contents->padding.size() < 4);
      CHECK(contents->padding == model::counting(contents->padding.size(), 1));
      CHECK(esp.size() % 4 == 0);
      bench.gateway.forget();
    }
  }
  CHECK(bench.gateway.all_drops() == 0);
  CHECK(bench.gateway.unaccounted() == 0);
}

TEST_CASE(
    "independent ESP: in a dummy OpenSSL finds next header 59, of every shape (RFC 4303 §2.6)") {
  Bench bench;
  std::uint32_t spi = 0x4000;
  for (const Shape& shape : all_shapes()) {
    CAPTURE(shape.name());
    bench.use(shape, ++spi);
    const std::string from = bench.gateway.wan(shape.outer), to = bench.gateway.peer(shape.outer);
    for (std::size_t size : {20U, 21U, 22U, 23U, 1000U}) {
      CAPTURE(size);
      const ByteString ip =
          model::ip({.source = from, .destination = to, .protocol = 59}, model::counting(size));
      bench.send_dummy(ip);
      bench.gateway.run();
      REQUIRE(bench.gateway.sent[0].size() == 1);
      const ByteString esp = esp_of(bench.gateway, shape, bench.gateway.sent[0].front());
      const auto contents = model::esp_open(model_of(bench.out), 0, esp);
      REQUIRE(contents);
      CHECK(contents->next_header == 59);
      CHECK(contents->payload == bench.protected_part(ip));
      bench.gateway.forget();
    }
  }
  CHECK(bench.gateway.all_drops() == 0);
  CHECK(bench.gateway.unaccounted() == 0);
}

TEST_CASE(
    "independent ESP: we open what OpenSSL sealed, of every shape, with any amount of padding "
    "(RFC 4303 §2.4, §3.4)") {
  Bench bench;
  std::uint32_t spi = 0x2000;
  for (const Shape& shape : all_shapes()) {
    CAPTURE(shape.name());
    bench.use(shape, ++spi);
    std::uint64_t sequence = 0;
    for (const std::size_t words : {0U, 1U, 7U, 62U}) {
      for (const std::size_t size : {0U, 1U, 2U, 3U, 100U, 900U}) {
        CAPTURE(words, size);
        const ByteString ip = bench.packet(size, true);
        const ByteString payload = bench.protected_part(ip);
        bench.receive(
            model::esp_seal_raw(model_of(bench.in), ++sequence, payload,
                                model::esp_trailer(payload.size(), bench.next_header(), words)));
        bench.gateway.run();
        CHECK(bench.gateway.went_the_short_way() == shape.is_plain());
        const auto arrived = bench.arrived();
        REQUIRE(arrived.size() == 1);
        CHECK(arrived.front() == (shape.mode == SaMode::tunnel ? hop(ip) : ip));
        bench.gateway.forget();
      }
    }
  }
  CHECK(bench.gateway.all_drops() == 0);
  CHECK(bench.gateway.unaccounted() == 0);
}

TEST_CASE(
    "independent ESP: with ESN both go on over 2^32, with the high half in the ICV only "
    "(RFC 4303 §2.2.1)") {
  constexpr std::uint64_t k32 = std::uint64_t{1} << 32U;
  Bench bench;
  bench.use({SaMode::tunnel, 4, 4, false, true, 256}, 0x3000);
  bench.gateway.tables()
      .sad->outbound(bench.gateway.tables().sad->find(bench.out.sa)->slot)
      ->sequence = k32 - 33;
  for (std::size_t n = 0; n < 64; ++n) bench.send(bench.packet(n, false));
  bench.gateway.run();
  REQUIRE(bench.gateway.sent[0].size() == 64);
  for (std::size_t n = 0; n < 64; ++n) {
    const ByteString esp = esp_of(bench.gateway, bench.shape, bench.gateway.sent[0][n]);
    const std::uint64_t sequence = k32 - 32 + n;
    const auto high = static_cast<std::uint32_t>(sequence >> 32U);
    const auto contents = model::esp_open(model_of(bench.out), high, esp);
    REQUIRE(contents);
    CHECK(contents->sequence == sequence);
    CHECK(contents->payload == hop(bench.packet(n, false)));
    CHECK_FALSE(model::esp_open(model_of(bench.out), high + 1, esp));
  }
  bench.gateway.forget();
  bench.gateway.tables().sad->inbound(static_cast<std::uint32_t>(bench.in.spi))->highest = k32 - 33;
  for (std::size_t n = 0; n < 64; ++n) {
    bench.receive(model::esp_seal(model_of(bench.in), k32 - 32 + n, 4, bench.packet(n, true)));
  }
  bench.gateway.run();
  CHECK(bench.arrived().size() == 64);
  CHECK(bench.gateway.all_drops() == 0);
}

}  // namespace
}  // namespace culvert::test
