#include <algorithm>
#include <filesystem>
#include <string>

#include <catch2/catch.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/runtime/control_daemon.hpp"

using namespace culvert::runtime;
using namespace culvert::runtime::test;
using namespace std::chrono_literals;
using nlohmann::json;

TEST_CASE("control socket: a request gets its result, an error its code and words") {
  Daemon daemon;
  const auto result = daemon.ask("echo", {{"name", "office"}});
  REQUIRE(result);
  CHECK((*result)["name"] == "office");
  const auto failed = daemon.ask("fail");
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == "unknown_child");
  CHECK(failed.error().message == "there is no child \"ofice\"");
}

TEST_CASE("control socket: no arguments, null and an empty object are the same to a handler") {
  Daemon daemon;
  CHECK(daemon.ask("echo", nlohmann::json{}) == nlohmann::json::object());
  CHECK(daemon.ask("echo", nlohmann::json::object()) == nlohmann::json::object());
}

TEST_CASE("control socket: an unknown verb names those there are") {
  Daemon daemon;
  const auto failed = daemon.ask("stauts");
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == "unknown_verb");
  CHECK(failed.error().message.find("echo, fail") != std::string::npos);
}

TEST_CASE("control socket: an argument of the wrong type is the client's error") {
  Daemon daemon;
  for (const json& args : {json{{"number", "six"}}, json::object()}) {
    const auto failed = daemon.ask("number", args);
    REQUIRE_FALSE(failed);
    CHECK(failed.error().code == "bad_request");
  }
  CHECK((*daemon.ask("number", {{"number", 6}}))["twice"] == 12);
}

TEST_CASE("control socket: bytes of a peer that are not UTF-8 do not break the answer") {
  Daemon daemon;
  daemon.server->handle("odd",
                        [](const json&, const Responder& to) { to.ok({{"id", "\xFF\xC0"}}); });
  CHECK(daemon.ask("odd"));
}

TEST_CASE("control socket: an answer may come later, once, and only to a client that is there") {
  Daemon daemon;
  RawClient client(daemon.socket);
  client.send("{\"verb\":\"later\"}\n{\"verb\":\"echo\",\"args\":{\"n\":2}}\n");
  daemon.serve([&] { return !daemon.later.empty(); });
  REQUIRE(daemon.later.size() == 1);
  CHECK(daemon.later[0].wanted());
  CHECK(client.received()
            .value_or("closed")
            .empty());  // the second waits for the first: answers keep their order

  daemon.later[0].ok({{"n", 1}});
  daemon.later[0].ok({{"n", 99}});
  std::string all;
  daemon.serve([&] {
    all += client.received().value_or("");
    return std::ranges::count(all, '\n') == 2;
  });
  CHECK(all == "{\"ok\":true,\"result\":{\"n\":1}}\n{\"ok\":true,\"result\":{\"n\":2}}\n");
}

TEST_CASE("control socket: a request that is forgotten is answered all the same") {
  Daemon daemon;
  const auto failed = daemon.ask("forget");
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == "unanswered");
}

TEST_CASE("control socket: a client that leaves before its answer is no trouble") {
  Daemon daemon;
  {
    RawClient client(daemon.socket);
    client.send("{\"verb\":\"later\"}\n");
    daemon.serve([&] { return !daemon.later.empty(); });
  }
  daemon.serve([&] { return !daemon.later[0].wanted(); });
  daemon.later[0].ok({});
  CHECK(daemon.ask("echo"));
}

