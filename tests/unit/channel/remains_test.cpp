// A key that came over the channel is in one place, where its receiver wipes it.
#include <array>
#include <numeric>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "channel/client.hpp"
#include "channel/server.hpp"
#include "tests/unit/channel/fixture.hpp"
#include "tests/unit/channel/stack_remains.hpp"

namespace culvert::channel {

TEST_CASE("channel: a request that was taken and wiped leaves nothing of its key on the stack") {
  const test::Folder folder;
  const auto server = Server::create({folder.socket(), ::geteuid()}).value();
  auto knocking = Client::begin(folder.socket()).value();
  REQUIRE(server->poll());
  const auto client = Client::finish(folder.socket(), std::move(knocking)).value();
  std::array<std::uint8_t, 36> key{};
  std::iota(key.begin(), key.end(), std::uint8_t{0x51});
  Request request = test::install_sa();
  REQUIRE(request.body.install_sa.key.assign(key));
  REQUIRE(client->send(request));

  bool had_it = false;
  const auto take = [&] {
    auto taken = server->next_request();
    if (!taken) return;
    auto& its = taken->body.install_sa.key;
    had_it = std::ranges::equal(its.view(), key);
    its.wipe();
  };
  CHECK_FALSE(test::leaves_on_stack(take, std::span(key).first(16)));
  CHECK(had_it);
}

}  // namespace culvert::channel
