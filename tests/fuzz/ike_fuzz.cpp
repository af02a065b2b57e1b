// The IKE parser against any bytes: as a whole message, and as the chain inside SK. Whatever
// parses is built again, and what was built must parse to the same value.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "wire/ike/limits.hpp"
#include "wire/ike/message.hpp"

using namespace culvert::wire;
using namespace culvert::wire::ike;

namespace {

void require(bool claim) {
  if (!claim) std::abort();
}

/// Values that we read but never send: their bytes are not kept, so they cannot be built again.
bool only_readable(const Payload& payload) {
  if (const auto* selectors = std::get_if<TrafficSelectors>(&payload)) {
    return selectors->skipped_unknown;
  }
  const auto* association = std::get_if<SecurityAssociation>(&payload);
  return association != nullptr &&
         std::ranges::any_of(association->proposals, [](const SaProposal& proposal) {
           return std::ranges::any_of(proposal.transforms, &Transform::unknown_attribute);
         });
}

void check_error(const ParseError& error, std::size_t size) {
  require(!error.field.empty() && !error.problem.empty());
  require(error.offset <= size);
}

void check_presence_of(const Message& message) {
  static_cast<void>(
      check_presence(message.header.exchange, message.header.response, message.payloads));
}

void check_chain(PayloadType first, Bytes chain) {
  const auto parsed = parse_payloads(first, chain);
  if (!parsed) return check_error(parsed.error(), chain.size());
  require(parsed->size() <= kMaxPayloads);
  if (std::ranges::any_of(*parsed, only_readable)) return;
  PayloadType built_first{};
  const auto built = encode_payloads(*parsed, built_first);
  require(built_first == (parsed->empty() ? PayloadType::none : first));
  require(built.size() == chain.size());
  const auto again = parse_payloads(built_first, built);
  require(again && *again == *parsed);
}

std::vector<std::uint8_t> build(const Message& message) {
  if (!message.payloads.empty()) {
    if (const auto* piece = std::get_if<EncryptedFragment>(&message.payloads.back())) {
      auto bytes = encode_fragment_prefix(message.header, *piece, piece->sealed.size());
      bytes.insert(bytes.end(), piece->sealed.begin(), piece->sealed.end());
      return bytes;
    }
  }
  if (message.payloads.empty() || !std::holds_alternative<Encrypted>(message.payloads.back())) {
    return encode_message(message.header, message.payloads);
  }
  const auto& sealed = std::get<Encrypted>(message.payloads.back());
  auto bytes = encode_encrypted_prefix(message.header, sealed.first_inner, sealed.sealed.size());
  bytes.insert(bytes.end(), sealed.sealed.begin(), sealed.sealed.end());
  return bytes;
}

void check_message(Bytes bytes) {
  const auto parsed = parse_message(bytes);
  if (!parsed) return check_error(parsed.error().error, bytes.size());
  check_presence_of(*parsed);
  const bool clear_before_sealed =
      parsed->payloads.size() > 1 &&
      (std::holds_alternative<Encrypted>(parsed->payloads.back()) ||
       std::holds_alternative<EncryptedFragment>(parsed->payloads.back()));
  if (clear_before_sealed || std::ranges::any_of(parsed->payloads, only_readable)) return;
  const auto built = build(*parsed);
  require(built.size() == bytes.size());
  const auto again = parse_message(built);
  require(again && again->payloads == parsed->payloads);
  require(again->header.message_id == parsed->header.message_id);
  require(again->header.next_payload == parsed->header.next_payload);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes(data, std::min(size, kMaxMessageBytes));
  check_message(bytes);
  // A mutated length seldom agrees with the datagram's: go on to what stands behind it.
  if (bytes.size() >= kHeaderBytes) {
    std::vector<std::uint8_t> fitting(bytes.begin(), bytes.end());
    Writer length(MutableBytes(fitting).subspan(kHeaderBytes - 4, 4));
    length.u32(static_cast<std::uint32_t>(fitting.size()));
    check_message(fitting);
  }
  if (!bytes.empty()) check_chain(static_cast<PayloadType>(bytes[0]), bytes.subspan(1));
  return 0;
}
