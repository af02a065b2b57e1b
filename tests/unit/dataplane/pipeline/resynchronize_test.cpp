// A receiver that has lost 2^32 packets and more of an SA with extended sequence numbers finds the
// upper half of their numbers again (RFC 4303 appendix A3), and what that can cost.
#include <catch2/catch.hpp>
#include <rte_cycles.h>

#include "dataplane/tables/sa.hpp"
#include "tests/unit/dataplane/pipeline/pair.hpp"
#include "wire/ip.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// An engine that counts what it opens.
class Counting final : public crypto::esp::Engine {
 public:
  Counting(std::unique_ptr<Engine> engine, std::uint64_t& opened)
      : engine_(std::move(engine)), opened_(opened) {}
  [[nodiscard]] std::string_view name() const override { return engine_->name(); }
  [[nodiscard]] bool supports(const crypto::EspSuite& suite) const override {
    return engine_->supports(suite);
  }
  [[nodiscard]] std::expected<void, crypto::esp::KeyError> expand(
      const crypto::EspSuite& suite, crypto::Bytes key,
      crypto::esp::ExpandedKey& out) const override {
    return engine_->expand(suite, key, out);
  }
  void seal(const crypto::EspSuite& suite, std::span<const crypto::esp::Operation> burst) override {
    engine_->seal(suite, burst);
  }
  void open(const crypto::EspSuite& suite, std::span<const crypto::esp::Operation> burst) override {
    opened_ += burst.size();
    engine_->open(suite, burst);
  }

 private:
  std::unique_ptr<Engine> engine_;
  std::uint64_t& opened_;
};

/// Two gateways that take one SA after the other.
class Far {
 public:
  Far() {
    right.context().engine = std::make_unique<Counting>(std::move(right.context().engine), opened);
    right.policy(PolicyAction::bypass, "198.51.100.2/32", "198.51.100.1/32");  // answers
  }
  explicit Far(const SaOptions& options) : Far() { use(options); }
  void use(SaOptions options) {
    options.esn = true;
    const auto out = outbound_sa(options, ++spi_);
    slot_ = left.install(out);
    if (spi_ == kFirstSpi) {
      left.protect(options.local_selectors[0], options.remote_selectors[0], slot_);
    } else {
      REQUIRE(left.tables().spd->rebind(channel::PolicyId{1}, slot_));
    }
    const auto in = inbound_sa(options, spi_);
    id_ = in.sa;
    right.install(in);
    is_transport_ = options.mode == channel::SaMode::transport;
  }

  /// Nobody receives this many times 2^32 packets.
  void lose(std::uint64_t subspaces) { outbound().sequence += subspaces << 32U; }
  Packet sealed() {
    if (is_transport_) {
      const Packet echo = echo_request("198.51.100.1", "198.51.100.2");
      return left.inject(echo, {InjectKind::outbound_local, kWan, false}).wan.at(0);
    }
    const Packet clear = ip_packet({.payload = udp(5000, 4000, Packet(40, 0x42))});
    return left.receive(kLan, frame(clear)).wan.at(0);
  }
  Packet forged() {
    Packet packet = sealed();
    packet.back() ^= 1;
    return packet;
  }
  std::vector<Packet> some(std::size_t packets, Packet (Far::*make)() = &Far::sealed) {
    std::vector<Packet> all;
    for (std::size_t i = 0; i < packets; ++i) all.push_back((this->*make)());
    return all;
  }
  /// A burst, a millisecond or more after the last one. How many packets of it come through.
  std::size_t pass(const std::vector<Packet>& burst) {
    right.worker().resynchronizer.not_before = 0;
    const Result result = right.receive(kWan, burst);
    if (is_transport_) return result.wan.size();  // the answers
    for (const Packet& packet : result.lan) {
      const Packet ip = ip_of(packet);
      CHECK(Packet(ip.end() - 40, ip.end()) == Packet(40, 0x42));
    }
    return result.lan.size();
  }
  /// As many as fail before anything is done about it.
  void fail_often() {
    CHECK(pass(some(kFailuresBeforeResync / 2)) == 0);
    CHECK(pass(some(kFailuresBeforeResync / 2)) == 0);
  }

