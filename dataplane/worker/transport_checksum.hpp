// Behind a NAT the peers know the transport packet's addresses by different names, and the checksum
// under the encryption covers the sender's (RFC 3948 §3.1.2). Pure.
#pragma once

#include <cstdint>

#include "wire/cursor.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane {

/// TCP's or UDP's checksum anew over the addresses that the packet now has: "if the protocol header
/// after the ESP header is a TCP/UDP header, then recompute the checksum field" (RFC 3948 §3.1.2).
/// That its bytes are right, the ICV has shown. A UDP checksum of zero says that its sender went
/// without (RFC 768, RFC 6935) and stays. Fragments, other protocols, and UDP whose Length cannot
/// be, which is for its receiver to refuse, are left alone.
void renew_transport_checksum(wire::MutableBytes packet, const wire::IpHeader& header);

}  // namespace culvert::dataplane
