// Answers in slices: one a poll for all clients together, made as they are read.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "runtime/event_loop.hpp"
#include "tests/unit/runtime/control_daemon.hpp"

using namespace culvert::runtime;
using namespace culvert::runtime::test;

namespace {

/// What is seen of the answers that are being made.
struct Seen {
  std::vector<int> slices;  ///< whose they were, in order
  int living = 0;
};

/// A list of `count` texts, one a slice.
class Texts final : public SlicedResult {
 public:
  Texts(Seen& seen, int whose, int count, std::string text)
      : seen_(seen), whose_(whose), count_(count), text_(std::move(text)) {
    ++seen_.living;
  }
  ~Texts() override { --seen_.living; }
  Texts(const Texts&) = delete;
  Texts& operator=(const Texts&) = delete;

  bool make_slice(std::string& text) override {
    seen_.slices.push_back(whose_);
    if (made_++ == 0) {
      text += '[';
    } else if (!text_.empty()) {
      text += ',';
    }
    if (!text_.empty()) text += control_text(text_);
    if (made_ == count_) text += ']';
    return made_ == count_;
  }

 private:
  Seen& seen_;
  int whose_, count_;
  std::string text_;
  int made_ = 0;
};

/// One whose verb `texts` answers in slices.
struct SlicingDaemon : Seen, Daemon {
  explicit SlicingDaemon(ControlLimits limits = {}) : Daemon(limits) {
    server->handle("texts", [this](const json& args, const Responder& to) {
      to.ok_in_slices(std::make_unique<Texts>(*this, args.value("whose", 0), args.value("count", 3),
                                              std::string(args.value("bytes", 1), 'x')));
    });
  }
  ~SlicingDaemon() { server.reset(); }  // with what it still answers
  SlicingDaemon(const SlicingDaemon&) = delete;
  SlicingDaemon& operator=(const SlicingDaemon&) = delete;
};

std::string request(const json& args) {
  return json{{"verb", "texts"}, {"args", args}}.dump() + '\n';
}

}  // namespace

TEST_CASE("control slices: the answer is the one of one turn, byte for byte") {
  SlicingDaemon daemon;
  RawClient client(daemon.socket);
  client.send(request({{"count", 3}}) + "{\"verb\":\"echo\",\"args\":{\"n\":1}}\n");
  std::string answers;
  daemon.serve([&] {
    answers += client.received().value_or("");
    return std::ranges::count(answers, '\n') == 2;
  });
  CHECK(answers ==
        "{\"ok\":true,\"result\":[\"x\",\"x\",\"x\"]}\n{\"ok\":true,\"result\":{\"n\":1}}\n");
  CHECK(daemon.living == 0);
}

TEST_CASE("control slices: a poll makes one, whoever asks for how much, each in his turn") {
  SlicingDaemon daemon;
  const RawClient first(daemon.socket), second(daemon.socket), third(daemon.socket);
  first.send(request({{"whose", 1}, {"count", 100}}));
  second.send(request({{"whose", 2}, {"count", 4}}));
  daemon.serve([&] { return daemon.living == 2; });
  third.send("{\"verb\":\"echo\"}\n");
  std::string echo;
  for (std::size_t before = daemon.slices.size(); daemon.slices.size() < 50;
       before = daemon.slices.size()) {
    daemon.server->poll();
    REQUIRE(daemon.slices.size() <= before + 1);
    echo += third.received().value_or("");
  }
  CHECK(echo == "{\"ok\":true,\"result\":{}}\n");  // answered meanwhile
  const auto behind_second = std::find(daemon.slices.rbegin(), daemon.slices.rend(), 2).base();
  CHECK(std::count(daemon.slices.begin(), behind_second, 2) == 4);
  CHECK(std::count(daemon.slices.begin(), behind_second, 1) <= 5);
}

TEST_CASE("control slices: the loop comes back for the next, whether one has made text or not") {
  SlicingDaemon daemon;
  const auto loop = *EventLoop::create();
  REQUIRE(loop->add(daemon.server->descriptor(), [&] { daemon.server->poll(); }));
  RawClient client(daemon.socket);
  client.send(request({{"count", 20}, {"bytes", GENERATE(0, 1)}}));
  std::string answer;
  for (int turns = 0; turns < 50 && answer.find('\n') == std::string::npos; ++turns) {
    loop->run_once(2s);
    answer += client.received().value_or("");
  }
  CHECK(answer.ends_with("]}\n"));
}

TEST_CASE("control slices: what nobody reads is not made") {
  SlicingDaemon daemon;
  constexpr int kBytes = 100'000, kCount = 200;
  const RawClient lazy(daemon.socket);
  lazy.send(request({{"count", kCount}, {"bytes", kBytes}}));
  daemon.serve([&] { return daemon.living == 1; });
  std::size_t made = 0;
  do {  // until the socket takes no more
    made = daemon.slices.size();
    for (int polls = 0; polls < 100; ++polls) daemon.server->poll();
  } while (daemon.slices.size() != made);
  CHECK(made < 100);
  CHECK(daemon.ask("texts"));
  CHECK(daemon.slices.size() == made + 3);

  std::size_t received = 0;
  daemon.serve([&] {
    const std::string part = lazy.received().value_or("");
    received += part.size();
    return part.ends_with('\n');
  });
  CHECK(received > std::size_t{kCount} * kBytes);
}

TEST_CASE("control slices: whoever leaves between two ends his answer") {
  SlicingDaemon daemon;
  const int bytes = GENERATE(0, 1, 100'000);
  {
    const RawClient client(daemon.socket);
    client.send(request({{"count", 1'000'000'000}, {"bytes", bytes}}));
    daemon.serve([&] { return daemon.slices.size() >= 2; });
    CHECK(daemon.living == 1);
  }
  daemon.serve([&] { return daemon.living == 0; });
  CHECK(daemon.living == 0);
  CHECK(daemon.ask("echo"));
}

TEST_CASE("control slices: one that is not read gives its place to another client") {
  SlicingDaemon daemon({.connections = 1, .stalled = 0ms});
  const RawClient lazy(daemon.socket);
  lazy.send(request({{"count", 1000}, {"bytes", 1 << 20}}));
  daemon.serve([&] { return daemon.living == 1; });
  CHECK(daemon.ask("echo"));
  CHECK(daemon.living == 0);
  CHECK(daemon.server->statistics().dropped_stalled == 1);
}

TEST_CASE("control slices: the server ends with those that are not over") {
  Seen seen;
  {
    Daemon daemon;
    daemon.server->handle("texts", [&](const json&, const Responder& to) {
      to.ok_in_slices(std::make_unique<Texts>(seen, 0, 1000, ""));
    });
    const RawClient client(daemon.socket);
    client.send("{\"verb\":\"texts\"}\n");
    daemon.serve([&] { return seen.living == 1; });
  }
  CHECK(seen.living == 0);
}

TEST_CASE(
    "control client: a long answer may take longer than its timeout, while parts of it come") {
  SlicingDaemon daemon;
  std::atomic<bool> done = false;
  constexpr auto kTimeout = 1500ms, kPause = 100ms;
  std::optional<std::expected<json, ControlError>> answer;
  const Instant begun = now();
  std::thread client([&] {
    answer = control_request(daemon.socket, "texts", {{"count", 20}}, kTimeout);
    done = true;
  });
  const auto loop = *EventLoop::create();
  while (!done) {  // a slice each time
    loop->set_timer(now() + kPause, [&] { daemon.server->poll(); });
    loop->run_once(20s);
  }
  client.join();
  CHECK(now() - begun > kTimeout);
  CHECK(answer->has_value());
}
