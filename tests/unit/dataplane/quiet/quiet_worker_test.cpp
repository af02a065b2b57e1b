// A worker with packets to carry allocates nothing, locks nothing and calls nobody: the iteration
// runs under a trap that sees each of these, in our code and in the libraries'.
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "tests/unit/dataplane/quiet/trap.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

/// Has the gateway's iterations run under the trap, and fails the test for what it saw.
void watch(Gateway& gateway) {
  gateway.iterate = [](WorkerState& worker, Burst& burst) {
    Seen seen;
    {
      const Trap trap;
      run_iteration(worker, burst);
      seen = trap.seen();
    }
    CHECK(seen.allocations == 0);
    CHECK(seen.frees == 0);
    CHECK(seen.locks == 0);
    INFO("system call " << seen.last_system_call);
    CHECK(seen.system_calls == 0);
  };
}

struct Kind {
  std::string name;
  bool v6, udp, esn;
};

/// Different flows and lengths: some in the flow cache, some not.
std::vector<Packet> burst_of(const Kind& kind, int round) {
  std::vector<Packet> frames;
  for (int number = 0; number < 64; ++number) {
    PacketOptions options;
    if (kind.v6) {
      options.source = "2001:db8:1::9";
      options.destination = "2001:db8:2::7";
    }
    const auto port = static_cast<std::uint16_t>(1000 + (number + round) % 48);
    options.payload = udp(port, 9, Packet(static_cast<std::size_t>(number) * 19, 0x42));
    frames.push_back(frame(ip_packet(options)));
  }
  return frames;
}

}  // namespace

TEST_CASE("trap: an allocation, a lock and a system call are seen") {
  std::mutex mutex;
  Seen seen;
  {
    const Trap trap;
    // volatile: a compiler may leave out an allocation that nobody looks at.
    int* volatile memory = new int(1);
    delete memory;
    mutex.lock();
    mutex.unlock();
    static_cast<void>(::getppid());
    seen = trap.seen();
  }
  CHECK(seen.allocations == 1);
  CHECK(seen.frees == 1);
  CHECK(seen.locks == 1);
  if (can_see_system_calls()) {
    CHECK(seen.system_calls == 1);
    CHECK(::getppid() > 0);
  } else {
    WARN("this kernel has no syscall user dispatch: system calls are not watched");
  }
}

TEST_CASE("worker: full bursts are sealed and opened without allocation, lock or system call") {
  const auto kind = GENERATE(values<Kind>({{"4in4", false, false, true},
                                           {"4in4 udp", false, true, false},
                                           {"6in6", true, false, true}}));
  INFO(kind.name);
  SaOptions options;
  options.esn = kind.esn;
  options.udp = kind.udp;
  if (kind.v6) {
    options.local_selectors = {"2001:db8:1::/64"};
    options.remote_selectors = {"2001:db8:2::/64"};
    options.outer_local = "2001:db8:ff::1";
    options.outer_remote = "2001:db8:ff::2";
  }
  Gateway left, right(mirrored());
  const SlotIndex slot = left.install(outbound_sa(options));
  left.protect(options.local_selectors[0], options.remote_selectors[0], slot);
  right.install(inbound_sa(options));
  watch(left);
  watch(right);
  for (int round = 0; round < 4; ++round) {
    const Result sealed = left.receive(kLan, burst_of(kind, round));
    REQUIRE(sealed.wan.size() == 64);
    const Result opened = right.receive(kWan, sealed.wan);
    CHECK(opened.lan.size() == 64);
    // Once more: a burst of replays is dropped as quietly.
    CHECK(right.receive(kWan, sealed.wan).dropped(DropReason::replay_duplicate) == 64);
  }
  if (!kind.esn) return;
  // 2^32 packets are lost: what that leads to (RFC 4303 appendix A3) is as quiet.
  left.tables().sad->outbound(slot)->sequence += std::uint64_t{1} << 32U;
  for (const std::uint64_t lost : {64U, 63U, 0U}) {
    const Result sealed = left.receive(kLan, burst_of(kind, 0));
    CHECK(right.receive(kWan, sealed.wan).dropped(DropReason::icv_mismatch) == lost);
  }
}

TEST_CASE("worker: what is dropped, answered or handed up costs no allocation, lock or call") {
  Gateway gateway;
  gateway.policy(PolicyAction::bypass, "10.1.0.0/24", "10.1.0.0/24");
  watch(gateway);
  // No policy, no ESP SA of that SPI, echo to our own address, a packet in its last hop, ARP,
  // noise.
  PacketOptions last_hop;
  last_hop.ttl = 1;
  PacketOptions unknown;
  unknown.source = "198.51.100.2";
  unknown.destination = "198.51.100.1";
  unknown.protocol = 50;
  std::vector<Packet> frames{frame(ip_packet({})), frame(ip_packet(last_hop)),
                             frame(echo_request("10.1.0.9", "10.1.0.1")),
                             frame(Packet(46, 0), 0x0806), frame(Packet(60, 0xee), 0x0800)};
  for (int round = 0; round < 3; ++round) {
    gateway.receive(kLan, frames);
    gateway.receive(kWan, frame(ip_packet(unknown)));
  }
}

TEST_CASE("worker: polling empty queues costs nothing either") {
  Gateway gateway;
  watch(gateway);
  for (int round = 0; round < 100; ++round) gateway.receive(kLan, std::vector<Packet>{});
}
