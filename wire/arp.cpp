#include "wire/arp.hpp"

#include <algorithm>

namespace culvert::wire {
namespace {

constexpr std::uint16_t kHardwareEthernet = 1;
constexpr std::uint16_t kProtocolIpv4 = 0x0800;

Parsed<MacAddress> read_mac(Reader& reader, std::string_view field) {
  const auto bytes = reader.bytes(6, field);
  if (!bytes) return std::unexpected(bytes.error());
  MacAddress mac{};
  std::ranges::copy(*bytes, mac.begin());
  return mac;
}

Parsed<IpAddress> read_ipv4(Reader& reader, std::string_view field) {
  const auto bytes = reader.bytes(4, field);
  if (!bytes) return std::unexpected(bytes.error());
  return IpAddress::v4(*bytes);
}

/// Hardware type, protocol type and the two lengths: only IPv4 over Ethernet.
Parsed<std::uint16_t> read_operation(Reader& reader) {
  const auto hardware = reader.u16("ARP hardware type");
  if (!hardware) return std::unexpected(hardware.error());
  if (*hardware != kHardwareEthernet) {
    return std::unexpected(reader.invalid("ARP hardware type", "not Ethernet"));
  }
  const auto protocol = reader.u16("ARP protocol type");
  if (!protocol) return std::unexpected(protocol.error());
  if (*protocol != kProtocolIpv4) {
    return std::unexpected(reader.invalid("ARP protocol type", "not IPv4"));
  }
  const auto lengths = reader.u16("ARP address lengths");
  if (!lengths) return std::unexpected(lengths.error());
  if (*lengths != 0x0604) {
    return std::unexpected(reader.invalid("ARP address lengths", "not 6 and 4"));
  }
  return reader.u16("ARP operation");
}

}  // namespace

Parsed<ArpMessage> parse_arp(Bytes bytes) {
  Reader reader(bytes);
  const auto operation = read_operation(reader);
  if (!operation) return std::unexpected(operation.error());
  if (*operation != 1 && *operation != 2) {
    return std::unexpected(reader.invalid("ARP operation", "neither request nor reply"));
  }
  const auto sender_mac = read_mac(reader, "ARP sender hardware address");
  if (!sender_mac) return std::unexpected(sender_mac.error());
  // "A router MUST not believe any ARP reply that claims that the Link Layer address of another
  // host or router is a broadcast or multicast address" (RFC 1812 §3.3.2); a request, from which we
  // learn as well, no more: what was decrypted for one host would go to all on the link.
  if (is_group(*sender_mac)) {
    return std::unexpected(
        reader.invalid("ARP sender hardware address", "a broadcast or multicast address"));
  }
  const auto sender = read_ipv4(reader, "ARP sender protocol address");
  if (!sender) return std::unexpected(sender.error());
  const auto target_mac = read_mac(reader, "ARP target hardware address");
  if (!target_mac) return std::unexpected(target_mac.error());
  const auto target = read_ipv4(reader, "ARP target protocol address");
  if (!target) return std::unexpected(target.error());
  return ArpMessage{static_cast<ArpMessage::Operation>(*operation), *sender_mac, *sender,
                    *target_mac, *target};
}

void build_arp(Writer& writer, const ArpMessage& message) {
  writer.u16(kHardwareEthernet);
  writer.u16(kProtocolIpv4);
  writer.u16(0x0604);
  writer.u16(static_cast<std::uint16_t>(message.operation));
  writer.bytes(message.sender_mac);
  writer.bytes(message.sender.view());
  writer.bytes(message.target_mac);
  writer.bytes(message.target.view());
}

}  // namespace culvert::wire
