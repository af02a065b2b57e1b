#include "dataplane/control/ip_fragments.hpp"

#include <algorithm>

#include "wire/checksum.hpp"
#include "wire/ip.hpp"

namespace culvert::dataplane::control {
namespace {

constexpr std::uint8_t kFragmentHeader = 44;
constexpr std::uint16_t kIpv4MoreFragments = 0x2000;

std::vector<std::uint8_t> ipv4_fragment(wire::Bytes header, wire::Bytes payload, std::size_t offset,
                                        bool more) {
  std::vector<std::uint8_t> buffer(wire::ipv4::kHeaderBytes + payload.size());
  wire::Writer writer(buffer);
  writer.bytes(header);
  writer.bytes(payload);
  writer.patch_u16(2, static_cast<std::uint16_t>(buffer.size()));
  writer.patch_u16(6, static_cast<std::uint16_t>(offset / 8U | (more ? kIpv4MoreFragments : 0U)));
  writer.patch_u16(10, 0);
  wire::ChecksumSum sum;
  sum.add(writer.written().first(wire::ipv4::kHeaderBytes));
  writer.patch_u16(10, sum.finish());
  return buffer;
}

std::vector<std::uint8_t> ipv6_fragment(wire::Bytes header, wire::Bytes payload, std::size_t offset,
                                        bool more, std::uint32_t identification) {
  std::vector<std::uint8_t> buffer(wire::ipv6::kHeaderBytes + wire::ipv6::kFragmentHeaderBytes +
                                   payload.size());
  wire::Writer writer(buffer);
  writer.bytes(header.first(4));
  writer.u16(static_cast<std::uint16_t>(wire::ipv6::kFragmentHeaderBytes + payload.size()));
  writer.u8(kFragmentHeader);
  writer.bytes(header.subspan(7));
  writer.u8(header[6]);
  writer.u8(0);
  writer.u16(static_cast<std::uint16_t>(offset | (more ? 1U : 0U)));
  writer.u32(identification);
  writer.bytes(payload);
  return buffer;
}

}  // namespace

std::vector<std::vector<std::uint8_t>> fragments_of(wire::Bytes packet, std::uint16_t mtu,
                                                    std::uint32_t identification) {
  if (packet.size() <= mtu) return {std::vector<std::uint8_t>(packet.begin(), packet.end())};
  const bool v4 = packet[0] >> 4U == 4;
  const wire::Bytes header = packet.first(v4 ? wire::ipv4::kHeaderBytes : wire::ipv6::kHeaderBytes);
  const wire::Bytes payload = packet.subspan(header.size());
  const std::size_t around = header.size() + (v4 ? 0U : wire::ipv6::kFragmentHeaderBytes);
  const std::size_t step = (mtu - around) / 8U * 8U;

  std::vector<std::vector<std::uint8_t>> fragments;
  for (std::size_t offset = 0; offset < payload.size(); offset += step) {
    const wire::Bytes piece = payload.subspan(offset, std::min(step, payload.size() - offset));
    const bool more = offset + piece.size() < payload.size();
    fragments.push_back(v4 ? ipv4_fragment(header, piece, offset, more)
                           : ipv6_fragment(header, piece, offset, more, identification));
  }
  return fragments;
}

}  // namespace culvert::dataplane::control
