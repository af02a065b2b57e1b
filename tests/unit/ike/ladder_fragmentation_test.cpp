// IKE fragmentation (RFC 7383): both roles, lost and doubled fragments, another division, bounds.
#include "ike/machine/reassembly.hpp"
#include "tests/unit/ike/ladder.hpp"

namespace culvert::ladder {
namespace {

using config::Fragmentation;
using wire::ike::EncryptedFragment;
using wire::ike::ExchangeType;

GatewayOptions small_pieces() {
  GatewayOptions options = gateway_a();
  options.fragment_size = 256;
  // Long enough for two pieces either way.
  options.children[0].local_ts = "10.1.0.0/24,10.1.4.0/24";
  options.children[0].remote_ts = "10.2.0.0/24,10.2.4.0/24";
  return options;
}
const EncryptedFragment* fragment_of(const wire::ike::Message& message) {
  return message.payloads.empty() ? nullptr
                                  : std::get_if<EncryptedFragment>(&message.payloads.back());
}
/// What stands on the wire, as fragment numbers; 0 for a whole message.
std::vector<unsigned> numbers_on(const std::vector<Flying>& wire) {
  std::vector<unsigned> numbers;
  for (const Flying& datagram : wire) {
    const auto message = wire::ike::parse_message(datagram.bytes);
    const auto* fragment = message ? fragment_of(*message) : nullptr;
    numbers.push_back(fragment != nullptr ? fragment->number : 0U);
  }
  return numbers;
}
/// Up to where a's IKE_AUTH request is on the wire.
void until_auth(Ladder& ladder) {
  ladder.initiate(kA);
  ladder("a --> b  IKE_SA_INIT request");
  ladder("b --> a  IKE_SA_INIT response");
  REQUIRE_FALSE(ladder.wire.empty());
}

TEST_CASE("fragmentation: what is above the size goes in pieces, both ways (RFC 7383 §2.5)") {
  Ladder ladder(small_pieces());
  until_auth(ladder);
  CHECK(numbers_on(ladder.wire) == std::vector<unsigned>{1, 2});
  for (const Flying& datagram : ladder.wire) CHECK(datagram.bytes.size() + 20 + 8 <= 256);
  ladder.run();
  ladder.converged();
  CHECK(ladder.ike_sa(kA).fragmentation);
  CHECK(ladder.ike_sa(kB).fragmentation);
  for (const int side : {kA, kB}) {
    CHECK(ladder.gateway(side).machine->counters().fragments_sent >= 2);
    CHECK(ladder.gateway(side).machine->counters().fragments_received >= 2);
    CHECK(ladder.gateway(side).machine->counters().fragments_discarded == 0);
  }
  // The successor of an IKE SA has agreed to what its predecessor had.
  ladder.rekey_ike(kB);
  ladder.run();
  ladder.rekey(kA);
  ladder.run();
  ladder.pass(seconds(40));
  ladder.run();
  ladder.converged();
  CHECK(ladder.ike_sa(kB).fragmentation);
}

TEST_CASE("fragmentation: with an NAT or IPv6 on the way a datagram is shorter still") {
  GatewayOptions options = small_pieces();
  options.encapsulation = config::Encapsulation::forced;
  options.address = "2001:db8::1";
  options.remote_address = "2001:db8::2";
  Ladder ladder(options);
  until_auth(ladder);
  for (const Flying& datagram : ladder.wire) {
    CHECK(datagram.local.port == 4500);
    CHECK(datagram.bytes.size() + 40 + 8 + 4 <= 256);
  }
  ladder.run();
  ladder.converged();
}

TEST_CASE("fragmentation: AES-CBC with padding is cut as well") {
  GatewayOptions options = small_pieces();
  options.ike_proposal = "aes256-sha512-modp2048";
  Ladder ladder(options);
  until_auth(ladder);
  for (const Flying& datagram : ladder.wire) CHECK(datagram.bytes.size() + 20 + 8 <= 256);
  ladder.run();
  ladder.converged();
}

TEST_CASE("fragmentation: nobody sends fragments unless both say so (RFC 7383 §2.3)") {
  const auto [ours, theirs] = GENERATE(std::pair{Fragmentation::no, Fragmentation::yes},
                                       std::pair{Fragmentation::yes, Fragmentation::no},
                                       std::pair{Fragmentation::no, Fragmentation::no});
  GatewayOptions a = small_pieces(), b = mirrored(a);
  a.fragmentation = ours;
  b.fragmentation = theirs;
  Ladder ladder(a, b);
  until_auth(ladder);
  CHECK(numbers_on(ladder.wire) == std::vector<unsigned>{0});
  ladder.run();
  ladder.converged();
  CHECK_FALSE(ladder.ike_sa(kA).fragmentation);
}

TEST_CASE("fragmentation: accept takes fragments and sends none") {
  GatewayOptions a = small_pieces(), b = mirrored(a);
  b.fragmentation = Fragmentation::accept;
  Ladder ladder(a, b);
  ladder.initiate(kA);
  ladder.run();
  ladder.converged();
  CHECK(ladder.gateway(kA).machine->counters().fragments_sent >= 2);
  CHECK(ladder.gateway(kB).machine->counters().fragments_sent == 0);
}

TEST_CASE("fragmentation: fragments in the wrong order are one message") {
  Ladder ladder(small_pieces());
  until_auth(ladder);
  std::ranges::reverse(ladder.wire);
  ladder.run();
  ladder.converged();
}

TEST_CASE("fragmentation: a lost fragment comes again with all the others (RFC 7383 §2.6.1)") {
  const std::size_t lost = GENERATE(0, 1);
  Ladder ladder(small_pieces());
  until_auth(ladder);
  ladder.wire.erase(ladder.wire.begin() + static_cast<long>(lost));
  ladder.run();
  CHECK(ladder.gateway(kB).machine->counters().half_open == 1);
  ladder.pass(milliseconds(600));
  CHECK(numbers_on(ladder.wire) == std::vector<unsigned>{1, 2});
  ladder.run();
  ladder.converged();
  // What was there already was not looked at a second time.
  CHECK(ladder.gateway(kB).machine->counters().fragments_discarded == (lost == 1 ? 1 : 0));
}

TEST_CASE("fragmentation: of a repeated request only the first fragment is answered (§2.6.1)") {
  Ladder ladder(small_pieces());
  until_auth(ladder);
  const std::vector<Flying> request = ladder.wire;
  ladder.run();
  ladder.world.deliver(request.at(1));
  ladder.silent();
  ladder.world.deliver(request.at(0));
  CHECK(numbers_on(ladder.wire) == std::vector<unsigned>{1, 2});
  ladder.run();
  ladder.converged();
}

TEST_CASE("fragmentation: a forged or corrupted fragment is dropped, the good ones count") {
  Ladder ladder(small_pieces());
  until_auth(ladder);
  Flying forged = ladder.wire.front();
  forged.bytes.back() ^= 1;
  ladder.world.deliver(forged);
  // The total is covered too: nobody can make us throw away what we have.
  Flying inflated = ladder.wire.front();
  inflated.bytes[35] = 9;
  ladder.world.deliver(inflated);
  CHECK(ladder.gateway(kB).machine->counters().fragments_discarded == 2);
  ladder.run();
  ladder.converged();
}

TEST_CASE("fragmentation: every prefix of a fragment is harmless") {
  Ladder ladder(small_pieces());
  until_auth(ladder);
  const Flying whole = ladder.wire.front();
  for (std::size_t length = 0; length < whole.bytes.size(); ++length) {
    Flying cut = whole;
    cut.bytes.resize(length);
    if (length >= wire::ike::kHeaderBytes) {
      wire::Writer writer(wire::MutableBytes(cut.bytes).subspan(24, 4));
      writer.u32(static_cast<std::uint32_t>(length));
    }
    ladder.world.deliver(cut);
  }
  ladder.run();
  ladder.converged();
}

wire::ike::Header header_with(std::uint32_t message_id) {
  wire::ike::Header header;
  header.exchange = ExchangeType::ike_auth;
  header.message_id = message_id;
  return header;
}
EncryptedFragment piece(std::uint16_t number, std::uint16_t total) {
  return {number == 1 ? wire::ike::PayloadType::id_initiator : wire::ike::PayloadType::none,
          number,
          total,
          36,
          {}};
}
crypto::SecretBytes octets(std::size_t count, std::uint8_t value) {
  return crypto::SecretBytes(crypto::Bytes(std::vector<std::uint8_t>(count, value)));
}

TEST_CASE("reassembly: a greater total begins anew, a smaller one is of the past (§2.6)") {
  ike::Reassembly pieces;
  const auto header = header_with(1);
  CHECK_FALSE(pieces.add(header, piece(1, 2), octets(4, 1)).has_value());
  REQUIRE(pieces.wants(header, piece(1, 3)));
  CHECK_FALSE(pieces.add(header, piece(1, 3), octets(3, 2)).has_value());
  CHECK(pieces.bytes() == 3);
  CHECK_FALSE(pieces.wants(header, piece(2, 2)));
  CHECK_FALSE(pieces.wants(header, piece(1, 3)));
  CHECK_FALSE(pieces.add(header, piece(3, 3), octets(1, 4)).has_value());
  const auto whole = pieces.add(header, piece(2, 3), octets(2, 3));
  REQUIRE(whole.has_value());
  CHECK(whole->first_inner == wire::ike::PayloadType::id_initiator);
  CHECK(std::ranges::equal(whole->chain.view(), std::vector<std::uint8_t>{2, 2, 2, 3, 3, 4}));
  CHECK(pieces.bytes() == 0);
}

TEST_CASE("reassembly: the next message takes the place of one that never became whole") {
  ike::Reassembly pieces;
  CHECK_FALSE(pieces.add(header_with(1), piece(1, 2), octets(4, 1)).has_value());
  REQUIRE(pieces.wants(header_with(2), piece(2, 2)));
  CHECK_FALSE(pieces.add(header_with(2), piece(2, 2), octets(4, 2)).has_value());
  CHECK(pieces.bytes() == 4);
}

TEST_CASE("reassembly: memory is bounded in fragments and in octets (§2.6)") {
  ike::Reassembly pieces;
  CHECK_FALSE(pieces.wants(header_with(1), piece(1, ike::kMaxFragments + 1)));
  CHECK(pieces.wants(header_with(1), piece(1, ike::kMaxFragments)));
  std::size_t most = 0;
  for (std::uint16_t number = 1; number < 100; ++number) {
    CHECK_FALSE(pieces.add(header_with(1), piece(number, 100), octets(1200, 1)).has_value());
    most = std::max(most, pieces.bytes());
  }
  CHECK(most <= ike::kMaxReassembledBytes);
}

}  // namespace
}  // namespace culvert::ladder
