// What the main thread does with punted packets when most of them are junk: those that somebody
// depends on are served all the same.
#include "dataplane/control/punts.hpp"

#include <catch2/catch.hpp>
#include <rte_mbuf.h>
#include <unistd.h>

#include "channel/client.hpp"
#include "runtime/log.hpp"
#include "tests/unit/channel/fixture.hpp"
#include "tests/unit/dataplane/control_bytes.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"
#include "tests/unit/dataplane/pipeline/sizes.hpp"
#include "tests/unit/dataplane/too_big_bytes.hpp"

namespace culvert::dataplane::control::junk {
namespace {

using test::address;
using test::kLan;
using test::kWan;
using Frame = test::Packet;  // or an IP packet

const wire::IpAddress kUs = address("198.51.100.1"), kRouter = address("198.51.100.9");

/// Main thread and worker of a gateway with one SA that has sent a packet.
struct Site {
  Site() {
    runtime::set_log_level(runtime::Level::warning);
    channel::InstallSa out = test::outbound_sa({}, 0x1000);
    out.child_id = config::ChildId{};
    REQUIRE(associations.install(out, now) == channel::Outcome::ok);
    sa = out.sa;
    gateway.protect("10.1.0.0/24", "10.2.0.0/16", gateway.tables().sad->find(sa)->slot);
    const auto packet = test::ip_packet(test::of_size(1300, false, 0x4000));
    const auto wan = gateway.receive(kLan, test::frame(packet)).wan;
    REQUIRE(wan.size() == 1);
    sent = test::ip_of(wan[0]);
    sent.resize(28);  // as much as a router quotes at least
  }
  ~Site() { runtime::set_log_level(runtime::Level::info); }
  Site(const Site&) = delete;
  Site& operator=(const Site&) = delete;

  void arrive(PuntReason reason, const Frame& ip) {
    Packet packet = packets.make(ip);
    REQUIRE(packet != nullptr);
    PuntedPacket& what = punted(packet.get());
    what = {};
    what.reason = reason;
    what.received_on = kWan;
    punts.arrived(packet.release(), now);
  }
  std::uint16_t path_mtu() {
    Sad& sad = *gateway.tables().sad;
    return sad.path_mtu(*sad.find(sa));
  }

  test::Gateway gateway;
  Instant now = std::chrono::hours(1);
  config::Config config = test::one_connection();
  Topology topology{config.dataplane};
  ChildDirectory children{config};
  std::unique_ptr<Steering> steering =
      Steering::create({}, 1, gateway.tables().sad->slots()).value();
  Associations associations{gateway.tables(), topology, children, *steering};
  channel::test::Folder folder;
  std::unique_ptr<channel::Server> server =
      channel::Server::create({folder.socket(), ::geteuid()}).value();
  Packets packets{gateway.tables(), test::packet_pool(), gateway.context().inject};
  Forwarding forwarding{gateway.tables()};
  Neighbors neighbors{topology, *gateway.tables().spd, forwarding, packets};
  IcmpSender icmp{topology, *gateway.tables().spd, packets, now};
  IkePath ike{topology, neighbors, packets, *server, *gateway.tables().ike_spis, now};
  Acquires acquires{children, packets, *server};
  Punts punts{packets, neighbors, icmp, ike, acquires, associations, *server, now};
  channel::SaId sa{};
  Frame sent;  ///< IP packet
};

}  // namespace

TEST_CASE("punts: junk that speaks of packets too big leaves a true message its effect") {
  Site site;
  const Frame truth = test::too_big_about(site.sent, 1200, kRouter, kUs);
  Frame damaged = truth, of_nobody = site.sent;
  damaged.back() ^= 1;
  of_nobody[20] ^= 1;  // another SPI
  of_nobody = test::too_big_about(of_nobody, 1200, kRouter, kUs);
  for (int i = 0; i < 1001; ++i) {
    site.arrive(PuntReason::path_too_big, damaged);
    site.arrive(PuntReason::path_too_big, of_nobody);
  }
  CHECK(site.path_mtu() == kNoPathMtu);
  site.arrive(PuntReason::path_too_big, truth);
  CHECK(site.path_mtu() == 1200);
}

TEST_CASE("punts: junk that speaks of packets that do not arrive leaves a true message shown") {
  Site site;
  const Frame truth = test::icmp_about(site.sent, 3, 13, 0, kRouter, kUs);
  Frame damaged = truth;
  damaged.back() ^= 1;
  for (int i = 0; i < 1001; ++i) site.arrive(PuntReason::path_unreachable, damaged);
  CHECK_FALSE(site.associations.unreachable_of(config::ChildId{}));
  site.arrive(PuntReason::path_unreachable, truth);
  CHECK(site.associations.unreachable_of(config::ChildId{}));
}

TEST_CASE("punts: peers that move, or seem to, leave what else the key daemon is told its room") {
  Site site;
  auto knocking = channel::Client::begin(site.folder.socket()).value();
  site.server->poll();
  const auto client = channel::Client::finish(site.folder.socket(), std::move(knocking)).value();
  std::uint64_t sa = 0;
  const auto move_many = [&] {
    for (int i = 0; i < 10'000; ++i) {
      PeerMovedHint hint;
      hint.sa = ++sa;
      site.punts.peer_moved(hint, site.now);
    }
    site.server->flush();
  };
  move_many();
  std::uint64_t told = 0;
  while (const auto event = client->next_event()) ++told;
  CHECK(told == 1000);
  // Nor over time, while the key daemon is busy.
  for (int second = 0; second < 10; ++second) {
    site.now += std::chrono::seconds(1);
    move_many();
  }
  CHECK(site.server->event_room() == Punts::kRoomForOthers);
}

}  // namespace culvert::dataplane::control::junk
