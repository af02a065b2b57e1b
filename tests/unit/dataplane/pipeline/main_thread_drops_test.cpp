// What the main thread drops: for want of room, of a key daemon, or because it makes no sense. Each
// is counted once, and its buffer comes back.
#include <catch2/catch.hpp>
#include <rte_mempool.h>

#include "channel/layout.hpp"
#include "dataplane/control/acquires.hpp"
#include "dataplane/control/ike_path.hpp"
#include "dataplane/control/neighbors.hpp"
#include "tests/unit/dataplane/pipeline/one_connection.hpp"
#include "wire/arp.hpp"

namespace culvert::dataplane::control::main_thread_drops {
namespace {

using Bytes = test::Packet;

/// A key daemon that may be away, and that reads nothing.
class KeyDaemon final : public channel::Server {
 public:
  bool is_here = false;
  bool has_room = false;

  [[nodiscard]] std::span<const int> descriptors() const override { return {}; }
  bool poll() override { return false; }
  [[nodiscard]] bool connected() const override { return is_here; }
  [[nodiscard]] const std::string& held_problem() const override { return no_problem_; }
  std::optional<channel::Request> next_request() override { return std::nullopt; }
  std::optional<channel::Datagram> next_datagram() override { return std::nullopt; }
  bool send(const channel::Event&) override { return false; }
  std::size_t event_room() override { return 0; }
  bool send(const channel::Datagram&) override { return is_here && has_room; }
  std::size_t datagram_room() override { return has_room ? channel::kDatagramSlots : 0; }
  void flush() override {}
  [[nodiscard]] const channel::ServerStatistics& statistics() const override { return statistics_; }

 private:
  std::string no_problem_;
  channel::ServerStatistics statistics_;
};

config::Config configuration() {
  config::Config config = test::one_connection();
  config::Connection& connection = config.connections[0];
  const config::Child child = connection.children[0];
  connection.children.clear();
  for (int index = 0; index < 64; ++index) {
    config::Child& another = connection.children.emplace_back(child);
    another.name = "net" + std::to_string(index);
    another.id = config::child_id(connection.name, another.name);
    another.start_action = config::StartAction::trap;
  }
  config.dataplane.interfaces.insert(config.dataplane.interfaces.begin(), config::Interface{});
  return config;
}

struct MainThread {
  MainThread() : in_use_(rte_mempool_in_use_count(test::packet_pool())) {}
  /// What waits ends, and no buffer is lost.
  ~MainThread() {
    neighbors.stop();
    acquires.stop();
    gateway.serve_main_thread();
    CHECK(rte_mempool_in_use_count(test::packet_pool()) == in_use_);
  }
  MainThread(const MainThread&) = delete;
  MainThread& operator=(const MainThread&) = delete;

  Packet packet(const Bytes& bytes) {
    Packet made = packets.make(bytes);
    REQUIRE(made != nullptr);
    return made;
  }
  std::uint64_t dropped(DropDirection direction, DropReason reason) {
    return gateway.tables()
        .main_counters()
        .drops[static_cast<std::size_t>(direction)][static_cast<std::size_t>(reason)]
        .read();
  }
  void send_to(std::uint32_t neighbor) {
    neighbors.send({test::kWan, wire::IpAddress::v4(neighbor)}, packet(test::ip_packet({})), {},
                   now);
    gateway.serve_main_thread();  // questions leave
  }
  void want_sa(std::size_t child) {
    PuntedPacket origin;
    origin.child_id = config.connections[0].children[child].id;
    acquires.arrived(packet(test::ip_packet({})), origin, now);
  }

 private:
  unsigned int in_use_;

