// The one message of IKEv1 that we can make: that we do not speak it (RFC 2408 §3.1, §3.14, §5.2).
#include "wire/ike/message.hpp"

namespace culvert::wire::ike {
namespace {

constexpr std::uint8_t kVersion1 = 0x10, kVersion1Informational = 5, kNotificationPayload = 11;
constexpr std::uint8_t kProtocolIsakmp = 1;
constexpr std::uint16_t kInvalidMajorVersion = 5;
constexpr std::uint32_t kIpsecDoi = 1;
constexpr std::size_t kNotificationBytes = 12;

}  // namespace

std::vector<std::uint8_t> encode_version_1_refusal(const Header& request,
                                                   std::uint32_t message_id) {
  std::vector<std::uint8_t> message(kHeaderBytes + kNotificationBytes);
  Writer writer(message);
  writer.u64(request.initiator_spi);  // the cookies, in IKEv1's words
  writer.u64(request.responder_spi);
  writer.u8(kNotificationPayload);
  writer.u8(kVersion1);
  writer.u8(kVersion1Informational);
  writer.u8(0);  // flags: in clear
  writer.u32(message_id);
  writer.u32(static_cast<std::uint32_t>(message.size()));
  writer.u8(0);  // no payload follows
  writer.u8(0);
  writer.u16(kNotificationBytes);
  writer.u32(kIpsecDoi);
  writer.u8(kProtocolIsakmp);
  writer.u8(0);  // no SPI
  writer.u16(kInvalidMajorVersion);
  return message;
}

}  // namespace culvert::wire::ike
