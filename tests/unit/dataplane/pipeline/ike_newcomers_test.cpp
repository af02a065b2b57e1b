// Who is let in to the key daemon when messages come from everywhere (docs/decisions/0011).
#include <deque>
#include <random>

#include <catch2/catch.hpp>

#include "channel/layout.hpp"
#include "dataplane/control/forwarding.hpp"
#include "dataplane/control/ike_path.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/unaligned.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

constexpr std::uint64_t kOurs = 0x1122334455667788, kTheirs = 0x99aabbccddeeff00;
constexpr std::uint8_t kInitiator = 0x08, kResponse = 0x20;

Packet ike_message(std::uint64_t initiator_spi, std::uint64_t responder_spi, std::uint8_t flags) {
  Packet message(28);
  wire::store_u64(message.data(), initiator_spi);
  wire::store_u64(message.data() + 8, responder_spi);
  message[18] = 37;  // INFORMATIONAL
  message[19] = flags;
  message[27] = 28;
  return message;
}
Packet datagram_from(const std::string& source, const Packet& message) {
  return frame(ip_packet(
      {.source = source, .destination = "198.51.100.1", .payload = udp(500, 500, message)}));
}

/// A key daemon that reads nothing of what it is sent.
class BusyKeyDaemon final : public channel::Server {
 public:
  void says(const channel::Datagram& datagram) { to_network_.push_back(datagram); }
  [[nodiscard]] std::size_t waiting() const { return taken_; }

  std::optional<channel::Datagram> next_datagram() override {
    if (to_network_.empty()) return std::nullopt;
    const channel::Datagram next = to_network_.front();
    to_network_.pop_front();
    return next;
  }
  bool send(const channel::Datagram&) override {
    if (taken_ == channel::kDatagramSlots) return false;
    ++taken_;
    return true;
  }
  std::size_t datagram_room() override { return channel::kDatagramSlots - taken_; }

  [[nodiscard]] std::span<const int> descriptors() const override { return {}; }
  bool poll() override { return false; }
  [[nodiscard]] bool connected() const override { return true; }
  [[nodiscard]] const std::string& held_problem() const override { return no_problem_; }
  std::optional<channel::Request> next_request() override { return std::nullopt; }
  bool send(const channel::Event&) override { return false; }
  std::size_t event_room() override { return 0; }
  void flush() override {}
  [[nodiscard]] const channel::ServerStatistics& statistics() const override { return statistics_; }

 private:
  std::deque<channel::Datagram> to_network_;
  std::size_t taken_ = 0;
  std::string no_problem_;
  channel::ServerStatistics statistics_;
};

config::Dataplane one_link() {
  config::Dataplane dataplane;
  dataplane.interfaces.resize(2);
  dataplane.interfaces[1].name = "wan";
  dataplane.interfaces[1].addresses = {wire::Prefix::parse("198.51.100.1/24").value()};
  return dataplane;
}

/// A worker, and of the main thread what IKE meets.
struct Main {
  void receive(const std::vector<test::Packet>& frames) {
    for (const Punt& punt : gateway.receive(kWan, frames).punts) {
      const wire::Bytes ip = wire::Bytes(punt.bytes).subspan(punt.what.ip_offset);
      control::Packet packet = packets.make(ip);
      REQUIRE(packet);
      if (punt.what.reason == PuntReason::ike_newcomer) {
        path.newcomer_arrived(std::move(packet), now);
      } else {
        CHECK(punt.what.reason == PuntReason::ike);
        path.arrived(std::move(packet), now);
      }
    }
  }
  void key_daemon_speaks_of(std::uint64_t ike_spi) {
    channel::Datagram datagram;
    datagram.local = {wire::IpAddress::parse("198.51.100.1").value(), 500};
    datagram.remote = {wire::IpAddress::parse("198.51.100.2").value(), 500};
    datagram.length = 28;
    datagram.ike_spi = ike_spi;
    key_daemon.says(datagram);
    path.send_waiting(now);
    gateway.serve_main_thread();
  }

