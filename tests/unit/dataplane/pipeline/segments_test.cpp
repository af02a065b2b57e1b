// Frames in several buffers, as devices give them that scatter: whatever the cuts go through, what
// comes of a frame is what comes of it in one buffer.
#include <algorithm>
#include <random>

#include <catch2/catch.hpp>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dataplane/tables/sa.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using Cuts = std::vector<std::size_t>;  ///< places in the frame, rising

rte_mbuf* buffer_of(const Packet& frame, std::size_t begin, std::size_t end) {
  rte_mbuf* const buffer = rte_pktmbuf_alloc(packet_pool());
  REQUIRE(buffer != nullptr);
  char* const to = rte_pktmbuf_append(buffer, static_cast<std::uint16_t>(end - begin));
  REQUIRE(to != nullptr);
  std::copy(frame.begin() + static_cast<std::ptrdiff_t>(begin),
            frame.begin() + static_cast<std::ptrdiff_t>(end), to);
  return buffer;
}

rte_mbuf* chained(const Packet& frame, const Cuts& cuts) {
  Cuts ends = cuts;
  ends.push_back(frame.size());
  rte_mbuf* const head = buffer_of(frame, 0, ends[0]);
  for (std::size_t i = 1; i < ends.size(); ++i) {
    REQUIRE(rte_pktmbuf_chain(head, buffer_of(frame, ends[i - 1], ends[i])) == 0);
  }
  CHECK(head->nb_segs == ends.size());
  return head;
}

void put_in(PortId port, rte_mbuf* frame) {
  REQUIRE(rte_eth_tx_burst(static_cast<std::uint16_t>(raw(port)), 0, &frame, 1) == 1);
}

/// The same frames twice: in one buffer each, and cut.
struct CutTwins {
  explicit CutTwins(const SaOptions& given = {}) : options(given) {
    const auto out = outbound_sa(options);
    for (Gateway* gateway : {&left, &left_of_cut}) {
      const SlotIndex slot = gateway->install(out, {.headers = {}, .iv_start = 7});  // both alike
      gateway->protect(options.local_selectors[0], options.remote_selectors[0], slot);
    }
    const auto in = inbound_sa(options);
    for (Gateway* gateway : {&right, &right_of_cut}) gateway->install(in);
  }
  SaOptions options;
  Gateway left, left_of_cut, right{mirrored()}, right_of_cut{mirrored()};
};

/// A burst of frames of which each is cut as its place says, or not at all.
Result receive_cut(Gateway& gateway, PortId port, const std::vector<Packet>& frames,
                   const std::vector<Cuts>& cuts) {
  for (std::size_t i = 0; i < frames.size(); ++i) put_in(port, chained(frames[i], cuts[i]));
  return gateway.receive(port, std::vector<Packet>{});
}

/// What both gateways made of it is the same; how many frames that are.
std::size_t check_alike(const Result& whole, const Result& cut) {
  CHECK(cut.wan == whole.wan);
  CHECK(cut.lan == whole.lan);
  CHECK(cut.drops == whole.drops);
  CHECK(cut.punts.size() == whole.punts.size());
  return cut.wan.size() + cut.lan.size();
}

Packet whole_frame(bool is_v6, std::size_t payload) {
  return frame(ip_packet(from_client(is_v6, payload)));
}

struct CutShape {
  bool outer_v6, inner_v6;
};

}  // namespace

TEST_CASE("segments: a frame cut in two at any place is sealed and opened as in one buffer") {
  const auto shape = GENERATE(values<CutShape>({{false, false}, {true, true}, {true, false}}));
  SaOptions options = with_families(shape.outer_v6, shape.inner_v6);
  options.window = 1024;
  CutTwins twins(options);
  // Of its flow's first frame and of those behind: cuts in Ethernet, IP, UDP and data.
  const Packet clear = whole_frame(shape.inner_v6, 32);
  std::vector<Packet> sealed;
  for (std::size_t cut = 0; cut <= clear.size(); ++cut) {
    INFO("clear, cut at " << cut);
    const Result whole = twins.left.receive(kLan, clear);
    REQUIRE(check_alike(whole, receive_cut(twins.left_of_cut, kLan, {clear}, {{cut}})) == 1);
    sealed.push_back(whole.wan[0]);
  }
  // In Ethernet, outer IP, SPI, number, IV, text and ICV.
  while (sealed.size() <= sealed[0].size()) {
    sealed.push_back(twins.left.receive(kLan, clear).wan.at(0));
  }
  for (std::size_t cut = 0; cut <= sealed[0].size(); ++cut) {
    INFO("sealed, cut at " << cut);
    const Result whole = twins.right.receive(kWan, sealed[cut]);
    REQUIRE(check_alike(whole, receive_cut(twins.right_of_cut, kWan, {sealed[cut]}, {{cut}})) == 1);
  }
}

