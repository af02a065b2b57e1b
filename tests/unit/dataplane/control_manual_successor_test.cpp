// What a manual SA hands to the one that comes in its place under the same key and SPI: what it has
// received and sent, to the last packet.
#include <atomic>
#include <chrono>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/manual_gateway.hpp"

namespace culvert::dataplane::control::manual_reload {
namespace {

/// A worker in the middle of an iteration. It has found an inbound SA, and goes on with it until
/// the tables have another one, or none, under its SPI: what it receives then is as late as can be.
class LateWorker {
 public:
  /// `numbers`: received behind the change.
  LateWorker(Gateway& gateway, std::vector<std::uint64_t> numbers)
      : gateway_(gateway), numbers_(std::move(numbers)), thread_([this] { run(); }) {
    while (!is_online_) std::this_thread::yield();
  }
  ~LateWorker() { join(); }
  LateWorker(const LateWorker&) = delete;
  LateWorker& operator=(const LateWorker&) = delete;
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  /// Whether packets could wait when the SA had just gone.
  bool waits = false;

 private:
  void run() {
    Reclaimer& reclaimer = *gateway_.tables->reclaimer;
    const Sad& sad = *gateway_.tables->sad;
    reclaimer.online(WorkerId{0});
    InboundSa* const found = sad.inbound(0x1001);
    is_online_ = true;
    // A reload that was refused leaves it where it is.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (found->spi.load(std::memory_order_acquire) == 0x1001 &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    waits = sad.is_expected(0x1001);
    for (const std::uint64_t number : numbers_) {
      static_cast<void>(found->replay_window().commit(number));
    }
    reclaimer.quiescent(WorkerId{0});
    reclaimer.offline(WorkerId{0});
  }

  Gateway& gateway_;
  std::vector<std::uint64_t> numbers_;
  std::atomic<bool> is_online_{false};
  std::thread thread_;  ///< last
};

constexpr auto kFresh = ReplayVerdict::fresh;

/// Takes so many keys more.
class FailingEngine final : public crypto::esp::Engine {
 public:
  mutable int left = 3;

  [[nodiscard]] std::string_view name() const override { return engine_->name(); }
  [[nodiscard]] bool supports(const crypto::EspSuite& suite) const override {
    return engine_->supports(suite);
  }
  [[nodiscard]] std::expected<void, crypto::esp::KeyError> expand(
      const crypto::EspSuite& suite, crypto::Bytes key,
      crypto::esp::ExpandedKey& out) const override {
    if (left == 0) return std::unexpected(crypto::esp::KeyError::unsupported_suite);
    --left;
    return engine_->expand(suite, key, out);
  }
  void seal(const crypto::EspSuite& suite, std::span<const crypto::esp::Operation> burst) override {
    engine_->seal(suite, burst);
  }
  void open(const crypto::EspSuite& suite, std::span<const crypto::esp::Operation> burst) override {
    engine_->open(suite, burst);
  }

 private:
  std::unique_ptr<crypto::esp::Engine> engine_ = crypto::esp::make_engine();
};

}  // namespace

TEST_CASE("manual successor: what a worker receives while the SA changes is received") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001).esn = true;
  REQUIRE(gateway.reload() == "");
  const std::uint64_t high = GENERATE(std::uint64_t{0}, std::uint64_t{1} << 32U);
  gateway.receive(high + 5000);
  {
    LateWorker worker(gateway, {high + 5001, high + 5003});
    gateway.file.manual_sas[0].remote = test::address("198.51.100.3");
    REQUIRE(gateway.reload() == "");
    worker.join();
    CHECK(worker.waits);
  }
  REQUIRE(gateway.inbound(0x1001)->spec.remote.address == test::address("198.51.100.3"));
  CHECK(gateway.verdict(high + 5000) == ReplayVerdict::duplicate);
  CHECK(gateway.verdict(high + 5001) == ReplayVerdict::duplicate);
  CHECK(gateway.verdict(high + 5003) == ReplayVerdict::duplicate);
  CHECK(gateway.verdict(high + 5002) == kFresh);
  CHECK(gateway.verdict(high + 5004) == kFresh);
  CHECK(gateway.tables->sad->inbound(0x1001)->extend(5004) == high + 5004);
}

TEST_CASE(
    "manual successor: what a worker receives while the SA goes is known when it comes again") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001);
  REQUIRE(gateway.reload() == "");
  gateway.receive(5000);
  const std::vector<ManualSa> before = std::exchange(gateway.file.manual_sas, {});
  {
    LateWorker worker(gateway, {5001, 5002});
    REQUIRE(gateway.reload() == "");
    worker.join();
    CHECK_FALSE(worker.waits);  // nobody follows
  }
  gateway.file.manual_sas = before;
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.verdict(5002) != kFresh);
  CHECK(gateway.verdict(5003) == kFresh);
}

