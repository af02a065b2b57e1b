// A key daemon that is broken or hostile: it may write any byte of the shared memory at any time.
// The data plane's end must not crash, not work without bound, and count what it refuses.
#include <chrono>
#include <csignal>
#include <cstring>
#include <random>

#include <catch2/catch.hpp>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/client.hpp"
#include "channel/handshake.hpp"
#include "channel/layout.hpp"
#include "channel/server.hpp"
#include "tests/unit/channel/fixture.hpp"

using namespace culvert::channel;
using namespace culvert::channel::test;

namespace {

/// A child process that connects and then does `act` with the memory; `act` may run for ever.
template <typename Act>
pid_t spawn(const std::filesystem::path& socket, Act act) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  auto admission = enter(socket);
  if (!admission) ::_exit(3);
  void* const memory = ::mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED,
                              admission->memory.number(), 0);
  if (memory == MAP_FAILED) ::_exit(4);
  act(*static_cast<Memory*>(memory), *admission);
  ::_exit(0);
}

void reap(pid_t child) {
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
}

void until_connected(Server& server) {
  while (!server.connected()) server.poll();
}

/// What the main thread does in one turn of its loop. Returns the messages it was handed.
std::size_t serve_once(Server& server) {
  std::size_t handed = 0;
  server.poll();
  // The caller's bound, not the server's: next_request itself must come back each time.
  for (int times = 0; times < 64; ++times) {
    const auto request = server.next_request();
    if (!request) break;
    // Whatever is handed out has been validated as a copy: it stays valid.
    REQUIRE(validate(*request));
    ++handed;
    (void)server.send(completion(static_cast<std::uint64_t>(request->id)));
  }
  for (int times = 0; times < 64; ++times) {
    const auto datagram = server.next_datagram();
    if (!datagram) break;
    REQUIRE(validate(*datagram));
    ++handed;
  }
  (void)server.send(soft_expire(1));
  (void)server.send(datagram(100));
  server.flush();
  return handed;
}

void fill_random(void* memory, std::size_t size, std::mt19937_64& random) {
  auto* bytes = static_cast<unsigned char*>(memory);
  for (std::size_t at = 0; at + 8 <= size; at += 8) {
    const std::uint64_t word = random();
    std::memcpy(bytes + at, &word, sizeof(word));
  }
}

}  // namespace

TEST_CASE("hostile key daemon: garbage in every byte of the memory ends its connection, no more") {
  const Folder folder;
  const auto server = *Server::create({folder.socket(), ::geteuid()});
  constexpr std::uint64_t kRounds = 20;
  for (std::uint64_t seed = 1; seed <= kRounds; ++seed) {
    INFO("seed " << seed);
    const pid_t child = spawn(folder.socket(), [&](Memory& memory, const Admission& admission) {
      std::mt19937_64 random(seed);
      for (;;) {
        fill_random(&memory, sizeof(memory), random);
        ring_bell(admission.bell.number());
      }
    });
    until_connected(*server);
    // Random indices are torn; the server sends the child away within a bounded number of turns.
    int turns = 0;
    while (server->connected() && turns < 2'000'000) {
      serve_once(*server);
      ++turns;
    }
    CHECK_FALSE(server->connected());
    reap(child);
    server->poll();
  }
  CHECK(server->statistics().connects == kRounds);
  CHECK(server->statistics().torn_indices == kRounds);
}

