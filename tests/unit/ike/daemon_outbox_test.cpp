#include <vector>

#include <catch2/catch.hpp>

#include "ike/daemon/outbox.hpp"

namespace culvert::ike {
namespace {

channel::Request request_of(std::uint64_t id) {
  channel::Request request;
  request.type = channel::RequestType::delete_sa;
  request.id = channel::RequestId{id};
  request.body.delete_sa = {channel::SaId{id}};
  return request;
}

SendDatagram datagram_of(std::uint8_t mark) { return {{}, {}, {mark}, false}; }

/// Both rings, with room for as many as a test says.
struct Rings {
  std::size_t request_room = 100, datagram_room = 100;
  std::vector<channel::Request> requests;
  std::vector<std::uint8_t> datagrams;

  void drain(Outbox& outbox) {
    outbox.drain(
        [this](const channel::Request& request) {
          if (requests.size() == request_room) return false;
          requests.push_back(request);
          return true;
        },
        [this](const SendDatagram& datagram) {
          if (datagrams.size() == datagram_room) return false;
          datagrams.push_back(datagram.bytes.at(0));
          return true;
        });
  }
};

using Marks = std::vector<std::uint8_t>;

void push(Outbox& outbox, std::uint64_t id) {
  channel::Request request = request_of(id);
  outbox.push(request);
}

}  // namespace

TEST_CASE("outbox: a datagram waits for every request emitted before it") {
  Outbox outbox;
  Rings rings;
  push(outbox, 1);
  push(outbox, 2);
  outbox.push(datagram_of('a'));
  rings.drain(outbox);
  CHECK(rings.requests.size() == 2);
  CHECK(rings.datagrams.empty());
  outbox.completed(channel::RequestId{2});
  rings.drain(outbox);
  CHECK(rings.datagrams.empty());
  outbox.completed(channel::RequestId{1});
  rings.drain(outbox);
  CHECK(rings.datagrams == Marks{'a'});
}

TEST_CASE("outbox: a datagram does not wait for requests emitted after it") {
  Outbox outbox;
  Rings rings;
  outbox.push(datagram_of('a'));
  push(outbox, 1);
  outbox.push(datagram_of('b'));
  rings.drain(outbox);
  CHECK(rings.datagrams == Marks{'a'});
  outbox.completed(channel::RequestId{1});
  rings.drain(outbox);
  CHECK(rings.datagrams == Marks{'a', 'b'});
}

TEST_CASE("outbox: datagrams keep their order, also when a later one could go") {
  Outbox outbox;
  Rings rings;
  push(outbox, 1);
  outbox.push(datagram_of('a'));
  push(outbox, 2);
  outbox.push(datagram_of('b'));
  rings.drain(outbox);
  outbox.completed(channel::RequestId{2});
  rings.drain(outbox);
  CHECK(rings.datagrams.empty());
  outbox.completed(channel::RequestId{1});
  rings.drain(outbox);
  CHECK(rings.datagrams == Marks{'a', 'b'});
}

TEST_CASE("outbox: a request that the ring had no room for still holds its datagram back") {
  Outbox outbox;
  Rings rings;
  rings.request_room = 1;
  push(outbox, 1);
  push(outbox, 2);
  outbox.push(datagram_of('a'));
  rings.drain(outbox);
  outbox.completed(channel::RequestId{1});
  rings.drain(outbox);
  CHECK(outbox.waiting_requests() == 1);
  CHECK(rings.datagrams.empty());
  rings.request_room = 2;
  rings.drain(outbox);
  CHECK(rings.datagrams.empty());
  outbox.completed(channel::RequestId{2});
  rings.drain(outbox);
  CHECK(rings.datagrams == Marks{'a'});
}

TEST_CASE("outbox: a full datagram ring keeps the rest in order") {
  Outbox outbox;
  Rings rings;
  rings.datagram_room = 1;
  for (const std::uint8_t mark : {'a', 'b', 'c'}) outbox.push(datagram_of(mark));
  rings.drain(outbox);
  CHECK(outbox.waiting_datagrams() == 2);
  rings.datagram_room = 3;
  rings.drain(outbox);
  CHECK(rings.datagrams == Marks{'a', 'b', 'c'});
}

TEST_CASE("outbox: a completion nobody waits for changes nothing") {
  Outbox outbox;
  Rings rings;
  push(outbox, 1);
  outbox.push(datagram_of('a'));
  outbox.completed(channel::RequestId{1});  // before it was even sent
  rings.drain(outbox);
  outbox.completed(channel::RequestId{77});
  rings.drain(outbox);
  CHECK(rings.datagrams.empty());
  CHECK(outbox.open_requests() == 1);
}

TEST_CASE("outbox: keys live in one copy, until their request is handed over") {
  channel::Request request;
  request.type = channel::RequestType::install_sa;
  request.id = channel::RequestId{1};
  request.body.install_sa = {};
  const std::vector<std::uint8_t> key(36, 0x4b);
  REQUIRE(request.body.install_sa.key.assign(key));
  Outbox outbox;
  Rings rings;
  outbox.push(request);
  CHECK(request.body.install_sa.key.bytes == decltype(request.body.install_sa.key.bytes){});
  CHECK(request.body.install_sa.key.length == 0);
  rings.drain(outbox);
  REQUIRE(rings.requests.size() == 1);
  CHECK(std::ranges::equal(rings.requests[0].body.install_sa.key.view(), key));
}

TEST_CASE("outbox: when the data plane is gone nothing of before comes out again") {
  Outbox outbox;
  Rings rings;
  rings.request_room = 1;
  push(outbox, 1);
  push(outbox, 2);
  outbox.push(datagram_of('a'));
  rings.drain(outbox);
  outbox.clear();
  CHECK(outbox.waiting_requests() == 0);
  CHECK(outbox.open_requests() == 0);
  CHECK(outbox.waiting_datagrams() == 0);
  rings.request_room = 100;
  outbox.push(datagram_of('b'));
  rings.drain(outbox);
  CHECK(rings.requests.size() == 1);
  CHECK(rings.datagrams == Marks{'b'});
}

}  // namespace culvert::ike