TEST_CASE("manual successor: what was not received yet is still taken, within both windows") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001).replay_window = 64;
  REQUIRE(gateway.reload() == "");
  for (const std::uint64_t number : {4999U, 5000U, 4937U}) gateway.receive(number);
  ManualSa& sa = gateway.file.manual_sas[0];
  sa.replay_window = GENERATE(64U, 32U, 1024U);
  sa.headers.hop_limit = 9;
  CAPTURE(sa.replay_window);
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.verdict(5000) != kFresh);
  CHECK(gateway.verdict(4999) != kFresh);
  CHECK(gateway.verdict(4998) == kFresh);
  CHECK(gateway.verdict(4969) == kFresh);  // the last of 32
  CHECK((gateway.verdict(4968) == kFresh) == (sa.replay_window >= 64));
  CHECK(gateway.verdict(4937) != kFresh);
  CHECK(gateway.verdict(4936) != kFresh);  // left of the first window: nobody knows

  sa.first_sequence = 4999;  // and what the file says was received was
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.verdict(4998) != kFresh);
  CHECK(gateway.verdict(5001) == kFresh);
}

TEST_CASE("manual successor: without a window nothing was kept, and all of it counts as received") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001).replay_window = 0;
  REQUIRE(gateway.reload() == "");
  gateway.receive(5000);
  gateway.file.manual_sas[0].replay_window = 64;
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.verdict(4990) != kFresh);
  CHECK(gateway.verdict(5001) == kFresh);
}

TEST_CASE("manual successor: another key begins anew, and the first one is not forgotten") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001);
  REQUIRE(gateway.reload() == "");
  gateway.receive(5000);
  static_cast<void>(gateway.keys.write("key", kOtherKey));
  {
    LateWorker worker(gateway, {5001});
    REQUIRE(gateway.reload() == "");
  }
  CHECK(gateway.verdict(1) == kFresh);
  static_cast<void>(gateway.keys.write("key", kKey));
  REQUIRE(gateway.reload() == "");
  CHECK(gateway.verdict(5001) != kFresh);
  CHECK(gateway.verdict(5002) == kFresh);
}

TEST_CASE("manual successor: the one before sends no number of its own (RFC 4303 §3.3.3)") {
  Gateway gateway;
  gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  OutboundSa& before = gateway.sends();
  const SharedAdd add(GENERATE(1U, 2U));
  REQUIRE(reserve_sequence(before, 100, add).first == 1);
  gateway.file.manual_sas[0].headers.hop_limit = 9;
  REQUIRE(gateway.apply() == "");
  REQUIRE(&gateway.sends() == &before);  // until the policies say otherwise

  // While they are built as many as there are, however long that takes.
  const auto send = [&] {
    for (std::uint64_t sent = 0; sent < 200000; sent += 1000) {
      REQUIRE(reserve_sequence(before, 1000, add).count == 1000);
    }
  };
  // At last more than the successor has left out.
  SequenceBlock block;
  const auto send_too_many = [&] {
    block = reserve_sequence(before, 1U << 20U, add);
    CHECK(block.first == 200101);
    CHECK(block.count > 100000);
    std::uint64_t last = 0;
    CHECK(reserve_sequence(before, 1, add).count == 0);
    CHECK_FALSE(reserve_all(before, 1, add, last));
  };
  gateway.publish(send, send_too_many);
  REQUIRE(&gateway.sends() != &before);
  CHECK(reserve_sequence(gateway.sends(), 1, add).first == block.first + block.count);
}

TEST_CASE("manual successor: what is sent while the policies are built has IVs of its own") {
  Gateway gateway;
  gateway.add("pair", kOut, 0x2001).first_sequence = GENERATE(1U, 0xfff00000U);
  gateway.file.manual_sas[0].esn = true;
  REQUIRE(gateway.reload() == "");
  OutboundSa& before = gateway.sends();
  const SharedAdd add(1);
  gateway.file.manual_sas[0].headers.hop_limit = 9;
  REQUIRE(gateway.apply() == "");
  std::uint64_t last = 0;
  gateway.publish([&] {
    const SequenceBlock block = reserve_sequence(before, 3U << 20U, add);
    last = before.iv(block.first + block.count - 1);
  });
  const std::uint64_t next = reserve_sequence(gateway.sends(), 1, add).first;
  CHECK(gateway.sends().iv(next) - last > 1ULL << 40U);
  // Nothing that was sent before it counts as its own.
  const SaRecord& record =
      *gateway.tables->sad->find_outbound(gateway.tables->spd->entries().front().outbound);
  CHECK(gateway.tables->sad->usage(record).packets == 1);
}

TEST_CASE("manual successor: whoever uses the last numbers up meanwhile leaves it none") {
  Gateway gateway;
  gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  OutboundSa& before = gateway.sends();
  before.sequence.store(0xffffffff - (1U << 18U));
  gateway.file.manual_sas[0].headers.hop_limit = 9;
  REQUIRE(gateway.apply() == "");
  gateway.publish([&] { before.sequence.store(0xffffffff - 10); });
  REQUIRE(&gateway.sends() != &before);
  CHECK(reserve_sequence(gateway.sends(), 1, SharedAdd(1)).count == 0);  // RFC 4303 §3.3.3
  CHECK(gateway.sends().sequence.load() == 0xffffffff);
}