TEST_CASE("hostile key daemon: garbage slots behind plausible indices are refused one by one") {
  const Folder folder;
  const auto server = *Server::create({folder.socket(), ::geteuid()});
  const pid_t child = spawn(folder.socket(), [](Memory& memory, const Admission& admission) {
    std::mt19937_64 random(7);
    for (;;) {
      // Slots change while they are read; types and lengths are often right, the rest never.
      for (auto& slot : memory.requests.slots) {
        fill_random(slot.bytes.data(), slot.bytes.size(), random);
        const auto type = static_cast<std::uint32_t>(random() % 12);
        std::memcpy(slot.bytes.data(), &type, sizeof(type));
      }
      for (auto& slot : memory.to_network.slots) {
        fill_random(slot.bytes.data(), slot.bytes.size(), random);
      }
      memory.requests.indices.produced =
          memory.requests.indices.consumed + random() % (kRequestSlots + 1);
      memory.to_network.indices.produced =
          memory.to_network.indices.consumed + random() % (kDatagramSlots + 1);
      memory.events.indices.consumed = memory.events.indices.produced.load();
      memory.to_ike.indices.consumed = memory.to_ike.indices.produced.load();
      ring_bell(admission.bell.number());
    }
  });
  until_connected(*server);
  using Clock = std::chrono::steady_clock;
  Clock::duration longest{};
  int turns = 0;
  // Bounded by work, not by time; a torn race of the child's own indices may end it early.
  while (server->connected() && turns < 100'000 &&
         server->statistics().invalid_requests < 200'000) {
    const auto start = Clock::now();
    serve_once(*server);
    longest = std::max(longest, Clock::now() - start);
    ++turns;
  }
  reap(child);
  const ServerStatistics& seen = server->statistics();
  INFO("turns " << turns << ", longest "
                << std::chrono::duration_cast<std::chrono::microseconds>(longest).count() << " us");
  CHECK(seen.invalid_requests > 1000);
  CHECK(seen.invalid_datagrams > 100);
  // 64 calls that each skip at most a ring: generous for a loaded machine, far from "for ever".
  CHECK(longest < std::chrono::seconds(5));
}

TEST_CASE(
    "hostile key daemon: a consumer index that jumps cannot make the server write elsewhere") {
  const Folder folder;
  const auto server = *Server::create({folder.socket(), ::geteuid()});
  const pid_t child = spawn(folder.socket(), [](Memory& memory, const Admission&) {
    std::mt19937_64 random(9);
    for (;;) {
      memory.events.indices.consumed = random();
      memory.to_ike.indices.consumed = random();
    }
  });
  until_connected(*server);
  int turns = 0;
  while (server->connected() && turns++ < 2'000'000) serve_once(*server);
  reap(child);
  CHECK(server->statistics().torn_indices == 1);
}

TEST_CASE("hostile key daemon: one killed in the middle of a write is noticed and replaced") {
  const Folder folder;
  const auto server = *Server::create({folder.socket(), ::geteuid()});
  for (int round = 0; round < 20; ++round) {
    const pid_t child = spawn(folder.socket(), [](Memory& memory, const Admission&) {
      std::mt19937_64 random(3);
      for (;;) fill_random(&memory.requests.slots, sizeof(memory.requests.slots), random);
    });
    until_connected(*server);
    serve_once(*server);
    reap(child);

    server->poll();

    REQUIRE_FALSE(server->connected());
  }
  const pid_t sound = ::fork();
  if (sound == 0) {
    const auto client = Client::connect(folder.socket());
    if (!client || !(*client)->send(query_sa(5))) ::_exit(1);
    (*client)->flush();
    while ((*client)->alive()) {
      if (const auto event = (*client)->next_event();
          event && event->type == EventType::completion) {
        ::_exit(event->body.completion.request == RequestId{5} ? 0 : 2);
      }
    }
    ::_exit(3);
  }
  int status = -1;
  while (::waitpid(sound, &status, WNOHANG) == 0) serve_once(*server);
  CHECK(status == 0);
}

TEST_CASE(
    "hostile key daemon: one that fills the bell and reads nothing does not stop the server") {
  const Folder folder;
  const auto server = *Server::create({folder.socket(), ::geteuid()});
  const pid_t child = spawn(folder.socket(), [](Memory&, const Admission& admission) {
    const std::array<char, 65536> noise{};
    for (;;) (void)!::send(admission.bell.number(), noise.data(), noise.size(), MSG_NOSIGNAL);
  });
  until_connected(*server);
  for (int turns = 0; turns < 20'000; ++turns) serve_once(*server);
  CHECK(server->connected());
  CHECK(server->statistics().events_lost > 0);
  reap(child);
}
