#include <cerrno>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include <atomic>
#include <catch2/catch.hpp>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "channel/client.hpp"
#include "channel/handshake.hpp"
#include "channel/mapping.hpp"
#include "channel/server.hpp"
#include "tests/unit/channel/fixture.hpp"

using namespace culvert::channel;
using namespace culvert::channel::test;

namespace {

/// A server, and a client that is connected to it.
struct Pair {
  Folder folder;
  std::unique_ptr<Server> server = *Server::create({folder.socket(), ::geteuid()});
  std::unique_ptr<Client> client;

  Pair() { client = connect(); }

  /// The client waits for the greeting, which the server's poll sends: two threads.
  std::unique_ptr<Client> connect(std::string* problem = nullptr) {
    std::unique_ptr<Client> made;
    std::atomic<bool> finished = false;
    std::thread connecting([&] {
      auto result = Client::connect(folder.socket());
      if (result) {
        made = std::move(*result);
      } else if (problem != nullptr) {
        *problem = result.error();
      }
      finished = true;
    });
    while (!finished) {
      server->poll();
      std::this_thread::yield();
    }
    connecting.join();
    return made;
  }
};

/// A server of another build, or a hostile one: greets once as it is told to.
std::string connect_to_impostor(Greeting greeting, int memory) {
  const Folder folder;
  const auto listener = listen_at(folder.socket(), ::geteuid());
  REQUIRE(listener);
  std::string problem;
  std::thread client([&] {
    const auto result = Client::connect(folder.socket());
    problem = result ? "" : result.error();
  });
  Descriptor connection;
  while (!connection.valid()) {
    connection = Descriptor(::accept4(listener->number(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  std::array<int, 2> bells{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bells.data()) == 0);
  const Descriptor bell(bells[0]), other_bell(bells[1]);
  if (greeting.magic == kMagic && greeting.layout_version == kLayoutVersion && memory >= 0) {
    greet(connection.number(), greeting.welcome, memory, bell.number());
  } else {
    (void)!::send(connection.number(), &greeting, sizeof(greeting), MSG_NOSIGNAL);
  }
  client.join();
  return problem;
}

Descriptor unsealed_memory(std::size_t size, const Header& header) {
  Descriptor file(::memfd_create("impostor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(file.number(), static_cast<off_t>(size)) == 0);
  REQUIRE(::pwrite(file.number(), &header, sizeof(header), 0) == sizeof(header));
  return file;
}

void seal(const Descriptor& file) {
  REQUIRE(::fcntl(file.number(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
}

}  // namespace

TEST_CASE("channel: requests, completions, events and datagrams pass both ways") {
  Pair pair;
  REQUIRE(pair.client);
  REQUIRE(pair.server->connected());

  REQUIRE(pair.client->send(install_sa()));
  REQUIRE(pair.client->send(datagram(1200, 0x33)));
  pair.client->flush();

  const auto request = pair.server->next_request();
  REQUIRE(request);
  CHECK(request->type == RequestType::install_sa);
  CHECK(request->body.install_sa.spi == Spi{0xC0000101});
  const auto outgoing = pair.server->next_datagram();
  REQUIRE(outgoing);
  CHECK(outgoing->length == 1200);
  CHECK(outgoing->bytes[1199] == 0x33);

  REQUIRE(pair.server->send(completion(7)));
  REQUIRE(pair.server->send(soft_expire(11)));
  REQUIRE(pair.server->send(datagram(60, 0x44)));
  pair.server->flush();

  const auto first = pair.client->next_event();
  REQUIRE(first);
  CHECK(first->body.completion.request == RequestId{7});
  const auto second = pair.client->next_event();
  REQUIRE(second);
  CHECK(second->type == EventType::soft_expire);
  const auto incoming = pair.client->next_datagram();
  REQUIRE(incoming);
  CHECK(incoming->bytes[59] == 0x44);
  CHECK_FALSE(pair.client->next_event());
  CHECK_FALSE(pair.server->next_request());
}

TEST_CASE("channel: an invalid request is counted, answered and skipped; the next one is taken") {
  Pair pair;
  Request broken = install_sa();
  broken.body.install_sa.spi = Spi{3};
  REQUIRE(pair.client->send(broken));
  REQUIRE(pair.client->send(request(RequestType{77}, 8)));
  REQUIRE(pair.client->send(query_sa(9)));

  const auto taken = pair.server->next_request();

  REQUIRE(taken);
  CHECK(taken->id == RequestId{9});
  CHECK(pair.server->statistics().invalid_requests == 2);
  const auto refused = pair.client->next_event();
  REQUIRE(refused);
  CHECK(refused->body.completion.request == RequestId{7});
  CHECK(refused->body.completion.outcome == Outcome::invalid_field);
  const auto unknown = pair.client->next_event();
  REQUIRE(unknown);
  CHECK(unknown->body.completion.outcome == Outcome::unknown_request);
}

TEST_CASE("channel: a completion is never lost to events, and requests wait for a late reader") {
  // given: an event ring that a snapshot filled, and more requests
  Pair pair;
  for (std::uint64_t id = 1; id <= 100; ++id) REQUIRE(pair.client->send(query_sa(id)));
  std::vector<RequestId> taken;
  for (int times = 0; times < 50; ++times) taken.push_back(pair.server->next_request()->id);
  std::size_t events = 0;
  while (pair.server->send(soft_expire(1))) ++events;
  // when: every taken request is answered
  for (const RequestId id : taken) {
    CHECK(pair.server->send(completion(static_cast<std::uint64_t>(id))));
  }
  // then: all completions had a place, and no further request is taken before the client reads
  CHECK(events == kEventSlots - 50);
  CHECK_FALSE(pair.server->next_request());
  while (pair.client->next_event()) {
  }
  CHECK(pair.server->next_request());
}

TEST_CASE("channel: a bell rings only when something was sent, and is heard once") {
  Pair pair;
  const auto rings = [&] {
    char byte = 0;
    return ::recv(pair.client->event_descriptor(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
  };
  pair.server->flush();
  CHECK_FALSE(rings());
  REQUIRE(pair.server->send(soft_expire(1)));
  CHECK_FALSE(rings());
  pair.server->flush();
  CHECK(rings());
  pair.client->acknowledge();
  CHECK_FALSE(rings());
  pair.server->flush();
  CHECK_FALSE(rings());
}

TEST_CASE("channel: a peer that never hears the bell cannot block the other end") {
  Pair pair;
  // Far more rings than a socket buffers; the test ends only if no ring waits.
  for (int times = 0; times < 20'000; ++times) {
    ring_bell(pair.client->event_descriptor());
    ring_bell(pair.server->descriptors()[2]);
  }
  pair.server->poll();
  CHECK(pair.server->connected());
}

TEST_CASE("channel: a full datagram ring loses the datagram and counts it") {
  Pair pair;
  for (std::size_t sent = 0; sent < kDatagramSlots; ++sent) REQUIRE(pair.client->send(datagram(9)));
  CHECK_FALSE(pair.client->send(datagram(9)));
  CHECK(pair.client->statistics().datagrams_lost == 1);
  for (std::size_t sent = 0; sent < kDatagramSlots; ++sent) REQUIRE(pair.server->send(datagram(9)));
  CHECK_FALSE(pair.server->send(datagram(9)));
  CHECK(pair.server->statistics().datagrams_lost == 1);
}

TEST_CASE("channel: without a key daemon, sending is a counted loss and nothing more") {
  const Folder folder;
  const auto server = Server::create({folder.socket(), ::geteuid()});
  REQUIRE(server);
  CHECK_FALSE((*server)->send(soft_expire(1)));
  CHECK_FALSE((*server)->send(datagram(20)));
  CHECK_FALSE((*server)->next_request());
  CHECK((*server)->statistics().events_lost == 1);
  CHECK((*server)->statistics().datagrams_lost == 1);
}

TEST_CASE(
    "channel: a second key daemon is refused while the first is alive, and admitted after it") {
  Pair pair;
  std::string problem;
  CHECK_FALSE(pair.connect(&problem));
  CHECK(problem.find("another key daemon is connected") != std::string::npos);
  CHECK(pair.server->statistics().refused_busy == 1);
  CHECK(pair.client->alive());

  pair.client.reset();
  CHECK(pair.connect());
  CHECK(pair.server->statistics().connects == 2);
}

TEST_CASE("channel: each connection begins with empty rings") {
  Pair pair;
  REQUIRE(pair.client->send(query_sa(1)));
  REQUIRE(pair.server->send(soft_expire(1)));
  pair.client.reset();

  pair.client = pair.connect();

  REQUIRE(pair.client);
  CHECK_FALSE(pair.server->next_request());
  CHECK_FALSE(pair.client->next_event());
}

TEST_CASE("channel: either end notices that the other is gone") {
  Pair pair;
  SECTION("the key daemon") {
    pair.client.reset();
    CHECK(pair.server->poll());
    CHECK_FALSE(pair.server->connected());
    CHECK_FALSE(pair.server->poll());
    CHECK(pair.server->descriptors().size() == 1);
  }
  SECTION("the data plane") {
    CHECK(pair.client->alive());
    pair.server.reset();
    CHECK_FALSE(pair.client->alive());
  }
  SECTION("a key daemon that talks on the socket has lost its way") {
    REQUIRE(::send(pair.client->socket_descriptor(), "hello", 5, MSG_NOSIGNAL) == 5);
    CHECK(pair.server->poll());
    CHECK_FALSE(pair.server->connected());
  }
}

TEST_CASE(
    "channel: a second server of the instance does not take over the socket of a living one") {
  const Folder folder;
  auto first = Server::create({folder.socket(), ::geteuid()});
  REQUIRE(first);
  const auto second = Server::create({folder.socket(), ::geteuid()});
  REQUIRE_FALSE(second);
  CHECK(second.error().find("another data plane") != std::string::npos);
}

TEST_CASE("channel: what a server that was killed left behind is replaced") {
  const Folder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const auto server = Server::create({folder.socket(), ::geteuid()});
    ::raise(SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(std::filesystem::exists(folder.socket()));
  CHECK(Server::create({folder.socket(), ::geteuid()}));
}

TEST_CASE("channel: no data plane is said in an operator's words") {
  const Folder folder;
  const auto client = Client::connect(folder.socket());
  REQUIRE_FALSE(client);
  CHECK(client.error().find("the data plane is not running") != std::string::npos);
  CHECK_FALSE(Client::connect(std::string(200, 'x')));
}

TEST_CASE("channel: connecting in two steps never waits for a data plane that says nothing") {
  const Folder folder;
  const auto listener = listen_at(folder.socket(), ::geteuid());
  REQUIRE(listener);
  // Nobody accepts: still it returns, and there is nothing to read.
  auto connection = Client::begin(folder.socket());
  REQUIRE(connection);
  CHECK_FALSE(Client::finish(folder.socket(), std::move(*connection)));
}

TEST_CASE("channel: connecting in two steps gives a client that works") {
  const Folder folder;
  auto server = Server::create({folder.socket(), ::geteuid()});
  REQUIRE(server);
  auto connection = Client::begin(folder.socket());
  REQUIRE(connection);
  (*server)->poll();
  const auto client = Client::finish(folder.socket(), std::move(*connection));
  REQUIRE(client);
  CHECK((*client)->alive());
}

TEST_CASE("channel: memory that a server passed cannot shrink, grow or be resealed") {
  Pair pair;
  pair.client.reset();
  pair.server->poll();
  std::optional<Admission> admission;
  std::thread entering([&] {
    auto entered = enter(pair.folder.socket());
    if (entered) admission = std::move(*entered);
  });
  while (!pair.server->connected()) pair.server->poll();
  entering.join();
  REQUIRE(admission);
  const int memory = admission->memory.number();

  CHECK(::ftruncate(memory, 0) != 0);
  CHECK(errno == EPERM);
  CHECK(::ftruncate(memory, sizeof(Memory) - 4096) != 0);
  CHECK(::ftruncate(memory, sizeof(Memory) + 4096) != 0);
  CHECK(::fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE) != 0);
}

TEST_CASE("channel: a client maps nothing that is not exactly this build's sealed memory") {
  const Greeting ok{kMagic, kLayoutVersion, Welcome::ok};
  Header header = expected_header();
  SECTION("a greeting of another layout version") {
    const auto problem = connect_to_impostor({kMagic, kLayoutVersion + 1, Welcome::ok}, -1);
    CHECK(problem.find("run both from the same release") != std::string::npos);
  }
  SECTION("a greeting that is not Culvert's") {
    CHECK(connect_to_impostor({1, kLayoutVersion, Welcome::ok}, -1).find("not Culvert") !=
          std::string::npos);
  }
  SECTION("a greeting without descriptors") {
    CHECK(connect_to_impostor(ok, -1).find("passed no memory") != std::string::npos);
  }
  SECTION("memory that is not sealed") {
    const auto memory = unsealed_memory(sizeof(Memory), header);
    CHECK(connect_to_impostor(ok, memory.number()).find("not sealed") != std::string::npos);
  }
  SECTION("memory smaller than its header says") {
    const auto memory = unsealed_memory(8192, header);
    seal(memory);
    CHECK(connect_to_impostor(ok, memory.number()).find("sizes") != std::string::npos);
  }
  SECTION("memory too small for a header") {
    const auto memory = unsealed_memory(8192, header);
    REQUIRE(::ftruncate(memory.number(), 10) == 0);
    seal(memory);
    CHECK(connect_to_impostor(ok, memory.number()).find("too small") != std::string::npos);
  }
  SECTION("a header of another layout version") {
    header.layout_version += 1;
    const auto memory = unsealed_memory(sizeof(Memory), header);
    seal(memory);
    CHECK(connect_to_impostor(ok, memory.number()).find("layout " + std::to_string(kLayoutVersion + 1)) !=
          std::string::npos);
  }
  SECTION("a header with another magic") {
    header.magic ^= 1;
    const auto memory = unsealed_memory(sizeof(Memory), header);
    seal(memory);
    CHECK(connect_to_impostor(ok, memory.number()).find("not Culvert's") != std::string::npos);
  }
  SECTION("a header whose ring is elsewhere") {
    header.rings[1].offset = 0xFFFF'FFFF'0000;
    const auto memory = unsealed_memory(sizeof(Memory), header);
    seal(memory);
    CHECK(connect_to_impostor(ok, memory.number()).find("sizes") != std::string::npos);
  }
  SECTION("a file that is no memory at all") {
    const Descriptor file(::open("/dev/null", O_RDWR | O_CLOEXEC));
    CHECK(connect_to_impostor(ok, file.number()).find("F_GET_SEALS") != std::string::npos);
  }
}

TEST_CASE("channel: a user that is neither root nor the service user is refused and counted") {
  if (::geteuid() != 0) {
    WARN("needs root to become another user");
    return;
  }
  constexpr uid_t kNobody = 65534;
  const Folder folder;
  auto server = Server::create({folder.socket(), ::geteuid()});
  REQUIRE(server);
  // Let it through the folder and the file: what is tested is the check behind them.
  REQUIRE(::chmod(folder.path.c_str(), 0755) == 0);
  REQUIRE(::chmod(folder.socket().c_str(), 0666) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(kNobody) != 0) ::_exit(2);
    const auto client = Client::connect(folder.socket());
    const bool refused = !client && client.error().find("refuses this user") != std::string::npos;
    ::_exit(refused ? 0 : 1);
  }
  int status = -1;
  while (::waitpid(child, &status, WNOHANG) == 0) (*server)->poll();
  CHECK(status == 0);
  CHECK((*server)->statistics().refused_uid == 1);
  CHECK_FALSE((*server)->connected());
}
