// NAT detection in IKE_SA_INIT (RFC 7296 §2.23).
#include <array>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using crypto::Bytes;
using wire::ike::NotifyType;

/// RFC 7296 §2.23: SHA-1(SPIi | SPIr | address | port).
Octets nat_hash(std::uint64_t spi_i, std::uint64_t spi_r, const wire::Endpoint& endpoint) {
  const auto i = octets_of(spi_i), r = octets_of(spi_r);
  std::array<std::uint8_t, 2> port{};
  wire::Writer(port).u16(endpoint.port);
  const std::array<Bytes, 4> pieces{i, r, endpoint.address.view(), port};
  const auto hash = crypto::ike::sha1(pieces);
  return {hash.begin(), hash.end()};
}

/// Whether there are such notifies, and whether one of them is the hash of `endpoint`.
struct NatEvidence {
  bool present = false, matches = false;
};
NatEvidence nat_evidence(const Payloads& payloads, NotifyType type, const Octets& hash) {
  NatEvidence evidence;
  for (const auto& payload : payloads) {
    const auto* notify = std::get_if<wire::ike::Notify>(&payload);
    if (notify == nullptr || notify->type != type) continue;
    evidence.present = true;
    evidence.matches = evidence.matches || notify->data == hash;
  }
  return evidence;
}

}  // namespace

void Core::add_nat_detection(Payloads& payloads, const IkeSa& ike, std::uint64_t responder_spi) {
  add_nat_detection(payloads, ike, responder_spi, ike.local, ike.remote);
}

void Core::add_nat_detection(Payloads& payloads, const IkeSa& ike, std::uint64_t responder_spi,
                             const wire::Endpoint& local, const wire::Endpoint& remote) {
  const auto encapsulation =
      ike.connection != nullptr ? ike.connection->encapsulation : config::Encapsulation::automatic;
  if (encapsulation == config::Encapsulation::never) return;
  // A hash of nothing looks to the peer like a NAT in front of us: it will encapsulate.
  Octets source = encapsulation == config::Encapsulation::forced
                      ? draw(20)
                      : nat_hash(ike.initiator_spi(), responder_spi, local);
  payloads.emplace_back(make_notify(NotifyType::nat_detection_source_ip, std::move(source)));
  payloads.emplace_back(make_notify(NotifyType::nat_detection_destination_ip,
                                    nat_hash(ike.initiator_spi(), responder_spi, remote)));
}

void Core::detect_nat(IkeSa& ike, const Payloads& payloads, std::uint64_t initiator_spi,
                      std::uint64_t responder_spi) {
  const NatEvidence source = nat_evidence(payloads, NotifyType::nat_detection_source_ip,
                                          nat_hash(initiator_spi, responder_spi, ike.remote));
  const NatEvidence destination = nat_evidence(payloads, NotifyType::nat_detection_destination_ip,
                                               nat_hash(initiator_spi, responder_spi, ike.local));
  const bool present = source.present && destination.present;
  if (ike.connection->encapsulation == config::Encapsulation::never) {
    ike.nat_ignored = present && (!source.matches || !destination.matches);
    return;
  }
  ike.nat_detection = present;
  if (!ike.nat_detection) return;
  ike.nat_remote = !source.matches;
  ike.nat_local = !destination.matches;
  ike.encapsulate = ike.nat_remote || ike.nat_local ||
                    ike.connection->encapsulation == config::Encapsulation::forced;
}

}  // namespace culvert::ike
