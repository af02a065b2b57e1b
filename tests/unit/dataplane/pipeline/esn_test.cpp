// Extended sequence numbers (RFC 4303 §2.2.1, appendix A2) whose low half goes over inside a burst:
// on the short way of known flows, out and in, and in a train of frames.
#include <algorithm>

#include <catch2/catch.hpp>

#include "dataplane/control/child_accounts.hpp"
#include "tests/unit/dataplane/pipeline/by_hand.hpp"
#include "tests/unit/dataplane/pipeline/sender.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;
using crypto::test::seal_by_openssl;

namespace {

constexpr std::uint64_t kOver = std::uint64_t{1} << 32U;

struct EsnShape {
  const char* name;
  bool outer_v6, inner_v6, udp;
};
constexpr EsnShape kEsnShapes[] = {
    {"4in4", false, false, false},    {"6in4", false, true, false},
    {"6in6", true, true, false},      {"4in6", true, false, false},
    {"4in4 udp", false, false, true}, {"6in4 udp", false, true, true}};

SaOptions esn_options(const EsnShape& shape, std::uint32_t window = 64) {
  SaOptions options = with_families(shape.outer_v6, shape.inner_v6);
  options.esn = true;
  options.udp = shape.udp;
  options.window = window;
  return options;
}

/// A datagram of one flow; each has another number in it.
Packet datagram_of(const EsnShape& shape, std::size_t number) {
  PacketOptions options = from_client(shape.inner_v6, 40);
  options.payload.back() = static_cast<std::uint8_t>(number);
  return ip_packet(options);
}

/// A sender and a receiver of one SA, whose flow is known on both sides.
struct EsnLink {
  EsnLink(const EsnShape& given, std::uint64_t first, std::uint32_t window = 64)
      : shape(given),
        options(esn_options(given, window)),
        left(options, {.headers = {}, .first_sequence = first}) {
    in = inbound_sa(options);
    right.install(in, {.headers = {}, .first_sequence = first});
    const bool is_v6 = shape.inner_v6;
    right.policy(PolicyAction::bypass, is_v6 ? "2001:db8:2::/64" : "10.2.0.0/16",
                 is_v6 ? "2001:db8:1::/64" : "10.1.0.0/16");
    REQUIRE(right.receive(kWan, left.seal(datagram_of(shape, 0))).lan.size() == 1);
  }
  std::vector<Packet> seal(std::size_t count) {
    std::vector<Packet> frames;
    for (std::size_t i = 1; i <= count; ++i) frames.push_back(frame(datagram_of(shape, i)));
    std::vector<Packet> sealed = left.gateway.receive(kLan, frames).wan;
    REQUIRE(sealed.size() == count);
    CHECK(left.went_the_short_way());
    return sealed;
  }
  SaTraffic traffic() {
    Sad& sad = *right.tables().sad;
    return sad.traffic(*sad.find(in.sa));
  }
  /// ESP's SPI in a sealed frame.
  [[nodiscard]] std::size_t esp_at() const {
    return 14U + (shape.outer_v6 ? 40U : 20U) + (shape.udp ? 8U : 0U);
  }

  EsnShape shape;
  SaOptions options;
  Sender left;
  Gateway right{mirrored()};
  channel::InstallSa in;
};

}  // namespace

TEST_CASE("ESN: numbers go over 2^32 inside a burst that is sealed on the short way") {
  const EsnShape& shape = GENERATE(from_range(std::begin(kEsnShapes), std::end(kEsnShapes)));
  const std::size_t below = GENERATE(1U, 17U);  // of the burst, before it goes over
  INFO(shape.name << ", " << below << " below");
  const std::uint64_t first = kOver - below - 1;
  EsnLink link(shape, first);
  const std::vector<Packet> sealed = link.seal(40);
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    const std::uint64_t number = first + 1 + i;
    const Packet esp(sealed[i].begin() + static_cast<std::ptrdiff_t>(link.esp_at()),
                     sealed[i].end());
    REQUIRE(wire::load_u32(&esp[4]) == static_cast<std::uint32_t>(number));
    // All 64 bits are authenticated (RFC 4106 §5).
    const Packet iv(esp.begin() + 8, esp.begin() + 16);
    const Packet inner = hops_before(datagram_of(shape, i + 1), -1);
    REQUIRE(esp == seal_by_openssl(by_hand(link.left.spec, number), iv,
                                   with_padding(inner, 4, shape.inner_v6 ? 41 : 4)));
  }
}

