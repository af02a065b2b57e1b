#include <algorithm>
#include <random>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/worker/fragment.hpp"
#include "dataplane/worker/reassembly.hpp"

namespace culvert::dataplane {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes random_bytes(std::size_t count, std::mt19937& random) {
  Bytes bytes(count);
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

Bytes v4(std::size_t payload, std::mt19937& random, const Bytes& options = {},
         std::uint16_t flags = 0) {
  const std::size_t header = wire::ipv4::kHeaderBytes + options.size();
  Bytes packet(header);
  packet[0] = static_cast<std::uint8_t>(0x40U | header / 4U);
  std::ranges::copy(options, packet.begin() + wire::ipv4::kHeaderBytes);
  wire::store_u16(packet.data() + wire::ipv4::kTotalLength,
                  static_cast<std::uint16_t>(header + payload));
  wire::store_u16(packet.data() + wire::ipv4::kIdentification, 0x1234);
  wire::store_u16(packet.data() + wire::ipv4::kFragment, flags);
  packet[wire::ipv4::kTtl] = 60;
  packet[wire::ipv4::kProtocol] = 50;
  wire::store_u32(packet.data() + wire::ipv4::kSource, 0x0a000001);
  wire::store_u32(packet.data() + wire::ipv4::kDestination, 0x0a000002);
  wire::write_ipv4_checksum(packet.data(), header);
  const Bytes data = random_bytes(payload, random);
  packet.insert(packet.end(), data.begin(), data.end());
  return packet;
}

/// `chain`: extension headers in front of ESP, each {type, 8-byte units - 1}.
Bytes v6(std::size_t payload, std::mt19937& random,
         const std::vector<std::pair<std::uint8_t, std::uint8_t>>& chain = {}) {
  Bytes packet(wire::ipv6::kHeaderBytes);
  packet[0] = 0x60;
  packet[wire::ipv6::kHopLimit] = 60;
  packet[wire::ipv6::kSource] = 0x20;
  packet[wire::ipv6::kDestination + 15] = 2;
  std::size_t named_at = wire::ipv6::kNextHeader;
  for (const auto& [type, units] : chain) {
    packet[named_at] = type;
    named_at = packet.size();
    packet.resize(packet.size() + (units + 1U) * 8U);
    packet[named_at + 1] = units;
  }
  packet[named_at] = 50;
  const Bytes data = random_bytes(payload, random);
  packet.insert(packet.end(), data.begin(), data.end());
  wire::store_u16(packet.data() + wire::ipv6::kPayloadLength,
                  static_cast<std::uint16_t>(packet.size() - wire::ipv6::kHeaderBytes));
  return packet;
}

std::vector<Bytes> cut_up(const Bytes& packet, std::uint16_t mtu) {
  const auto cut = cut_for(packet, mtu, 0x89abcdef);
  REQUIRE(cut);
  std::vector<Bytes> pieces;
  for (std::uint16_t index = 0; index < cut->count; ++index) {
    Bytes piece(mtu, 0xee);
    piece.resize(write_fragment(packet, *cut, index, piece));
    REQUIRE(wire::parse_ip(piece));
    CHECK(wire::parse_ip(piece)->is_fragment);
    CHECK(wire::parse_ip(piece)->total_bytes == piece.size());
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

/// Fragments with names for their buffers, so that each can be accounted for.
class Assembly {
 public:
  Reassembler::Outcome give(const Bytes& piece, std::uint64_t now = 0,
                            PacketOrigin origin = PacketOrigin::clear) {
    pieces_.push_back(std::make_unique<Bytes>(piece));
    const auto header = wire::parse_ip(*pieces_.back());
    REQUIRE(header);
    // The reassembler only hands the name of a buffer back.
    auto* const name = reinterpret_cast<rte_mbuf*>(pieces_.back().get());
    const auto outcome = reassembler.accept({name, pieces_.back()->data(), *header, origin}, now);
    settle();
    return outcome;
  }
  Bytes whole() {
    Bytes packet(reassembler.whole_bytes());
    reassembler.write(packet);
    settle();
    return packet;
  }
  void settle() {
    for (const auto& ended : reassembler.ended()) {
      ++(ended.is_merged ? merged : dropped[static_cast<std::size_t>(ended.reason)]);
    }
    for (const auto& first : reassembler.overdue()) overdue.push_back(*name_of(first.buffer));
    reassembler.forget_ended();
  }
  std::size_t count(DropReason reason) const { return dropped[static_cast<std::size_t>(reason)]; }

  Reassembler reassembler{1000};
  std::size_t merged = 0;
  std::vector<Bytes> overdue;
  std::array<std::size_t, kDropReasons> dropped{};

 private:
  static const Bytes* name_of(const rte_mbuf* buffer) {
    return reinterpret_cast<const Bytes*>(buffer);
  }

  std::vector<std::unique_ptr<Bytes>> pieces_;
};

using Outcome = Reassembler::Outcome;

}  // namespace

TEST_CASE("fragments: any packet, cut for any MTU, shuffled, comes together as it was") {
  std::mt19937 random(1);
  for (int round = 0; round < 400; ++round) {
    const std::size_t payload = 1500 + random() % 8000;
    const auto mtu = static_cast<std::uint16_t>(576 + random() % 924);
    Bytes packet;
    switch (random() % 4) {
      case 0:
        packet = v4(payload, random);
        break;
      case 1:  // router alert, copied, in front of a record route that is not
        packet = v4(payload, random, {0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0});
        break;
      case 2:
        packet = v6(payload, random);
        break;
      default:  // hop-by-hop, destination options, routing: all unfragmentable; destination: not
        packet = v6(payload, random, {{0, 0}, {60, 1}, {43, 2}, {60, 0}});
    }
    std::vector<Bytes> pieces = cut_up(packet, mtu);
    REQUIRE(pieces.size() >= 2);
    for (const Bytes& piece : pieces) CHECK(piece.size() <= mtu);
    std::ranges::shuffle(pieces, random);
    Assembly assembly;
    for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
      REQUIRE(assembly.give(pieces[i]) == Outcome::held);
    }
    REQUIRE(assembly.give(pieces.back()) == Outcome::whole);
    INFO("round " << round);
    CHECK(assembly.whole() == packet);
    CHECK(assembly.merged == pieces.size());
    CHECK(assembly.reassembler.held() == 0);
  }
}

TEST_CASE("fragments: only IPv4 options with the copied flag go into later ones (RFC 791 §3.1)") {
  std::mt19937 random(2);
  const auto pieces = cut_up(v4(3000, random, {0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0}), 1500);
  CHECK((pieces[0][0] & 0x0fU) == 8);
  CHECK((pieces[1][0] & 0x0fU) == 6);
  CHECK(pieces[1][20] == 0x94);
}

TEST_CASE("fragments: an IPv4 fragment is cut further and keeps its place and its MF") {
  std::mt19937 random(3);
  const Bytes packet = v4(4000, random);
  std::vector<Bytes> pieces;
  for (const Bytes& large : cut_up(packet, 1500)) {
    if (large.size() <= 600) {
      pieces.push_back(large);
      continue;
    }
    for (Bytes& small : cut_up(large, 600)) pieces.push_back(std::move(small));
  }
  Assembly assembly;
  Outcome last = Outcome::held;
  for (const Bytes& piece : pieces) last = assembly.give(piece);
  REQUIRE(last == Outcome::whole);
  CHECK(assembly.whole() == packet);
}

TEST_CASE("fragments: what cannot be cut is said so") {
  std::mt19937 random(4);
  const Bytes packet = v6(3000, random);
  CHECK_FALSE(cut_for(packet, 50, 1));
  CHECK_FALSE(cut_for(cut_up(packet, 1280)[0], 1000, 1));  // RFC 8200 §4.5: only at the source
  for (std::size_t length = 0; length < 60; ++length) {
    CHECK_FALSE(cut_for(wire::Bytes(packet).first(length), 1280, 1));
  }
}

TEST_CASE("reassembly: an overlap ends the packet and all that still comes of it (RFC 5722 §4)") {
  std::mt19937 random(5);
  for (const bool is_v4 : {true, false}) {
    const auto pieces = cut_up(is_v4 ? v4(4000, random) : v6(4000, random), 1400);
    Bytes moved = pieces[1];
    std::uint8_t* const field = moved.data() + (is_v4 ? wire::ipv4::kFragment : 42);
    const std::uint16_t step = is_v4 ? 1 : 8;
    wire::store_u16(field, static_cast<std::uint16_t>(wire::load_u16(field) - step));
    if (is_v4) wire::write_ipv4_checksum(moved.data(), 20);
    Assembly assembly;
    CHECK(assembly.give(pieces[0]) == Outcome::held);
    CHECK(assembly.give(moved) == Outcome::refused);
    CHECK(assembly.give(pieces[1]) == Outcome::refused);
    CHECK(assembly.give(pieces[2]) == Outcome::refused);
    CHECK(assembly.count(DropReason::fragment_overlap) == 4);
    CHECK(assembly.reassembler.held() == 0);
  }
}

TEST_CASE("reassembly: a fragment that the network doubled is dropped alone") {
  std::mt19937 random(6);
  const Bytes packet = v4(3000, random);
  const auto pieces = cut_up(packet, 1400);
  Assembly assembly;
  CHECK(assembly.give(pieces[2]) == Outcome::held);
  CHECK(assembly.give(pieces[0]) == Outcome::held);
  CHECK(assembly.give(pieces[0]) == Outcome::refused);
  CHECK(assembly.give(pieces[1]) == Outcome::whole);
  CHECK(assembly.whole() == packet);
  CHECK(assembly.count(DropReason::fragment_overlap) == 1);
}

TEST_CASE("reassembly: a double that differs is an overlap (RFC 8200 §4.5)") {
  std::mt19937 random(16);
  const auto pieces = cut_up(v4(3000, random), 1400);
  Bytes forged = pieces[1];
  SECTION("in its data") { forged.back() ^= 1; }
  SECTION("in what follows it") {
    forged[wire::ipv4::kFragment] &= 0xdfU;
    wire::write_ipv4_checksum(forged.data(), 20);
  }
  Assembly assembly;
  CHECK(assembly.give(pieces[1]) == Outcome::held);
  CHECK(assembly.give(forged) == Outcome::refused);
  CHECK(assembly.give(pieces[0]) == Outcome::refused);
  CHECK(assembly.give(pieces[2]) == Outcome::refused);
  CHECK(assembly.count(DropReason::fragment_overlap) == 4);
}

TEST_CASE("reassembly: nothing that came in clear completes what came through an SA") {
  std::mt19937 random(17);
  const Bytes packet = v4(3000, random);
  const auto pieces = cut_up(packet, 1400);
  Assembly assembly;
  CHECK(assembly.give(pieces[0], 0, PacketOrigin::tunnel) == Outcome::held);
  CHECK(assembly.give(pieces[1], 0, PacketOrigin::clear) == Outcome::held);
  CHECK(assembly.give(pieces[2], 0, PacketOrigin::tunnel) == Outcome::held);
  CHECK(assembly.give(pieces[1], 0, PacketOrigin::tunnel) == Outcome::whole);
  CHECK(assembly.whole() == packet);
  CHECK(assembly.reassembler.held() == 1);
}

TEST_CASE("reassembly: a mark of congestion on one fragment is kept (RFC 3168 §5.3)") {
  std::mt19937 random(18);
  const bool is_v4 = GENERATE(true, false);
  const auto marked = [&](Bytes piece, unsigned ecn) {
    piece[1] = static_cast<std::uint8_t>(piece[1] | ecn << (is_v4 ? 0U : 4U));
    if (is_v4) wire::write_ipv4_checksum(piece.data(), 20);
    return piece;
  };
  const Bytes packet = is_v4 ? v4(3000, random) : v6(3000, random);
  const auto pieces = cut_up(packet, 1400);
  Assembly assembly;
  SECTION("the packet has it") {
    CHECK(assembly.give(marked(pieces[0], 2)) == Outcome::held);
    CHECK(assembly.give(marked(pieces[1], 3)) == Outcome::held);
    CHECK(assembly.give(marked(pieces[2], 2)) == Outcome::whole);
    CHECK(assembly.whole() == marked(packet, 3));
  }
  SECTION("or is dropped, when another has no ECN") {
    CHECK(assembly.give(pieces[0]) == Outcome::held);
    CHECK(assembly.give(marked(pieces[1], 3)) == Outcome::held);
    CHECK(assembly.give(pieces[2]) == Outcome::refused);
    CHECK(assembly.count(DropReason::congestion_marked) == 3);
    CHECK(assembly.reassembler.held() == 0);
  }
  SECTION("one that all have stays") {
    CHECK(assembly.give(marked(pieces[0], 1)) == Outcome::held);
    CHECK(assembly.give(marked(pieces[1], 1)) == Outcome::held);
    CHECK(assembly.give(marked(pieces[2], 1)) == Outcome::whole);
    CHECK(assembly.whole() == marked(packet, 1));
  }
}

TEST_CASE("reassembly: impossible fragments are refused (RFC 8200 §4.5)") {
  std::mt19937 random(7);
  Bytes ragged = cut_up(v4(3000, random), 1400)[0];
  ragged.resize(ragged.size() - 1);
  wire::store_u16(ragged.data() + wire::ipv4::kTotalLength,
                  static_cast<std::uint16_t>(ragged.size()));
  wire::write_ipv4_checksum(ragged.data(), 20);
  Bytes beyond = cut_up(v4(3000, random), 1400)[0];
  wire::store_u16(beyond.data() + wire::ipv4::kFragment, 0x1fff);
  wire::write_ipv4_checksum(beyond.data(), 20);
  Assembly assembly;
  CHECK(assembly.give(ragged) == Outcome::refused);
  CHECK(assembly.give(beyond) == Outcome::refused);
  CHECK(assembly.count(DropReason::fragment_invalid) == 2);
}

TEST_CASE("reassembly: what lies beyond the last fragment is an overlap") {
  std::mt19937 random(8);
  const auto pieces = cut_up(v4(4000, random), 1400);
  Bytes last = pieces[1];  // says that the packet ends in its middle
  wire::store_u16(
      last.data() + wire::ipv4::kFragment,
      static_cast<std::uint16_t>(wire::load_u16(last.data() + wire::ipv4::kFragment) & ~0x2000U));
  wire::write_ipv4_checksum(last.data(), 20);
  SECTION("it comes first") {
    Assembly assembly;
    CHECK(assembly.give(last) == Outcome::held);
    CHECK(assembly.give(pieces[2]) == Outcome::refused);
  }
  SECTION("it comes later") {
    Assembly assembly;
    CHECK(assembly.give(pieces[2]) == Outcome::held);
    CHECK(assembly.give(last) == Outcome::refused);
  }
}

TEST_CASE("reassembly: a packet that stays incomplete ends after its lifetime") {
  std::mt19937 random(9);
  const auto pieces = cut_up(v4(3000, random), 1400);
  Assembly assembly;
  CHECK(assembly.give(pieces[2], 0) == Outcome::held);
  CHECK(assembly.give(pieces[0], 500) == Outcome::held);  // which does not begin it anew
  assembly.reassembler.expire(999);
  assembly.settle();
  CHECK(assembly.reassembler.held() == 2);
  SECTION("when somebody looks") {
    assembly.reassembler.expire(1000);
    assembly.settle();
    CHECK(assembly.reassembler.held() == 0);
  }
  SECTION("or when its room is another's") {
    const bool is_of_other_source = GENERATE(false, true);
    for (std::size_t i = 0; i < Reassembler::kPackets; ++i) {
      Bytes other = pieces[1];
      if (is_of_other_source) other[wire::ipv4::kSource] ^= 1;
      wire::store_u16(&other[wire::ipv4::kIdentification], static_cast<std::uint16_t>(i));
      wire::write_ipv4_checksum(other.data(), 20);
      CHECK(assembly.give(other, 1000) == Outcome::held);
    }
    CHECK(assembly.count(DropReason::reassembly_full) == 0);
  }
  CHECK(assembly.count(DropReason::reassembly_timeout) == 1);
  CHECK(assembly.overdue == std::vector<Bytes>{pieces[0]});
  CHECK(assembly.give(pieces[1], 1001) == Outcome::held);
  CHECK(assembly.give(pieces[2], 1001) == Outcome::held);
}

TEST_CASE("reassembly: a flood of first fragments holds no more than its bounds, the oldest go") {
  std::mt19937 random(10);
  Assembly assembly;
  for (std::uint32_t i = 0; i < 5000; ++i) {
    Bytes piece = cut_up(v4(3000, random), 1400)[0];
    wire::store_u16(piece.data() + wire::ipv4::kIdentification, static_cast<std::uint16_t>(i));
    wire::write_ipv4_checksum(piece.data(), 20);
    CHECK(assembly.give(piece, i / 10) == Outcome::held);
    CHECK(assembly.reassembler.held() <= Reassembler::kPackets);
  }
  CHECK(assembly.count(DropReason::reassembly_full) == 5000 - Reassembler::kPackets);
}

TEST_CASE("reassembly: pieces of packets that never end keep nobody out, the oldest go") {
  std::mt19937 random(13);
  const std::uint64_t now = GENERATE(0, 500);  // all at once, or one after the other
  Assembly assembly;
  std::uint64_t given = 0;
  const auto flood = [&](std::size_t pieces) {
    const Bytes part = v4(8, random, {}, wire::ipv4::kMoreFragments);
    for (std::size_t i = 0; i < pieces; ++i, ++given) {
      // Of each packet one piece fewer than are kept.
      Bytes piece = part;
      const std::uint64_t place = given % (Reassembler::kFragments - 1);
      wire::store_u16(piece.data() + wire::ipv4::kIdentification,
                      static_cast<std::uint16_t>(given / (Reassembler::kFragments - 1)));
      wire::store_u16(piece.data() + wire::ipv4::kFragment,
                      static_cast<std::uint16_t>(wire::ipv4::kMoreFragments | place));
      piece[wire::ipv4::kSource] = 11;
      wire::write_ipv4_checksum(piece.data(), wire::ipv4::kHeaderBytes);
      CHECK(assembly.give(piece, now * given / 1024) == Outcome::held);
      CHECK(assembly.reassembler.held() <= Reassembler::kBuffers);
    }
  };
  flood(22 * (Reassembler::kFragments - 1));
  const std::size_t gone = assembly.count(DropReason::reassembly_full);
  CHECK(gone == Reassembler::kFragments - 1);  // one packet's, which was enough
  const Bytes packet = v4(3000, random);
  const auto pieces = cut_up(packet, 1400);
  CHECK(assembly.give(pieces[2], now) == Outcome::held);
  flood(900);
  CHECK(assembly.give(pieces[0], now) == Outcome::held);
  CHECK(assembly.give(pieces[1], now) == Outcome::whole);
  CHECK(assembly.whole() == packet);
  CHECK(assembly.merged == pieces.size());
  CHECK(given == assembly.reassembler.held() + assembly.count(DropReason::reassembly_full));
}

TEST_CASE("reassembly: a source that floods displaces its own packets, not another's") {
  std::mt19937 random(14);
  const bool is_v6 = GENERATE(false, true);
  const std::size_t of_one = GENERATE(1, Reassembler::kFragments - 1);
  Assembly assembly;
  const Bytes packet = is_v6 ? v6(3000, random) : v4(3000, random);
  const auto pieces = cut_up(packet, 1400);
  CHECK(assembly.give(pieces[2]) == Outcome::held);
  Bytes part = cut_up(is_v6 ? v6(3000, random) : v4(3000, random), 60)[0];
  part[is_v6 ? 8 : wire::ipv4::kSource] ^= 1;
  for (std::uint32_t i = 0; i < 5000; ++i) {
    const auto place = static_cast<std::uint16_t>(i % of_one * 8);
    const auto id = static_cast<std::uint16_t>(i / of_one);
    part.resize(is_v6 ? 56 : 28);
    if (is_v6) {
      wire::store_u16(&part[wire::ipv6::kPayloadLength], 16);
      wire::store_u16(&part[42], static_cast<std::uint16_t>(place | 1U));
      wire::store_u16(&part[46], id);
      part[8 + 15] = static_cast<std::uint8_t>(id);  // any address of a network
    } else {
      wire::store_u16(&part[wire::ipv4::kTotalLength], 28);
      wire::store_u16(&part[wire::ipv4::kIdentification], id);
      wire::store_u16(&part[wire::ipv4::kFragment],
                      static_cast<std::uint16_t>(wire::ipv4::kMoreFragments | place / 8U));
      wire::write_ipv4_checksum(part.data(), wire::ipv4::kHeaderBytes);
    }
    CHECK(assembly.give(part) == Outcome::held);
  }
  CHECK(assembly.count(DropReason::reassembly_full) > 3000);
  CHECK(assembly.give(pieces[0]) == Outcome::held);
  REQUIRE(assembly.give(pieces[1]) == Outcome::whole);
  CHECK(assembly.whole() == packet);
}

TEST_CASE("reassembly: a packet in more pieces than any honest one is refused") {
  std::mt19937 random(11);
  const auto pieces = cut_up(v4(8 * 60, random), 28);
  REQUIRE(pieces.size() == 60);
  Assembly assembly;
  Outcome last = Outcome::held;
  for (const Bytes& piece : pieces) last = assembly.give(piece);
  CHECK(last == Outcome::refused);
  CHECK(assembly.count(DropReason::reassembly_full) == pieces.size());
  CHECK(assembly.reassembler.held() == 0);
}

TEST_CASE("reassembly: no sequence of odd fragments breaks its accounts") {
  std::mt19937 random(12);
  for (int round = 0; round < 300; ++round) {
    Assembly assembly;
    std::size_t given = 0, whole = 0;
    for (int i = 0; i < 200; ++i, ++given) {
      const std::size_t payload = 8 * (1 + random() % 4);
      Bytes piece = v4(payload, random, {},
                       static_cast<std::uint16_t>((random() % 2) << 13U | random() % 12));
      if (!wire::parse_ip(piece)->is_fragment) wire::store_u16(piece.data() + 6, 0x2000);
      wire::store_u16(piece.data() + wire::ipv4::kIdentification,
                      static_cast<std::uint16_t>(random() % 3));
      wire::write_ipv4_checksum(piece.data(), 20);
      if (assembly.give(piece, 20 * static_cast<std::uint64_t>(i)) == Outcome::whole) {
        ++whole;
        CHECK(wire::parse_ip(assembly.whole()));
      }
    }
    assembly.reassembler.clear(DropReason::shutting_down);
    assembly.settle();
    std::size_t ended = assembly.merged + assembly.overdue.size();
    for (const std::size_t count : assembly.dropped) ended += count;
    INFO("round " << round);
    CHECK(ended == given);
    CHECK(assembly.reassembler.held() == 0);
  }
}

}  // namespace culvert::dataplane
