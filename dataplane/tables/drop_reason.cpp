#include "dataplane/tables/drop_reason.hpp"

namespace culvert::dataplane {
namespace {

using enum DropReason;
using enum DropSeverity;

constexpr std::array<DropReasonInfo, kDropReasons> kTable{{
    {malformed_ethernet, "malformed_ethernet", notable, "",
     "The frame is shorter than an Ethernet header.",
     "Look for a faulty cable, switch port or driver."},
    {unknown_ethertype, "unknown_ethertype", ordinary, "",
     "The frame carries neither IPv4, IPv6 nor ARP, for example LLDP or STP.", "Usually nothing."},
    {unknown_vlan, "unknown_vlan", notable, "",
     "The frame's VLAN tags are those of no interface on this device, or it has none and every "
     "interface has a vlan, or the interface was removed.",
     "Compare dataplane.interfaces' vlan with the switch port's VLANs and its untagged one."},
    {not_for_us, "not_for_us", ordinary, "", "The frame's destination MAC address is not ours.",
     "Usually flooding by a switch or bridge, which is harmless."},
    {truncated_packet, "truncated_packet", notable, "RFC 1122 §3.2.1",
     "The packet is shorter than its headers say.", "Look for a faulty link or a sender's bug."},
    {ipv4_header_invalid, "ipv4_header_invalid", notable, "RFC 1122 §3.2.1",
     "The IPv4 version or header length is impossible.", "Find the sender by a capture."},
    {ipv4_checksum_wrong, "ipv4_checksum_wrong", notable, "RFC 1122 §3.2.1.2",
     "The IPv4 header checksum is wrong.",
     "Look for a faulty link, or for checksum offload on a virtual interface that nobody "
     "completes."},
    {ipv6_header_invalid, "ipv6_header_invalid", notable, "RFC 8200 §3",
     "The IPv6 version or payload length is impossible.", "Find the sender by a capture."},
    {ipv6_extension_unsupported, "ipv6_extension_unsupported", notable, "RFC 8200 §4",
     "The IPv6 extension headers are malformed, more than we follow, or for us with a Routing "
     "header "
     "that names hops to come.",
     "Find the sender by a capture; ordinary traffic has none."},
    {multi_segment_unsupported, "multi_segment_unsupported", serious, "",
     "The packet arrived in several buffers and could not be joined into one.",
     "Lower the interface's MTU to what is configured here, or turn receive coalescing off."},
    {source_address_invalid, "source_address_invalid", notable, "RFC 1122 §3.2.1.3",
     "The source address is a multicast, loopback, broadcast or our own address.",
     "Somebody forges addresses, or a loop brings our packets back."},
    {destination_address_invalid, "destination_address_invalid", notable, "RFC 1812 §5.3.7",
     "The destination is a loopback, unspecified or \"this network\" address (127.0.0.0/8, "
     "0.0.0.0/8, ::1, ::), and no packet on a wire is for one.",
     "Correct the application that sends it, on the host that the packet comes from or behind the "
     "peer; or somebody probes what routers let through."},
    {destination_multicast, "destination_multicast", ordinary, "RFC 1812 §5.3.4",
     "The packet goes to a multicast or broadcast address, which is not forwarded.",
     "Usually nothing: service discovery and the like."},
    {link_local_address, "link_local_address", notable, "RFC 4291 §2.5.6",
     "The source or destination is a link-local address (fe80::/10, 169.254.0.0/16), which is "
     "meant for one link and not forwarded.",
     "Give the host an address of its network; it may have found no DHCP server or router."},
    {ttl_exceeded, "ttl_exceeded", notable, "RFC 1812 §5.3.1",
     "The packet's TTL or hop limit ran out here.",
     "A traceroute is harmless; many of them mean a routing loop."},
    {no_route, "no_route", serious, "RFC 1812 §5.2.4.3", "No route leads to the destination.",
     "Add a route to dataplane.routes, or a default route."},
    {neighbor_unresolved, "neighbor_unresolved", notable, "RFC 1122 §2.3.2.2",
     "The next hop does not answer ARP or neighbour solicitation.",
     "Check that the next hop is up and on this interface's network."},
    {neighbor_queue_full, "neighbor_queue_full", notable, "RFC 1122 §2.3.2.2",
     "Too many packets wait for the next hop's MAC address, or too many addresses that did not "
     "answer are asked for at once.",
     "Check that the next hop answers ARP or neighbour solicitation; a scan of a whole connected "
     "network ends so too."},
    {packet_too_big, "packet_too_big", notable, "RFC 4301 §8.2",
     "The packet, with ESP's overhead, is larger than the outgoing link's MTU.",
     "Let clients hear ICMP too big, or lower their MTU or TCP MSS."},
    {fragment_unsupported, "fragment_unsupported", serious, "RFC 4301 §4.4.1.1",
     "A fragment behind the first, which does not show whether it is what a policy with ports, "
     "ICMP "
     "types or (IPv6) a protocol protects or discards; or a fragment for a transport mode SA.",
     "Use selectors without ports ([udp] for [udp/53]), or have the sender send no fragments: "
     "lower "
     "its MTU or TCP MSS."},
    {fragment_invalid, "fragment_invalid", notable, "RFC 8200 §4.5",
     "A fragment to one of our addresses whose length or place is impossible, or an IPv6 packet's "
     "first one without the header of its upper layer.",
     "Find the sender by a capture."},
    {fragment_overlap, "fragment_overlap", notable, "RFC 5722 §4",
     "Fragments of one packet that overlap: refused with all of the packet, or a fragment that "
     "came "
     "twice.",
     "A path that doubles packets is harmless; overlaps that differ are an attack."},
    {reassembly_timeout, "reassembly_timeout", notable, "RFC 1122 §3.3.2",
     "Fragments whose packet did not become whole in 60 seconds; its source was told if the first "
     "was among them.",
     "Some of the fragments are lost: lower the peer's MTU so that it need not fragment."},
    {reassembly_full, "reassembly_full", notable, "RFC 1122 §3.3.2",
     "Fragments of a packet for which there was no room: it came in too many, became too large, "
     "gave "
     "way to newer ones while it waited, or found no free buffer when it was whole.",
     "Lower the peer's MTU so that it need not fragment, or find the flood by a capture."},
    {fragments_policed, "fragments_policed", notable, "",
     "More fragments to our addresses than a worker takes of sources that are no configured peer's "
     "address.",
     "Find the flood by a capture; a peer without a fixed address that sends so many should lower "
     "its MTU, so that it need not fragment."},
    {policy_discard, "policy_discard", ordinary, "RFC 4301 §4.4.1", "A policy says discard.",
     "If it should pass, look at `culvert policies` for the first that matches."},
    {no_policy_match, "no_policy_match", notable, "RFC 4301 §5.1",
     "No policy matches and default_policy is discard, or it is ours and answers what came "
     "encrypted.",
     "Compare the packet's addresses with local_ts and remote_ts, or add a bypass policy."},
    {cleartext_violates_policy, "cleartext_violates_policy", serious, "RFC 4301 §5.2",
     "The packet came in clear although a policy wants it protected, or is an ICMP error in clear "
     "about such traffic.",
     "The peer sends outside of the tunnel: its selectors or routes differ, or somebody spoofs."},
    {no_sa, "no_sa", serious, "RFC 4301 §5.1",
     "The policy protects this packet, but there is no SA, and none came in time; an ICMP error "
     "about protected traffic does not ask for one.",
     "See `culvert status` for why the negotiation does not succeed."},
    {acquire_queue_full, "acquire_queue_full", notable, "RFC 4301 §5.1",
     "Too many packets wait for an SA that is being negotiated.",
     "Harmless while a tunnel comes up; if it lasts, see `culvert status`."},
    {sa_not_found, "sa_not_found", notable, "RFC 4303 §3.4.2",
     "ESP with an SPI that we do not have.",
     "The peer holds an SA that is gone here: after a restart it clears up at the peer's next "
     "liveness check or rekey."},
    {sa_endpoint_mismatch, "sa_endpoint_mismatch", serious, "RFC 4301 §4.1",
     "ESP for a known SPI arrived at an address that is not the SA's: in transport mode at another "
     "of ours, in tunnel mode at one of the other family.",
     "Check for address translation between the peers, and which address the peer sends to."},
    {sa_expired, "sa_expired", serious, "RFC 4301 §4.4.2.1",
     "The SA has reached its hard lifetime in bytes, packets or time.",
     "The rekey before it did not succeed: see `culvert status`."},
    {sequence_exhausted, "sequence_exhausted", serious, "RFC 4303 §3.3.3",
     "The SA has used all its sequence numbers.",
     "Negotiate ESN, or rekey earlier by rekey_packets. A manual SA needs a new key_file at both "
     "ends, and esn: true lasts longer."},
    {replay_duplicate, "replay_duplicate", notable, "RFC 4303 §3.4.3",
     "A sequence number that was received already.",
     "Some networks duplicate packets; many of them mean a replay attack or a loop."},
    {replay_left_of_window, "replay_left_of_window", serious, "RFC 4303 §3.4.3",
     "The packet is older than the replay window.",
     "If the path reorders (QoS, several links), enlarge replay_window."},
    {icv_mismatch, "icv_mismatch", serious, "RFC 4303 §3.4.4",
     "The packet's integrity check failed: it was changed on the way, or the keys differ.",
     "If all packets of an SA fail, rekey it, or compare key_file and suite of a manual SA with "
     "the "
     "peer's; else look for corruption or an attack."},
    {esp_truncated, "esp_truncated", serious, "RFC 4303 §2",
     "Too short for an ESP packet of this SA's suite.",
     "Look for an MTU problem or a faulty peer."},
    {esp_padding_invalid, "esp_padding_invalid", serious, "RFC 4303 §2.4",
     "The padding under the encryption is not 1, 2, 3, … or is longer than the packet.",
     "The peer's ESP is faulty: report it to its vendor."},
    {esp_next_header_invalid, "esp_next_header_invalid", serious, "RFC 4303 §2.6",
     "The protocol inside ESP does not fit the SA's mode.",
     "Compare mode: tunnel or transport, at both peers."},
    {inner_header_invalid, "inner_header_invalid", serious, "RFC 4301 §5.2",
     "The decrypted packet has no valid IP header.", "The peer sends rubbish through the tunnel."},
    {inner_selector_mismatch, "inner_selector_mismatch", serious, "RFC 4301 §5.2",
     "The decrypted packet is not one that the SA was negotiated for.",
     "See `culvert status` for the last one and what was agreed; compare local_ts and remote_ts "
     "with the peer's."},
    {inner_fragment_offset, "inner_fragment_offset", serious, "RFC 4301 §7.2",
     "A later fragment from an SA for OPAQUE ports begins so early in its packet that it could "
     "overwrite the ports.",
     "No path cuts packets so small: find who sends such behind the peer."},
    {congestion_marked, "congestion_marked", notable, "RFC 6040 §4.2",
     "A router marked congestion on the tunnel, and the packet inside belongs to a flow that "
     "cannot "
     "be told by a mark: dropping is how it is told.",
     "Find the congested link between the peers."},
    {dummy_packet, "dummy_packet", ordinary, "RFC 4303 §2.6",
     "A dummy packet that hides the traffic's pattern: discarded as the RFC wants.", "Nothing."},
    {nat_keepalive, "nat_keepalive", ordinary, "RFC 3948 §4",
     "A keepalive that holds a NAT mapping open.", "Nothing."},
    {local_protocol_unsupported, "local_protocol_unsupported", ordinary, "RFC 1122 §3.2.2.1",
     "A packet to one of our addresses with a protocol that we do not serve.",
     "Usually a scan. AH and other tunnels are not served."},
    {local_port_closed, "local_port_closed", ordinary, "RFC 1122 §4.1.3.1",
     "A UDP or TCP packet to one of our addresses and a port that we do not serve.",
     "Usually a scan."},
    {icmp_ignored, "icmp_ignored", ordinary, "RFC 1122 §3.2.2",
     "An ICMP message to one of our addresses that asks for nothing we do, or an error that quotes "
     "no packet which a live SA sent lately.",
     "Usually nothing."},
    {path_mtu_below_minimum, "path_mtu_below_minimum", notable, "RFC 8201 §4",
     "An ICMPv6 Packet Too Big that speaks of less than the 1280 bytes which every IPv6 link "
     "carries: discarded, and nothing learnt from it.",
     "A router or link between the peers is misconfigured, or somebody forges such messages to "
     "shrink our packets; a capture names who sends them."},
    {arp_ignored, "arp_ignored", ordinary, "RFC 826, RFC 1812 §3.3.2",
     "An ARP message that is malformed, or whose sender claims a broadcast or multicast MAC.",
     "Usually nothing. A cluster that answers with a multicast MAC must be set to a unicast one."},
    {neighbor_discovery_ignored, "neighbor_discovery_ignored", ordinary, "RFC 4861 §7.1",
     "A neighbour discovery message that fails its checks, or claims a broadcast or multicast MAC.",
     "Usually nothing."},
    {ike_policed, "ike_policed", notable, "RFC 7296 §2.6",
     "More IKE datagrams than we take of one IKE SA, from one source, or of newcomers in all.",
     "A flood, or a peer that retries without end; see `culvert status`."},
    {ike_not_connected, "ike_not_connected", serious, "RFC 7296 §2.1",
     "An IKE datagram came while culvert-ike was not running or behind.",
     "Start culvert-ike; the peer retransmits."},
    {ike_datagram_invalid, "ike_datagram_invalid", notable, "RFC 7296 §3.1",
     "An IKE datagram that is truncated, too long or has a wrong checksum.",
     "Look for an MTU problem on the path."},
    {ike_datagram_refused, "ike_datagram_refused", serious, "RFC 7296 §2",
     "The key daemon's datagram is from no address of this gateway, from another port than 500 and "
     "4500, or to where no route leads.",
     "The log names it (ike_datagram_refused): add a route, or reload the daemon whose "
     "configuration is older."},
    {icmp_rate_limited, "icmp_rate_limited", ordinary, "RFC 1812 §4.3.2.8",
     "More ICMP errors were sent lately than is sensible: none about one packet more.",
     "Usually nothing."},
    {no_headroom, "no_headroom", serious, "", "The buffer has no room for the outer headers.",
     "Report it: buffers are sized for the configured MTU."},
    {no_buffer, "no_buffer", serious, "",
     "The packet pool is empty, or a worker has no room for more pieces of packets.",
     "Buffers wait where somebody is behind: see in `culvert counters --drops` whether "
     "punt_queue_full, handoff_queue_full or reassembly_full rises too, and do what is said there. "
     "Another worker (dataplane.workers) brings buffers of its own; a larger memory_mib does not."},
    {punt_queue_full, "punt_queue_full", serious, "",
     "The main thread has more to do than it can take.",
     "A flood of ARP, IKE or packets that go nowhere: find its source by a capture."},
    {handoff_queue_full, "handoff_queue_full", serious, "",
     "The worker that owns the SA, or that fragments of the flow go to, has more than it can take.",
     "Spread the load over more SAs; `culvert status` says whether the NIC steers ESP by SPI. Of "
     "fragments: find a flood by a capture, or lower the sender's MTU so that it need not "
     "fragment."},
    {tx_queue_full, "tx_queue_full", serious, "", "The outgoing port takes no more packets.",
     "The link is slower than the traffic: shape at the sender or add bandwidth."},
    {shutting_down, "shutting_down", ordinary, "", "The gateway was stopping.", "Nothing."},
}};

consteval bool rows_stand_in_order() {
  for (std::size_t index = 0; index < kDropReasons; ++index) {
    if (static_cast<std::size_t>(kTable[index].reason) != index) return false;
  }
  return true;
}
static_assert(rows_stand_in_order(), "one row a reason, in the order of the enum");

}  // namespace

const DropReasonInfo& info(DropReason reason) { return kTable[static_cast<std::size_t>(reason)]; }

const std::array<DropReasonInfo, kDropReasons>& all_drop_reasons() { return kTable; }

}  // namespace culvert::dataplane
