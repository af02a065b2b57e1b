// What the main thread does for a peer, or for whoever sends a packet, does not follow from how
// many peers, SAs or routes there are.
#include <cstdlib>
#include <functional>
#include <vector>

#include <catch2/catch.hpp>

#include "dataplane/control/outbound_index.hpp"
#include "dataplane/control/path_mtu.hpp"
#include "dataplane/control/topology.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/growth.hpp"

namespace culvert::dataplane::control::growth_test {
namespace {

using namespace std::chrono_literals;
using test::address;
using test::is_constant;
using test::kMostTimes;
using test::prefix;
using test::times_as_long;

constexpr std::uint32_t kFew = 1300, kMany = 65000;
constexpr std::uint32_t kSteps = 256;  ///< of a round
constexpr Instant kNow = 1000s;

/// A router says of each peer in turn that packets are too big for the way.
class Learning {
 public:
  explicit Learning(std::uint32_t peers) {
    for (std::uint32_t peer = 0; peer < peers; ++peer) learn_one();
  }
  void learn() {
    for (std::uint32_t step = 0; step < kSteps; ++step) learn_one();
  }
  void look_for_what_is_over() {
    for (std::uint32_t step = 0; step < kSteps; ++step) {
      if (!mtus_.expire(kNow).empty()) std::abort();
    }
  }

 private:
  void learn_one() {
    ++peer_;
    const wire::IpAddress remote = wire::IpAddress::v4(0x0a000000U + peer_);
    TooBigMessage message;
    message.spi = 0x1001;
    message.sequence = 77;
    message.packet_bytes = 1480;
    message.local = local_;
    message.remote = remote;
    message.mtu = 1300;
    const QuotedSa sa{channel::SaId{peer_}, message.local, {remote, 0}, 100, UINT16_MAX};
    if (!mtus_.learn(message, sa, kNow)) std::abort();
  }

  PathMtus mtus_;
  wire::IpAddress local_ = address("192.0.2.1");
  std::uint32_t peer_ = 0;
};

/// The peer has chosen one SPI for all of its SAs.
class OneSpi {
 public:
  explicit OneSpi(std::uint32_t sas) : next_(sas + 1) {
    for (std::uint32_t sa = 1; sa <= sas; ++sa) index_.add(0x1001, remote_, channel::SaId{sa});
  }
  void change() {
    for (std::uint32_t step = 0; step < kSteps; ++step) {
      index_.add(0x1001, remote_, channel::SaId{next_});
      if (index_.find(0x1001, remote_) != channel::SaId{next_}) std::abort();
      index_.remove(0x1001, remote_, channel::SaId{next_});
    }
  }

 private:
  wire::IpAddress remote_ = address("192.0.2.1");
  std::uint64_t next_;
  OutboundIndex index_;
};

class Routes {
 public:
  explicit Routes(std::uint32_t routes) {
    config::Dataplane dataplane;
    dataplane.interfaces.resize(1);
    dataplane.interfaces[0].addresses = {prefix("198.51.100.1/24")};
    config::Route route;
    route.via = address("198.51.100.254");
    for (std::uint32_t number = 0; number < routes; ++number) {
      route.to = {wire::IpAddress::v4(0x20000000U + (number << 8U)), 24};
      dataplane.routes.push_back(route);
    }
    route.to = prefix("0.0.0.0/0");
    dataplane.routes.push_back(route);
    topology_ = Topology(dataplane);
  }
  /// Of an address that only the last of them has.
  void look_up() const {
    const wire::IpAddress destination = address("203.0.113.7");
    for (std::uint32_t step = 0; step < kSteps; ++step) {
      if (!topology_.next_hop(destination)) std::abort();
    }
  }

 private:
  Topology topology_;
};

}  // namespace

TEST_CASE("control growth: that no path MTU is over is seen as soon among 65 000 peers") {
  Learning few(kFew), many(kMany);
  CHECK(times_as_long([&] { few.look_for_what_is_over(); }, [&] { many.look_for_what_is_over(); },
                      is_constant) <= kMostTimes);
}

TEST_CASE("control growth: a path MTU for which another gives way costs no walk over all peers") {
  // Two steps in place of one, in memory that is cold: far below the 65 536 of a walk.
  constexpr double kMost = 50;
  Learning few(kFew), full(PathMtus::kPeers);
  CHECK(times_as_long([&] { few.learn(); }, [&] { full.learn(); },
                      [](double times) { return times <= kMost; }) <= kMost);
}

TEST_CASE("control growth: a peer that has one SPI for all of its SAs makes none of them dearer") {
  OneSpi few(kFew), many(kMany);
  CHECK(times_as_long([&] { few.change(); }, [&] { many.change(); }, is_constant) <= kMostTimes);
}

TEST_CASE("control growth: the next hop is found as soon among 65 000 routes as among 1 300") {
  const Routes few(kFew), many(kMany);
  CHECK(times_as_long([&] { few.look_up(); }, [&] { many.look_up(); }, is_constant) <= kMostTimes);
}

}  // namespace culvert::dataplane::control::growth_test