TEST_CASE("control socket: what is not a request is answered with an error and the end") {
  Daemon daemon;
  const std::string line = GENERATE(as<std::string>{}, "GET / HTTP/1.1", "", "[]", "{\"args\":{}}",
                                    "{\"verb\":7}", "{\"verb\":\"echo\",\"args\":[1]}", "\xFF\xFE",
                                    "{\"verb\":\"echo\"", std::string(100'000, '['));
  RawClient client(daemon.socket);
  client.send(line + "\n{\"verb\":\"echo\"}\n");
  const std::string answer = client.until_closed(daemon);
  CHECK(answer.find("\"code\":\"bad_request\"") != std::string::npos);
  CHECK(std::ranges::count(answer, '\n') == 1);
  CHECK(daemon.server->statistics().bad_lines == 1);
}

TEST_CASE("control socket: a line without an end is cut off at its limit") {
  Daemon daemon({.line_bytes = 4096});
  RawClient client(daemon.socket);
  client.send(std::string(100'000, 'a'));
  CHECK(client.until_closed(daemon).find("line_too_long") != std::string::npos);
}

TEST_CASE("control socket: a line of exactly the limit is taken") {
  Daemon daemon({.line_bytes = 4096});
  RawClient client(daemon.socket);
  std::string line = "{\"verb\":\"echo\",\"args\":{\"x\":\"";
  line += std::string(4096 - line.size() - 3, 'x') + "\"}}";
  REQUIRE(line.size() == 4096);
  client.send(line + "\n");
  std::string answer;
  daemon.serve([&] { return !(answer += client.received().value_or("")).empty(); });
  CHECK(answer.find("\"ok\":true") != std::string::npos);
}

TEST_CASE("control socket: requests sent ahead are all answered, in order, a byte at a time too") {
  Daemon daemon;
  RawClient client(daemon.socket);
  std::string sent, answers;
  constexpr int kRequests = 200;
  for (int number = 0; number < kRequests; ++number) {
    sent += "{\"verb\":\"number\",\"args\":{\"number\":" + std::to_string(number) + "}}\n";
  }
  if (GENERATE(false, true)) {
    for (const char byte : sent) {
      client.send({&byte, 1});
      daemon.server->poll();
    }
  } else {
    client.send(sent);
  }
  daemon.serve([&] {
    answers += client.received().value_or("");
    return std::ranges::count(answers, '\n') == kRequests;
  });
  std::string expected;
  for (int number = 0; number < kRequests; ++number) {
    expected += "{\"ok\":true,\"result\":{\"twice\":" + std::to_string(2 * number) + "}}\n";
  }
  CHECK(answers == expected);
}

TEST_CASE("control socket: a large answer arrives whole, and one nobody reads blocks nobody") {
  Daemon daemon;
  RawClient lazy(daemon.socket);
  lazy.send("{\"verb\":\"large\"}\n{\"verb\":\"large\"}\n");
  daemon.serve([&] { return daemon.server->statistics().requests == 1; });
  const auto large = daemon.ask("large");
  REQUIRE(large);
  CHECK((*large)["text"].get<std::string>().size() == 8U << 20U);
  // The lazy client's second request is not even begun before it reads the first answer.
  CHECK(daemon.server->statistics().requests == 2);
}

TEST_CASE("control socket: when all places are taken, the stalled make room, the waiting do not") {
  Daemon daemon({.connections = 2, .stalled = 0ms});
  RawClient waiting(daemon.socket), silent(daemon.socket);
  waiting.send("{\"verb\":\"later\"}\n");
  daemon.serve([&] { return !daemon.later.empty(); });
  CHECK(daemon.ask("echo"));
  CHECK(daemon.server->statistics().dropped_stalled == 1);
  CHECK(daemon.later[0].wanted());
}

TEST_CASE("control socket: beyond the limit a connection is refused while the others are alive") {
  Daemon daemon({.connections = 2, .stalled = 1h});
  RawClient first(daemon.socket), second(daemon.socket);
  const auto failed = daemon.ask("echo");
  REQUIRE_FALSE(failed);
  CHECK(failed.error().code == "disconnected");
  CHECK(daemon.server->statistics().refused_connections == 1);
}

TEST_CASE("control socket: it has the mode asked for, and its file goes with the server") {
  const Folder folder;
  const auto path = folder.path / "mode.sock";
  {
    const auto server = ControlServer::create(path, 0660, ::geteuid());
    REQUIRE(server);
    struct stat status{};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0660U);
    // A living daemon keeps its place.
    CHECK_FALSE(ControlServer::create(path, 0660, ::geteuid()));
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("control socket: a file that is no socket is left alone") {
  const Folder folder;
  const auto path = folder.path / "precious";
  std::filesystem::create_directory(path);
  CHECK_FALSE(ControlServer::create(path, 0600, ::geteuid()));
  CHECK(std::filesystem::exists(path));
}

TEST_CASE("control client: a daemon that is not there, silent or gone is told apart") {
  const Folder folder;
  const auto path = folder.path / "none.sock";
  const auto absent = control_request(path, "status", {}, 100ms);
  REQUIRE_FALSE(absent);
  CHECK(absent.error().code == "not_running");

  const int listener = *listen_unix(path, 0600, ::geteuid());
  const auto silent = control_request(path, "status", {}, 20ms);
  REQUIRE_FALSE(silent);
  CHECK(silent.error().code == "timeout");

  ::close(listener);  // the file stays: a daemon that was killed
  const auto killed = control_request(path, "status", {}, 100ms);
  REQUIRE_FALSE(killed);
  CHECK(killed.error().code == "not_running");
}

TEST_CASE("control client: a path that is too long is an error in words") {
  const auto result = control_request(std::string(200, 'p'), "status", {}, 10ms);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == "system");
}