TEST_CASE("manual successor: no worker that goes by the policies before meets an SA that is gone") {
  Gateway gateway;
  gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  gateway.file.manual_sas[0].headers.hop_limit = 9;
  REQUIRE(gateway.apply() == "");
  std::atomic<bool> is_online = false, is_in_force = false;
  bool is_met_stopped = false;
  std::thread worker([&] {
    Reclaimer& reclaimer = *gateway.tables->reclaimer;
    reclaimer.online(WorkerId{0});
    const OutboundSa& found = gateway.sends();
    is_online = true;
    while (!is_in_force) std::this_thread::yield();
    // The system has other things to do: as long as it takes to remove one that nobody waits for.
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
    while (!is_met_stopped && std::chrono::steady_clock::now() < end) {
      is_met_stopped = found.stopped.load();
      std::this_thread::yield();
    }
    reclaimer.quiescent(WorkerId{0});
    reclaimer.offline(WorkerId{0});
  });
  while (!is_online) std::this_thread::yield();
  gateway.put_in_force();
  is_in_force = true;
  gateway.manual_sas.remove_replaced();
  worker.join();
  CHECK_FALSE(is_met_stopped);
  CHECK(gateway.count(channel::Direction::out) == 1);
}

TEST_CASE("manual successor: nobody goes for one whose key the engine does not take") {
  auto engine = std::make_unique<FailingEngine>();
  int& left = engine->left;
  Gateway gateway(std::move(engine));
  gateway.add("one", kIn, 0x1001);
  gateway.add("two", kIn, 0x1002);
  gateway.add("two", kOut, 0x2002);
  REQUIRE(gateway.reload() == "");
  std::vector<channel::SaId> before;
  gateway.tables->sad->for_each([&](const SaRecord& record) { before.push_back(record.spec.sa); });

  for (ManualSa& sa : gateway.file.manual_sas) sa.headers.hop_limit = 9;
  left = GENERATE(0, 1, 2);
  const std::string error = gateway.reload();
  CAPTURE(error, left);
  CHECK(error.find("does not take its key") != std::string::npos);
  std::vector<channel::SaId> after;
  gateway.tables->sad->for_each([&](const SaRecord& record) { after.push_back(record.spec.sa); });
  CHECK(after == before);
  // And not one is asked for behind the first that had to go.
  left = 3;
  CHECK(gateway.reload() == "");
}

TEST_CASE("manual successor: a reload that fails leaves the numbers to the one that stays") {
  Gateway gateway;
  gateway.add("pair", kOut, 0x2001);
  REQUIRE(gateway.reload() == "");
  gateway.file.manual_sas[0].headers.hop_limit = 9;
  auto plan = gateway.manual_sas.plan(gateway.file);
  REQUIRE(plan);
  // The slots went to others between the plan and its execution.
  for (std::uint64_t id = 1; gateway.tables->sad->free_slots(channel::Direction::out) != 0; ++id) {
    channel::InstallSa other = plan->front().request;
    other.sa = channel::SaId{id};
    REQUIRE(gateway.tables->sad->install_manual(other, 1));
  }
  REQUIRE_FALSE(gateway.manual_sas.apply(gateway.file, *std::move(plan), Instant{}));
  const SharedAdd add(1);
  CHECK(reserve_sequence(gateway.sends(), 1U << 20U, add).count == 1U << 20U);
}

TEST_CASE(
    "manual successor: one that cannot come is waited for no longer, and the next one comes") {
  Gateway gateway;
  gateway.add("pair", kIn, 0x1001);
  REQUIRE(gateway.reload() == "");
  gateway.file.manual_sas[0].headers.hop_limit = 9;
  auto plan = gateway.manual_sas.plan(gateway.file);
  REQUIRE(plan);
  // Its name went to another between the plan and its execution.
  channel::InstallSa other = plan->front().request;
  other.spi = channel::Spi{0x1002};
  REQUIRE(gateway.tables->sad->install_manual(other, 1));
  REQUIRE_FALSE(gateway.manual_sas.apply(gateway.file, *std::move(plan), Instant{}));
  CHECK_FALSE(gateway.tables->sad->is_expected(0x1001));
  CHECK(gateway.reload() == "");
  CHECK(gateway.inbound(0x1001) != nullptr);
}

TEST_CASE(
    "manual successor: whatever the key daemon leased is still expected when a manual SA fails") {
  Gateway gateway;
  const auto leased = gateway.tables->sad->lease_spis(1);
  REQUIRE(leased.size() == 1);
  const auto spi = static_cast<std::uint32_t>(leased.front());
  gateway.add("pair", kIn, 0x1001);
  auto plan = gateway.manual_sas.plan(gateway.file);
  REQUIRE(plan);
  plan->front().request.spi = leased.front();
  REQUIRE_FALSE(gateway.tables->sad->install_manual(plan->front().request, 1));
  CHECK(gateway.tables->sad->is_expected(spi));
}

}  // namespace culvert::dataplane::control::manual_reload