  OutboundSa& outbound() { return *left.tables().sad->outbound(slot_); }
  InboundSa& inbound() { return *right.tables().sad->inbound(spi_); }
  SaTraffic traffic() {
    Sad& sad = *right.tables().sad;
    return sad.traffic(*sad.find(id_));
  }
  /// All that was ever sent: the receiver stands there.
  void expect_in_step() {
    CHECK(traffic().sequence == outbound().sequence.load());
    CHECK_FALSE(inbound().resync_due.load());
  }

  Gateway left, right{mirrored()};
  std::uint64_t opened = 0;  ///< packets that right has decrypted, again and again counted

 private:
  static constexpr std::uint32_t kFirstSpi = 0x1001;
  std::uint32_t spi_ = kFirstSpi - 1;
  SlotIndex slot_ = kNoSlot;
  channel::SaId id_{};
  bool is_transport_ = false;
};

SaOptions any_way() {
  SaOptions options;
  switch (GENERATE(range(0, 5))) {
    case 0:
      break;
    case 1:
      options.udp = true;
      break;
    case 2:
      options.outer_local = "2001:db8:ff::1";
      options.outer_remote = "2001:db8:ff::2";
      break;
    case 3:
      options.window = 0;
      break;
    default:
      options.mode = channel::SaMode::transport;
      options.local_selectors = {"198.51.100.1/32"};
      options.remote_selectors = {"198.51.100.2/32"};
  }
  return options;
}

}  // namespace

TEST_CASE("resynchronize: every suite is back in step after 2^32 lost packets or twice as many") {
  const std::uint64_t subspaces = GENERATE(1U, 2U);
  Far far;
  for (const auto& [suite, form] : crypto::esp::kTransforms) {
    INFO(suite.name() << ", 2^32 times " << subspaces);
    SaOptions options;
    options.suite = suite;
    far.use(options);
    REQUIRE(far.pass(far.some(3)) == 3);
    far.lose(subspaces);
    far.fail_often();
    REQUIRE(far.pass(far.some(1)) == 1);
    CHECK(far.traffic().resynchronized == 1);
    CHECK(far.pass(far.some(20)) == 20);
    far.expect_in_step();
  }
}

TEST_CASE("resynchronize: in tunnels and transport mode, in UDP, without a window (RFC 4303 §A3)") {
  Far far(any_way());
  CHECK(far.pass(far.some(5)) == 5);
  far.lose(kResyncTries);
  far.fail_often();
  // Those behind the first were decrypted with the upper half of before.
  CHECK(far.pass(far.some(kFailuresBeforeResync)) == 1);
  CHECK(far.pass(far.some(kFailuresBeforeResync)) == kFailuresBeforeResync);
  far.expect_in_step();
  CHECK(far.traffic().packets == 5 + 1 + kFailuresBeforeResync);
  // And once more.
  far.lose(3);
  far.fail_often();
  CHECK(far.pass(far.some(1)) == 1);
  CHECK(far.traffic().resynchronized == 2);
  far.expect_in_step();
}

TEST_CASE("resynchronize: only so many upper halves are tried, and nothing moves without success") {
  Far far(SaOptions{});
  CHECK(far.pass(far.some(5)) == 5);
  far.lose(kResyncTries + 1);
  for (int burst = 0; burst < 40; ++burst) CHECK(far.pass(far.some(16)) == 0);
  CHECK(far.traffic().sequence == 5);
  CHECK(far.traffic().resynchronized == 0);
  far.outbound().sequence.store(5);
  CHECK(far.pass(far.some(5)) == 5);
}

TEST_CASE("resynchronize: forgeries move nothing, and what is real passes among them") {
  Far far(any_way());
  CHECK(far.pass(far.some(5)) == 5);
  const std::uint64_t before = far.traffic().sequence;
  for (int burst = 0; burst < 20; ++burst) CHECK(far.pass(far.some(32, &Far::forged)) == 0);
  CHECK(far.traffic().sequence == before);
  std::vector<Packet> mixed = far.some(32, &Far::forged);
  mixed.push_back(far.sealed());
  CHECK(far.pass(mixed) == 1);
  CHECK(far.traffic().resynchronized == 0);
  far.expect_in_step();
}

TEST_CASE("resynchronize: what was received before stays a replay, however often it comes") {
  SaOptions options;
  options.window = GENERATE(0U, 64U);
  Far far(options);
  std::vector<Packet> old = far.some(32);
  REQUIRE(far.pass(old) == 32);
  far.lose(2);
  far.fail_often();
  REQUIRE(far.pass(far.some(1)) == 1);
  const std::uint64_t after = far.traffic().sequence;
  // Left of the window by far: each is taken for one of a subspace ahead, and its ICV denies that.
  for (int burst = 0; burst < 20; ++burst) CHECK(far.pass(old) == 0);
  CHECK(far.traffic().sequence == after);
  CHECK(far.traffic().resynchronized == 1);
}