TEST_CASE("ESN: numbers go over 2^32 inside a train of frames that is opened on the short way") {
  const EsnShape& shape = GENERATE(from_range(std::begin(kEsnShapes), std::end(kEsnShapes)));
  const std::size_t below = GENERATE(0U, 1U, 17U);
  const std::uint32_t window = GENERATE(0U, 64U);
  INFO(shape.name << ", " << below << " below, window " << window);
  EsnLink link(shape, kOver - below - 1, window);
  const std::vector<Packet> sealed = link.seal(40);
  const Result opened = link.right.receive(kWan, sealed);
  CHECK(opened.drops.empty());
  CHECK(link.right.worker().went_the_short_way);
  REQUIRE(opened.lan.size() == sealed.size());
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    REQUIRE(ip_of(opened.lan[i]) == hops_before(datagram_of(shape, i + 1), -2));
  }
  CHECK(link.traffic().sequence == kOver - below - 1 + 40);
  if (window == 0) return;
  CHECK(link.right.receive(kWan, sealed).dropped(DropReason::replay_duplicate) == sealed.size());
}

TEST_CASE("ESN: of a burst in any order each number is taken once, on either side of 2^32") {
  const EsnShape& shape = kEsnShapes[GENERATE(0U, 2U)];
  const std::size_t below = GENERATE(1U, 13U, 39U);
  INFO(shape.name << ", " << below << " below");
  const auto disorder = GENERATE(0, 1, 2);
  EsnLink link(shape, kOver - below - 1);
  std::vector<Packet> sealed = link.seal(40);
  if (disorder == 0) std::ranges::reverse(sealed);
  if (disorder == 1) {  // those above first
    std::ranges::rotate(sealed, sealed.begin() + static_cast<std::ptrdiff_t>(below));
  }
  if (disorder == 2) {
    for (std::size_t i = 0; i + 1 < sealed.size(); i += 2) std::swap(sealed[i], sealed[i + 1]);
  }
  std::vector<Packet> twice = sealed;
  twice.insert(twice.begin() + 20, sealed.begin(), sealed.begin() + 20);
  const Result opened = link.right.receive(kWan, twice);
  CHECK(opened.drops == std::map<DropReason, std::uint64_t>{{DropReason::replay_duplicate, 20}});
  std::vector<std::uint8_t> numbers;
  for (const Packet& one : opened.lan) numbers.push_back(one.back());
  std::ranges::sort(numbers);
  REQUIRE(numbers.size() == 40);
  for (std::size_t i = 0; i < 40; ++i) CHECK(numbers[i] == i + 1);
  CHECK(link.traffic().sequence == kOver - below - 1 + 40);
}

namespace {

/// What a receiver with this window says of 40 packets that come behind those that were sent after
/// them: the first is late by 98 + `above`.
std::uint32_t advised_for(std::size_t above, std::uint32_t window, bool is_taken) {
  EsnLink link(kEsnShapes[0], kOver - 100, window);
  const std::vector<Packet> late = link.seal(40);
  for (const std::size_t count : {std::size_t{59}, above}) {
    REQUIRE(link.right.receive(kWan, link.seal(count)).drops.empty());
  }
  REQUIRE(link.traffic().sequence == kOver + above - 1);
  const Result result = link.right.receive(kWan, late);
  CHECK(result.lan.size() == (is_taken ? late.size() : 0));
  CHECK(result.dropped(DropReason::icv_mismatch) == (is_taken ? 0 : late.size()));
  control::ChildTotals totals;
  totals.add(link.traffic());
  return control::advised_window(totals);
}

}  // namespace

TEST_CASE("ESN: the advised window is one that takes what came late over 2^32 (RFC 4303 §A2.2)") {
  // With 32 numbers one from before 2^32 is taken for one of the next 2^32: its ICV is wrong.
  const auto [above, advised] =
      GENERATE(table<std::size_t, std::uint32_t>({{4, 128}, {29, 128}, {30, 256}, {50, 256}}));
  CHECK(advised_for(above, 32, false) == advised);
  CHECK(advised_for(above, advised, true) == advised);
}
