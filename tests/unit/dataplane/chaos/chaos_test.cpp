// Everything that workers read changes without rest while one of them carries packets: nothing
// leaves in clear or by what is gone, every packet is accounted for (pipeline/gateway.cpp), and,
// with the address sanitizer, nobody reads what was freed.
//
// How much is changed counts, not how long it takes: the two threads wait for one another now and
// then, so that the traffic meets all of it however busy the machine is. Of the processor time that
// the traffic's thread gets, the judge's included, it is a thousand changes a second or more.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "benchmarks/clock.hpp"
#include "tests/random_seed.hpp"
#include "tests/unit/dataplane/chaos/changes.hpp"
#include "tests/unit/dataplane/chaos/traffic.hpp"
#include "tests/unit/finding.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__clang__)
constexpr std::uint32_t kChanges = 2000;
constexpr double kLeastChangesPerSecond = 10;  // instrumented: it is no claim there
#else
constexpr std::uint32_t kChanges = 6000;
#if defined(__OPTIMIZE__)
constexpr double kLeastChangesPerSecond = 1000;
#else
constexpr double kLeastChangesPerSecond = 50;
#endif
#endif
constexpr std::uint32_t kMostAtOnce = 12;

/// A gateway whose worker is the calling thread.
struct Shaken {
  Known known;  // first: what waits for a grace period tells it
  Gateway gateway{{}, 1, 0, crypto::esp::make_engine, Routes::own};
  Shaken() {
    Reclaimer& reclaimer = *gateway.tables().reclaimer;
    reclaimer.online(WorkerId{0});
    gateway.iterate = [&reclaimer](WorkerState& worker, Burst& burst) {
      run_iteration(worker, burst);
      reclaimer.quiescent(WorkerId{0});
    };
  }
};

std::string text_of(const std::map<std::string, std::uint64_t>& violations) {
  std::string text;
  for (const auto& [what, times] : violations) text += what + ", " + std::to_string(times) + "; ";
  return text;
}

}  // namespace

TEST_CASE("worker: thousands of changes of SAs, policies and routes let nothing out in clear") {
  const std::uint64_t number = random_seed();
  INFO("seed " << number);
  Shaken shaken;
  Reclaimer& reclaimer = *shaken.gateway.tables().reclaimer;
  Changes changes(shaken.gateway, shaken.known, number);
  Traffic traffic(shaken.gateway, shaken.known, number + 1);
  // Given a writer that makes some changes beside each turn of the traffic
  std::atomic<std::uint64_t> turns{0};
  std::atomic<bool> done{false};
  const double began = benchmarks::seconds_on(CLOCK_THREAD_CPUTIME_ID);
  std::thread writer([&] {
    std::mt19937_64 random(number + 2);
    for (std::uint32_t made = 0; made < kChanges;) {
      const std::uint64_t turn = turns.load();
      for (std::uint64_t some = 1 + random() % kMostAtOnce; some > 0; --some, ++made) {
        changes.change();
      }
      while (turns.load() == turn) std::this_thread::yield();
    }
    done = true;
  });
  // When bursts from both sides pass through the worker
  while (!done.load()) {
    traffic.turn();
    ++turns;
  }
  const double seconds = benchmarks::seconds_on(CLOCK_THREAD_CPUTIME_ID) - began;
  writer.join();
  reclaimer.offline(WorkerId{0});
  reclaimer.drain();
  // Then each packet that left was one that something let pass, and all kinds did
  {
    INFO(kRace);
    INFO(text_of(traffic.violations()));
    CHECK(traffic.violations().empty());
  }
  CHECK(traffic.sealed > 100);
  CHECK(traffic.opened > 100);
  CHECK(traffic.bypassed > 100);
  CHECK(traffic.dropped > 100);
  CHECK(std::ranges::all_of(changes.made(), [](auto made) { return made > kChanges / 4; }));
  CHECK(kChanges / seconds > kLeastChangesPerSecond);
  std::printf(
      "%u changes (%u of SAs, %u of policies, %u of routes) in %.1f s of the worker beside %llu "
      "packets: "
      "%llu sealed, %llu opened, %llu bypassed, %llu handed up, %llu dropped\n",
      kChanges, changes.made()[Changes::sas], changes.made()[Changes::policies],
      changes.made()[Changes::routes], seconds, static_cast<unsigned long long>(traffic.given),
      static_cast<unsigned long long>(traffic.sealed),
      static_cast<unsigned long long>(traffic.opened),
      static_cast<unsigned long long>(traffic.bypassed),
      static_cast<unsigned long long>(traffic.punted),
      static_cast<unsigned long long>(traffic.dropped));
}

TEST_CASE("chaos: the judge sees what must not leave") {
  Shaken shaken;
  Reclaimer& reclaimer = *shaken.gateway.tables().reclaimer;
  Traffic traffic(shaken.gateway, shaken.known, 1);
  const auto refuses = [&](PortId port, const Packet& left) {
    const std::string before = text_of(traffic.violations());
    Result result;
    (port == kLan ? result.lan : result.wan).push_back(left);
    traffic.judge(shaken.known.begin_turn(), result);
    return text_of(traffic.violations()) != before;
  };
  const auto to = [](const std::string& destination) {
    PacketOptions options;
    options.destination = destination;
    return frame(ip_packet(options));
  };
  const auto from = [](const std::string& source) {
    PacketOptions options;
    options.source = source;
    options.destination = "10.1.0.9";
    return frame(ip_packet(options));
  };
  SECTION("protected traffic in clear, either way") {
    CHECK(refuses(kWan, to("10.2.0.7")));
    CHECK(refuses(kWan, to("10.77.0.7")));
    Packet unprotected = from("10.2.0.7");
    std::fill_n(unprotected.begin() + 42, 4, std::uint8_t{0});  // says that no SA brought it
    CHECK(refuses(kLan, unprotected));
  }
  SECTION("bypassed traffic when its policy has gone, and not before") {
    CHECK(refuses(kWan, to("10.9.0.7")));
    shaken.known.give(Known::bypass, 0);
    CHECK_FALSE(refuses(kLan, from("10.9.0.7")));
    CHECK_FALSE(refuses(kWan, to("10.9.0.7")));
    CHECK(refuses(kWan, to("10.9.1.7")));
    shaken.known.take_away(Known::bypass, 0, reclaimer);
    reclaimer.poll();
    CHECK_FALSE(refuses(kWan, to("10.9.0.7")));  // a worker may not know yet
    reclaimer.quiescent(WorkerId{0});
    reclaimer.poll();
    CHECK(refuses(kWan, to("10.9.0.7")));
  }
  SECTION("ESP of nobody's SA") {
    PacketOptions options;
    options.protocol = 50;
    options.payload = Packet(100, 1);
    CHECK(refuses(kWan, frame(ip_packet(options))));
  }
  reclaimer.offline(WorkerId{0});
}