TEST_CASE("segments: bursts of frames of one to four buffers leave in order and whole") {
  const auto seed = random_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const bool is_v6 = GENERATE(false, true);
  SaOptions options = with_families(is_v6, is_v6);
  options.esn = true;
  SECTION("on the short way") {}
  SECTION("on the general way") {
    options.suite =
        crypto::EspSuite{crypto::Encryption::aes_cbc, 256, crypto::Integrity::hmac_sha2_256_128};
  }
  CutTwins twins(options);
  const auto random_cuts = [&](const Packet& frame) {
    Cuts cuts(random() % 4);
    // Mostly in the headers and the ICV.
    for (std::size_t& cut : cuts) {
      const std::size_t near = random() % std::min<std::size_t>(frame.size(), 64);
      cut = random() % 4 == 0 ? frame.size() - near : near;
    }
    std::ranges::sort(cuts);
    return cuts;
  };
  const auto all_cut = [&](const std::vector<Packet>& frames) {
    std::vector<Cuts> cuts;
    for (const Packet& one : frames) cuts.push_back(random_cuts(one));
    return cuts;
  };
  for (int round = 0; round < 60; ++round) {
    std::vector<Packet> frames;
    const std::size_t size = 1 + random() % 40;
    for (std::size_t i = 0; i < size; ++i) {
      frames.push_back(whole_frame(is_v6, random() % 3 == 0 ? random() % 1300 : random() % 60));
      frames.back().back() = static_cast<std::uint8_t>(i);
    }
    const Result whole = twins.left.receive(kLan, frames);
    REQUIRE(whole.wan.size() == size);
    const Result cut = receive_cut(twins.left_of_cut, kLan, frames, all_cut(frames));
    REQUIRE(check_alike(whole, cut) == size);
    const Result opened = twins.right.receive(kWan, whole.wan);
    REQUIRE(check_alike(opened, receive_cut(twins.right_of_cut, kWan, whole.wan,
                                            all_cut(whole.wan))) == size);
  }
}

TEST_CASE("segments: what is wrong with a frame in several buffers is seen as in one") {
  CutTwins twins;
  std::vector<Packet> wrong;
  const auto sealed = [&] { return twins.left.receive(kLan, whole_frame(false, 60)).wan.at(0); };
  wrong.push_back(sealed());
  wrong.back().back() ^= 1;  // ICV
  wrong.push_back(sealed());
  wrong.back()[14 + 20 + 8 + 8] ^= 1;  // text
  wrong.push_back(sealed());
  wrong.back().resize(wrong.back().size() - 5);  // it says that it is longer
  wrong.push_back(sealed());
  wrong.back()[14 + 12] ^= 1;  // checksum
  for (const Packet& frame : wrong) {
    for (std::size_t cut = 1; cut < frame.size(); cut += 3) {
      INFO("cut at " << cut);
      const Result whole = twins.right.receive(kWan, frame);
      const Result in_three =
          receive_cut(twins.right_of_cut, kWan, {frame}, {{cut, std::min(cut + 20, frame.size())}});
      CHECK(check_alike(whole, in_three) == 0);
      CHECK(whole.drops.size() == 1);
    }
  }
}

TEST_CASE("segments: a frame whose first buffer has no room for the rest is dropped and counted") {
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "10.1.0.0/24", "10.2.0.0/16");
  const Packet clear = whole_frame(false, 1200);
  // Its data begins late in the buffer: the others' bytes do not fit behind.
  rte_mbuf* const head = rte_pktmbuf_alloc(packet_pool());
  REQUIRE(head != nullptr);
  head->data_off = static_cast<std::uint16_t>(head->buf_len - 64);
  std::copy_n(clear.begin(), 64, rte_pktmbuf_append(head, 64));
  REQUIRE(rte_pktmbuf_chain(head, buffer_of(clear, 64, clear.size())) == 0);
  put_in(kLan, head);
  put_in(kLan, chained(whole_frame(false, 32), {}));
  const Result result = gateway.receive(kLan, std::vector<Packet>{});
  CHECK(result.dropped(DropReason::multi_segment_unsupported) == 1);
  CHECK(result.wan.size() == 1);
}

TEST_CASE(
    "segments: a packet that is to be cut while the pool has no buffer is dropped and counted") {
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "10.1.0.0/24", "10.2.0.0/16");
  rte_mempool* const drained =
      rte_pktmbuf_pool_create("drained", 1, 0, kPuntPrivateBytes, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
  REQUIRE(drained != nullptr);
  rte_mbuf* const last = rte_pktmbuf_alloc(drained);
  PacketOptions options;
  options.fragment = 0;
  options.payload = udp(5000, 4000, Packet(1500, 0x42));
  gateway.context().pool = drained;
  const Result result = gateway.receive(kLan, frame(ip_packet(options)));
  gateway.context().pool = packet_pool();
  CHECK(result.drops == std::map<DropReason, std::uint64_t>{{DropReason::no_buffer, 1}});
  CHECK(gateway.receive(kLan, frame(ip_packet(options))).wan.size() == 2);
  rte_pktmbuf_free(last);
  rte_mempool_free(drained);
}