TEST_CASE("resynchronize: what a forger can make a worker do is bounded") {
  Far far(any_way());
  CHECK(far.pass(far.some(1)) == 1);
  constexpr std::uint64_t kBursts = 12, kForged = kBursts * kFailuresBeforeResync;
  const std::vector<Packet> burst = far.some(kFailuresBeforeResync, &Far::forged);
  far.opened = 0;
  SECTION("by as many forgeries each time") {
    for (std::uint64_t n = 0; n < kBursts; ++n) CHECK(far.pass(burst) == 0);
    // Of every other burst the first: the one between them was within the millisecond when it
    // began to count.
    CHECK(far.opened == kForged + kBursts / 2 * kResyncTries);
  }
  SECTION("by time") {
    far.right.worker().resynchronizer.not_before = ~0ULL;
    for (std::uint64_t n = 0; n < kBursts; ++n) far.right.receive(kWan, burst);
    CHECK(far.opened == kForged);
    CHECK_FALSE(far.inbound().resync_due.load());
  }
  SECTION("by time, which begins with a packet that is tried") {
    far.pass(burst);
    const std::uint64_t begin = rte_rdtsc();
    far.pass(burst);
    CHECK(far.opened == 2 * burst.size() + kResyncTries);
    CHECK(far.right.worker().resynchronizer.not_before >= begin + far.right.worker().millisecond);
  }
}

TEST_CASE("resynchronize: one packet of a burst, although several SAs are due") {
  Gateway right(mirrored());
  std::uint64_t opened = 0;
  right.context().engine = std::make_unique<Counting>(std::move(right.context().engine), opened);
  std::vector<Packet> burst;
  for (const std::uint32_t spi : {0x1000U, 0x1001U, 0x1002U}) {
    SaOptions options;
    options.esn = true;
    Gateway left;
    left.protect("10.1.0.0/24", "10.2.0.0/16", left.install(outbound_sa(options, spi)));
    right.install(inbound_sa(options, spi));
    Packet forged = left.receive(kLan, frame(ip_packet({}))).wan.at(0);
    forged.back() ^= 1;
    burst.insert(burst.end(), 16, forged);
  }
  for (std::uint32_t n = 0; n < kFailuresBeforeResync / 16; ++n) right.receive(kWan, burst);
  for (const std::uint32_t spi : {0x1000U, 0x1001U, 0x1002U}) {
    REQUIRE(right.tables().sad->inbound(spi)->resync_due.load());
  }
  opened = 0;
  right.receive(kWan, burst);
  CHECK(opened == burst.size() + kResyncTries);
}

TEST_CASE("resynchronize: a packet that is authentic begins the count anew (RFC 4303 §A3.1)") {
  Far far(any_way());
  const auto forged = far.some(kFailuresBeforeResync - 1, &Far::forged);
  far.opened = 0;
  for (int n = 0; n < 3; ++n) {
    CHECK(far.pass(forged) == 0);
    CHECK(far.pass(far.some(1)) == 1);
  }
  CHECK(far.opened == 3 * kFailuresBeforeResync);
  SECTION("also one that comes when the SA is due") {
    CHECK(far.pass(forged) == 0);
    CHECK(far.pass({forged[0]}) == 0);
    REQUIRE(far.inbound().resync_due.load());
    far.opened = 0;
    CHECK(far.pass(far.some(1)) == 1);
    CHECK(far.pass(forged) == 0);
    CHECK(far.opened == kFailuresBeforeResync);
    CHECK_FALSE(far.inbound().resync_due.load());
  }
}

TEST_CASE("resynchronize: an SA with numbers of 32 bits never looks for more") {
  SaOptions options;
  Pair pair({}, options);
  Packet forged = pair.sealed();
  forged.back() ^= 1;
  for (int burst = 0; burst < 5; ++burst) {
    pair.right.worker().resynchronizer.not_before = 0;
    CHECK(pair.right.receive(kWan, std::vector<Packet>(32, forged)).lan.empty());
  }
  CHECK_FALSE(pair.right.tables().sad->inbound(0x1000)->resync_due.load());
}
