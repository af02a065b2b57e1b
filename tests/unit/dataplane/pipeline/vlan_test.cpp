// Interfaces that are VLANs: tags come off where frames arrive and are put on where they leave.
#include "wire/vlan.hpp"

#include <catch2/catch.hpp>

#include "tests/unit/dataplane/pipeline/pair.hpp"

using namespace culvert;
using namespace culvert::test;
using namespace culvert::dataplane;

namespace {

using wire::vlan::Ids;

Packet tagged(const Packet& frame, const Ids& ids) {
  Packet whole(ids.count() * wire::vlan::kTagBytes);
  whole.insert(whole.end(), frame.begin(), frame.end());
  wire::vlan::insert(whole.data(), ids);
  return whole;
}

void make_vlan(Gateway& gateway, PortId port, const Ids& ids) {
  std::vector<PortInfo> ports = gateway.tables().ports.copy();
  ports[raw(port)].vlan = ids;
  ports[raw(port)].shares_device = true;
  gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);
}

/// A third port: another VLAN of the WAN's device.
constexpr PortId kSecondVlan{2};
void add_vlan(Gateway& gateway, const Ids& ids) {
  std::vector<PortInfo> ports = gateway.tables().ports.copy();
  PortInfo info = ports[raw(kWan)];
  info.queues = 0;
  info.vlan = ids;
  info.shares_device = true;
  ports.push_back(info);
  gateway.tables().ports.publish(ports, *gateway.tables().reclaimer);
}

}  // namespace

TEST_CASE("vlan: a tunnel between tagged interfaces, with one tag and with two") {
  const Ids ids = GENERATE(Ids{{100, 0}}, Ids{{200, 100}});
  Pair pair;
  make_vlan(pair.left, kWan, ids);
  make_vlan(pair.right, kWan, ids);
  const Packet client = frame(ip_packet({.payload = Packet(1300, 7)}));
  const Result sent = pair.left.receive(kLan, client);
  REQUIRE(sent.wan.size() == 1);
  const auto tags = wire::vlan::read(sent.wan[0]);
  REQUIRE(tags);
  CHECK(tags->ids == ids);
  CHECK(sent.wan[0].size() == client.size() + 20 + 8 + 8 + 2 + 2 + 16 + tags->bytes);
  const Result received = pair.right.receive(kWan, sent.wan[0]);
  REQUIRE(received.lan.size() == 1);
  CHECK(received.lan[0].size() == client.size());  // the LAN is untagged
  const PortCounters& left = pair.left.worker().counters.ports[raw(kWan)];
  const PortCounters& right = pair.right.worker().counters.ports[raw(kWan)];
  CHECK(left.sent.read() == 1);
  CHECK(left.sent_bytes.read() == sent.wan[0].size());
  CHECK(right.received.read() == 1);
  CHECK(right.received_bytes.read() == sent.wan[0].size());
}

TEST_CASE("vlan: a frame belongs to the port of its tags alone (IEEE 802.1Q §8.6.2)") {
  Pair pair;
  make_vlan(pair.left, kWan, Ids{{100, 0}});
  make_vlan(pair.right, kWan, Ids{{100, 0}});
  add_vlan(pair.right, Ids{{300, 0}});
  const Packet good = pair.sealed();
  Packet untagged = good;
  untagged.erase(untagged.begin() + 12, untagged.begin() + 16);
  const auto refused = [&](const Packet& bytes) {
    const Result result = pair.right.receive(kWan, bytes);
    return result.dropped(DropReason::unknown_vlan) == 1 && result.lan.empty();
  };
  CHECK(refused(untagged));
  CHECK(refused(tagged(untagged, Ids{{101, 0}})));
  CHECK(refused(tagged(untagged, Ids{{100, 5}})));
  CHECK(refused(tagged(untagged, Ids{{5, 100}})));
  CHECK(pair.right.receive(kWan, Packet(good.begin(), good.begin() + 13))
            .dropped(DropReason::malformed_ethernet) == 1);
  // The other VLAN is a port of its own: what arrives there is its.
  CHECK(pair.right.receive(kWan, tagged(untagged, Ids{{300, 0}})).lan.size() == 1);
  CHECK(pair.right.worker().counters.ports[raw(kSecondVlan)].received.read() == 1);
  CHECK(pair.right.worker().counters.ports[raw(kWan)].received.read() == 0);
}

TEST_CASE("vlan: an interface that was removed takes nothing in, and its device is drained") {
  Pair pair;
  make_vlan(pair.left, kWan, Ids{{100, 0}});
  make_vlan(pair.right, kWan, Ids{{100, 0}});
  const Packet good = pair.sealed();
  auto& tables = pair.right.tables();
  std::vector<PortInfo> ports = tables.ports.copy();
  ports[raw(kWan)].is_used = false;
  tables.ports.publish(ports, *tables.reclaimer);
  CHECK(pair.right.receive(kWan, good).dropped(DropReason::unknown_vlan) == 1);
  // What was on its way out leaves as it would have before.
  InjectedPacket how;
  how.kind = InjectKind::transmit;
  how.port = kWan;
  CHECK(pair.right.inject(frame(ip_packet({})), how).wan.size() == 1);
  ports[raw(kWan)].is_used = true;
  tables.ports.publish(ports, *tables.reclaimer);
  CHECK(pair.right.receive(kWan, good).lan.size() == 1);
}

TEST_CASE("vlan: an untagged port takes no VLAN's frames, be the tag in the frame or beside it") {
  Pair pair;
  const Packet good = pair.sealed();
  CHECK(pair.right.receive(kWan, tagged(good, Ids{{100, 0}})).dropped(DropReason::unknown_vlan) ==
        1);
  pair.right.stripped_tag = 100;
  CHECK(pair.right.receive(kWan, good).dropped(DropReason::unknown_vlan) == 1);
  // A priority without a VLAN is no VLAN.
  pair.right.stripped_tag = 0xe000;
  CHECK(pair.right.receive(kWan, good).lan.size() == 1);
  pair.right.stripped_tag = 0;
  Packet priority = pair.sealed();
  const Packet tag{0x81, 0x00, 0xe0, 0x00};
  priority.insert(priority.begin() + 12, tag.begin(), tag.end());
  CHECK(pair.right.receive(kWan, priority).lan.size() == 1);
}

TEST_CASE("vlan: a tag that the device took off is the outermost") {
  Pair pair;
  make_vlan(pair.left, kWan, Ids{{200, 100}});
  make_vlan(pair.right, kWan, Ids{{200, 100}});
  Packet sealed = pair.sealed();
  sealed.erase(sealed.begin() + 12, sealed.begin() + 16);  // the service tag
  pair.right.stripped_tag = 200;
  CHECK(pair.right.receive(kWan, sealed).lan.size() == 1);
}

TEST_CASE("vlan: what the main thread sends is tagged, and what is punted is not") {
  Gateway gateway;
  make_vlan(gateway, kWan, Ids{{100, 0}});
  Packet arp(14 + 28, 0);
  std::fill_n(arp.begin(), 6, std::uint8_t{0xff});
  arp[12] = 0x08;
  arp[13] = 0x06;
  const Result received = gateway.receive(kWan, tagged(arp, Ids{{100, 0}}));
  REQUIRE(received.punts.size() == 1);
  CHECK(received.punts[0].bytes == arp);
  InjectedPacket how;
  how.kind = InjectKind::transmit;
  how.port = kWan;
  const Result sent = gateway.inject(arp, how);
  REQUIRE(sent.wan.size() == 1);
  CHECK(sent.wan[0] == tagged(arp, Ids{{100, 0}}));
}