  Gateway gateway;
  control::Instant now = std::chrono::hours{1};
  control::Topology topology{one_link()};
  control::Forwarding forwarding{gateway.tables()};
  control::Packets packets{gateway.tables(), packet_pool(), gateway.context().inject};
  control::Neighbors neighbors{topology, *gateway.tables().spd, forwarding, packets};
  BusyKeyDaemon key_daemon;
  control::IkePath path{topology, neighbors, packets, key_daemon, *gateway.tables().ike_spis, now};
};

}  // namespace

TEST_CASE("worker: who names an IKE SA that the key daemon spoke of is told from all others") {
  Gateway gateway;
  gateway.tables().ike_spis->put(kOurs);
  const auto reason_of = [&](const test::Packet& message) {
    const Result result = gateway.receive(kWan, datagram_from("198.51.100.2", message));
    REQUIRE(result.punts.size() == 1);
    return result.punts[0].what.reason;
  };
  // Which SPI is the recipient's the Initiator flag says (RFC 7296 §3.1).
  CHECK(reason_of(ike_message(kTheirs, kOurs, kInitiator)) == PuntReason::ike);
  CHECK(reason_of(ike_message(kTheirs, kOurs, kInitiator | kResponse)) == PuntReason::ike);
  CHECK(reason_of(ike_message(kOurs, kTheirs, kResponse)) == PuntReason::ike);
  CHECK(reason_of(ike_message(kOurs, kTheirs, kInitiator)) == PuntReason::ike_newcomer);
  CHECK(reason_of(ike_message(kTheirs, kOurs, kResponse)) == PuntReason::ike_newcomer);
  CHECK(reason_of(ike_message(kTheirs, 0, kInitiator)) == PuntReason::ike_newcomer);
  CHECK(reason_of(ike_message(0, 0, 0)) == PuntReason::ike_newcomer);
  test::Packet cut = ike_message(kTheirs, kOurs, kInitiator);
  cut.resize(19);
  CHECK(reason_of(cut) == PuntReason::ike_newcomer);
}

TEST_CASE("ike path: a flood that claims IKE SAs leaves a peer that has one its share and place") {
  Main main;
  main.key_daemon_speaks_of(kOurs);
  // More sources than any table remembers, each with another SPI of ours that is none.
  std::mt19937_64 dice(7);
  for (int burst = 0; burst < 160; ++burst) {
    std::vector<test::Packet> frames;
    for (std::uint32_t i = 0; i < 64; ++i) {
      const auto source =
          wire::IpAddress::v4(0x0b000000U + static_cast<std::uint32_t>(dice() % 0x80000000U));
      frames.push_back(
          datagram_from(source.to_string(), ike_message(dice(), dice() | 1U, kInitiator)));
    }
    main.receive(frames);
    main.now += std::chrono::microseconds{640};
  }
  CHECK(main.key_daemon.waiting() == channel::kDatagramSlots / 2);

  // The peer, silent until now, at an address that nobody has seen.
  main.receive({datagram_from("203.0.113.77", ike_message(kTheirs, kOurs, kInitiator))});
  CHECK(main.key_daemon.waiting() == channel::kDatagramSlots / 2 + 1);
}

TEST_CASE("ike path: an IKE SA has its share, wherever its messages come from") {
  Main main;
  main.key_daemon_speaks_of(kOurs);
  main.key_daemon_speaks_of(kOurs + 1);
  for (int host = 1; host <= 250; ++host) {
    const std::string source = "203.0.113." + std::to_string(host);
    const test::Packet one = datagram_from(source, ike_message(kTheirs, kOurs, kInitiator));
    main.receive({one, one});
  }
  // The channel is full before the share is used up: what is policed is counted.
  CHECK(main.key_daemon.waiting() == channel::kDatagramSlots);
  const auto policed = [&] {
    return main.gateway.tables()
        .main_counters()
        .drops[raw(DropDirection::local)][raw(DropReason::ike_policed)]
        .read();
  };
  CHECK(policed() == 500 - static_cast<std::uint64_t>(control::IkePath::kPerIkeSa.burst));
  main.receive({datagram_from("203.0.113.1", ike_message(kTheirs, kOurs + 1, kInitiator))});
  CHECK(policed() == 500 - static_cast<std::uint64_t>(control::IkePath::kPerIkeSa.burst));
}