 public:
  test::Gateway gateway;
  config::Config config = configuration();
  Topology topology{config.dataplane};
  ChildDirectory children{config};
  Packets packets{gateway.tables(), test::packet_pool(), gateway.context().inject};
  Forwarding forwarding{gateway.tables()};
  Neighbors neighbors{topology, *gateway.tables().spd, forwarding, packets};
  KeyDaemon key_daemon;
  Acquires acquires{children, packets, key_daemon};
  Instant now = std::chrono::hours(1);
  IkePath path{topology, neighbors, packets, key_daemon, *gateway.tables().ike_spis, now};
};

constexpr std::uint32_t kFirstNeighbor = 0xc6336410;  // 198.51.100.16

}  // namespace

TEST_CASE("main thread: of packets to one neighbour that does not answer some wait (RFC 1122)") {
  MainThread main;
  for (std::size_t sent = 0; sent < Neighbors::kHeldPerNeighbor + 3; ++sent) {
    main.send_to(kFirstNeighbor);
  }
  CHECK(main.dropped(DropDirection::out, DropReason::neighbor_queue_full) == 3);
}

TEST_CASE("main thread: packets to many neighbours share what may wait, and each has one") {
  MainThread main;
  constexpr std::uint32_t kFull = Neighbors::kHeldInAll / Neighbors::kHeldPerNeighbor;
  for (std::uint32_t neighbor = 0; neighbor < kFull; ++neighbor) {
    for (std::size_t sent = 0; sent < Neighbors::kHeldPerNeighbor; ++sent) {
      main.send_to(kFirstNeighbor + neighbor);
    }
  }
  CHECK(main.dropped(DropDirection::out, DropReason::neighbor_queue_full) == 0);
  main.send_to(kFirstNeighbor + kFull);
  CHECK(main.dropped(DropDirection::out, DropReason::neighbor_queue_full) == 0);
  main.send_to(kFirstNeighbor + kFull);
  CHECK(main.dropped(DropDirection::out, DropReason::neighbor_queue_full) == 1);
}

TEST_CASE("main thread: of packets for an SA that is asked for some wait (RFC 4301 §5.1)") {
  MainThread main;
  for (std::size_t sent = 0; sent < Acquires::kHeldPerChild + 5; ++sent) main.want_sa(0);
  CHECK(main.dropped(DropDirection::out, DropReason::acquire_queue_full) == 5);
  // Of all children together.
  for (std::size_t sent = Acquires::kHeldPerChild; sent < Acquires::kHeldInAll; ++sent) {
    main.want_sa(sent / Acquires::kHeldPerChild);
  }
  CHECK(main.dropped(DropDirection::out, DropReason::acquire_queue_full) == 5);
  main.want_sa(Acquires::kHeldInAll / Acquires::kHeldPerChild);
  CHECK(main.dropped(DropDirection::out, DropReason::acquire_queue_full) == 6);
}

TEST_CASE("main thread: ARP that makes no sense is ignored (RFC 826, RFC 1812 §3.3.2)") {
  MainThread main;
  wire::ArpMessage message;
  message.operation = wire::ArpMessage::Operation::reply;
  message.sender_mac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  message.sender = wire::IpAddress::v4(kFirstNeighbor);
  message.target_mac = test::kOurMac;
  message.target = wire::IpAddress::v4(0xc6336401U);
  Bytes bytes(wire::kArpBytes);
  wire::Writer writer(bytes);
  wire::build_arp(writer, message);
  main.neighbors.arp_arrived(test::kWan, main.packet(bytes), main.now);
  bytes.resize(wire::kArpBytes / 2);
  main.neighbors.arp_arrived(test::kWan, main.packet(bytes), main.now);
  CHECK(main.dropped(DropDirection::local, DropReason::arp_ignored) == 2);
}

TEST_CASE("main thread: IKE without a key daemon that takes it is dropped (RFC 7296 §2.1)") {
  MainThread main;
  Bytes message(28, 1);
  message[24] = message[25] = message[26] = 0;
  message[27] = 28;
  const Bytes datagram = test::ip_packet({.source = "198.51.100.2",
                                          .destination = "198.51.100.1",
                                          .payload = test::udp(500, 500, message)});
  const auto refused = [&] {
    return main.dropped(DropDirection::local, DropReason::ike_not_connected);
  };
  main.path.arrived(main.packet(datagram), main.now);
  CHECK(refused() == 1);
  main.key_daemon.is_here = true;  // and behind
  main.path.arrived(main.packet(datagram), main.now);
  CHECK(refused() == 2);
  main.path.newcomer_arrived(main.packet(datagram), main.now);
  CHECK(refused() == 3);
  main.key_daemon.has_room = true;
  main.path.arrived(main.packet(datagram), main.now);
  CHECK(refused() == 3);
  // To somebody else, and what is no datagram.
  const auto invalid = [&] {
    return main.dropped(DropDirection::local, DropReason::ike_datagram_invalid);
  };
  const Bytes for_others = test::ip_packet({.source = "198.51.100.2",
                                            .destination = "198.51.100.3",
                                            .payload = test::udp(500, 500, message)});
  main.path.arrived(main.packet(for_others), main.now);
  CHECK(invalid() == 1);
  main.path.arrived(main.packet(Bytes(datagram.begin(), datagram.begin() + 24)), main.now);
  CHECK(invalid() == 2);
  CHECK(refused() == 3);
}

}  // namespace culvert::dataplane::control::main_thread_drops
