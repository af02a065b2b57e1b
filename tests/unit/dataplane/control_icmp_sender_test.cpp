// Which ICMP errors of ours about packets out of a tunnel may be sent: such as go back into one.
#include <catch2/catch.hpp>

#include "dataplane/control/icmp_sender.hpp"
#include "tests/model/packet.hpp"

namespace culvert::dataplane::control {
namespace {

/// From our address on the LAN to the far client, about its datagram for ours.
model::ByteString error_about(unsigned destination_port) {
  model::ByteString rest(4, 0);
  model::put(rest, model::ip({.source = "10.2.0.9", .destination = "10.1.0.5"},
                             model::udp(1000, destination_port, model::counting(8))));
  return model::ip({.source = "10.1.0.1", .destination = "10.2.0.9", .protocol = 1},
                   model::icmp(11, 0, rest));
}

struct Policies {
  Reclaimer reclaimer{1};
  Spd spd{1, reclaimer};

  bool would_protect(const model::ByteString& error) {
    return would_be_protected(spd.snapshot(), error);
  }
  void replace(PolicyAction action, std::string_view protocol, SlotIndex outbound = kNoSlot) {
    PolicyEntry entry;
    entry.action = action;
    entry.outbound = outbound;
    const std::string behind(protocol);
    entry.local = {wire::TrafficSelector::parse("10.1.0.0/24" + behind).value()};
    entry.remote = {wire::TrafficSelector::parse("10.2.0.0/16" + behind).value()};
    spd.replace({entry});
  }
};

}  // namespace

TEST_CASE("icmp sender: an error is protected by the policy that names it, or by none") {
  Policies policies;
  CHECK_FALSE(policies.would_protect(error_about(53)));
  policies.replace(PolicyAction::protect, "", SlotIndex{3});
  CHECK(policies.would_protect(error_about(53)));
  policies.replace(PolicyAction::protect, "");  // a trap: an SA is asked for
  CHECK(policies.would_protect(error_about(53)));
  policies.replace(PolicyAction::bypass, "");
  CHECK_FALSE(policies.would_protect(error_about(53)));
}

TEST_CASE(
    "icmp sender: what no policy names goes by the SA of the return traffic (RFC 4301 §6.2)") {
  Policies policies;
  policies.replace(PolicyAction::protect, "[udp]", SlotIndex{3});
  CHECK(policies.would_protect(error_about(53)));
  policies.replace(PolicyAction::protect, "[udp]");  // no SA is created for it
  CHECK_FALSE(policies.would_protect(error_about(53)));
  policies.replace(PolicyAction::protect, "[tcp]", SlotIndex{3});
  CHECK_FALSE(policies.would_protect(error_about(53)));
  policies.replace(PolicyAction::bypass, "[udp]");
  CHECK_FALSE(policies.would_protect(error_about(53)));
}

}  // namespace culvert::dataplane::control
