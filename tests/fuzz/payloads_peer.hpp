// The peer of an IKE SA as fuzz_payloads plays it: it has the keys, and says what the input says.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "ike/machine/payload_access.hpp"
#include "tests/fuzz/payloads_input.hpp"
#include "tests/fuzz/payloads_stage.hpp"

namespace culvert::payloads {

class Peer {
 public:
  using Octets = std::vector<std::uint8_t>;

  /// `machines`: the IKE SA as the other side has it on record.
  Peer(const ike::IkeSa& machines, const simulation::Secrets& secrets, crypto::ike::Random& random)
      : ike_(machines), secrets_(secrets), random_(random) {}

  /// The step's datagrams.
  [[nodiscard]] std::vector<Octets> say(const Step& step) {
    wire::ike::Header header = header_of(step);
    if (step.in_clear || ike_.keys.inbound == nullptr) return {in_clear(header, step)};
    auto first = static_cast<wire::ike::PayloadType>(step.first_payload);
    const Octets chain = step.proven ? proven(first, step.chain) : step.chain;
    if (step.kind == StepKind::fragments) return in_pieces(header, first, chain, step.cut);
    return {whole(header, first, chain)};
  }

  [[nodiscard]] wire::ike::Header header_of(const Step& step) const {
    wire::ike::Header header;
    header.initiator_spi = ike_.initiator_spi();
    header.responder_spi = ike_.responder_spi();
    header.from_initiator = !ike_.initiator;
    header.response = step.response;
    header.exchange = static_cast<wire::ike::ExchangeType>(step.exchange);
    header.message_id = message_id(step);
    return header;
  }

 private:
  [[nodiscard]] std::uint32_t message_id(const Step& step) const {
    const std::uint32_t fitting = !step.response        ? ike_.window.expected_request()
                                  : ike_.window.pending ? ike_.window.pending->message_id
                                                        : 0;
    switch (step.id) {
      case MessageId::fitting:
        return fitting;
      case MessageId::last:
        return fitting - 1;
      case MessageId::one_further:
        return fitting + 1;
      case MessageId::odd:
        return 0xffffffffU - step.cut;
    }
    return fitting;
  }

  [[nodiscard]] Octets whole(const wire::ike::Header& header, wire::ike::PayloadType first,
                             crypto::Bytes chain) {
    const std::size_t sealed_bytes = ike_.keys.inbound->sealed_bytes(chain.size());
    return sealed(wire::ike::encode_encrypted_prefix(header, first, sealed_bytes), chain);
  }

  [[nodiscard]] Octets sealed(Octets datagram, crypto::Bytes plain) {
    const std::size_t prefix = datagram.size();
    datagram.resize(prefix + ike_.keys.inbound->sealed_bytes(plain.size()));
    const crypto::MutableBytes all(datagram);
    const auto done =
        ike_.keys.inbound->seal(all.first(prefix), plain, random_, all.subspan(prefix));
    if (!done) std::abort();
    return datagram;
  }

  /// RFC 7383, whatever the two agreed upon: so many pieces, in some order, perhaps not all.
  [[nodiscard]] std::vector<Octets> in_pieces(const wire::ike::Header& header,
                                              wire::ike::PayloadType first, crypto::Bytes chain,
                                              std::uint8_t cut) {
    const std::size_t total = 1U + cut % 8U;
    const std::size_t piece_bytes = chain.size() / total + 1;
    std::vector<Octets> pieces;
    for (std::size_t at = 0; at < total; ++at) {
      const std::size_t begin = std::min(at * piece_bytes, chain.size());
      const auto piece = chain.subspan(begin, std::min(piece_bytes, chain.size() - begin));
      const wire::ike::EncryptedFragment fragment{at == 0 ? first : wire::ike::PayloadType::none,
                                                  static_cast<std::uint16_t>(at + 1),
                                                  static_cast<std::uint16_t>(total),
                                                  0,
                                                  {}};
      const std::size_t sealed_bytes = ike_.keys.inbound->sealed_bytes(piece.size());
      pieces.push_back(
          sealed(wire::ike::encode_fragment_prefix(header, fragment, sealed_bytes), piece));
    }
    const unsigned order = cut / 8U;
    if ((order & 1U) != 0) std::ranges::reverse(pieces);
    if ((order & 2U) != 0) pieces.push_back(pieces.front());
    if ((order & 4U) != 0) pieces.pop_back();
    return pieces;
  }

  /// Before there are keys, and what anybody on the path can say.
  [[nodiscard]] Octets in_clear(wire::ike::Header header, const Step& step) const {
    if (header.response && ike_.state == ike::IkeState::init_sent) header.responder_spi = 0x5151;
    if (!header.response && header.exchange == wire::ike::ExchangeType::ike_sa_init) {
      header.initiator_spi = 0x5252U + step.cut;
      header.responder_spi = 0;
      header.from_initiator = true;
      header.message_id = 0;
    }
    constexpr std::size_t kNextPayloadAt = 16, kLengthAt = 24;
    Octets datagram = wire::ike::encode_message(header, {});
    datagram[kNextPayloadAt] = step.first_payload;
    datagram.insert(datagram.end(), step.chain.begin(), step.chain.end());
    wire::Writer(std::span(datagram).subspan(kLengthAt, 4))
        .u32(static_cast<std::uint32_t>(datagram.size()));
    return datagram;
  }

  /// The same chain with the AUTH of who knows the pre-shared key, where it has one.
  [[nodiscard]] Octets proven(wire::ike::PayloadType& first, const Octets& chain) const {
    auto payloads = wire::ike::parse_payloads(first, chain);
    if (!payloads || ike_.keys.prove_remote.empty()) return chain;
    Octets body;
    for (const auto& payload : *payloads) {
      const auto* id = std::get_if<wire::ike::Identification>(&payload);
      if (id != nullptr && id->initiator == !ike_.initiator) body = id->body();
    }
    const auto octets = ike::auth_octets(
        ike_.suite.prf, ike_.initiator ? ike_.responder_message : ike_.initiator_message,
        ike_.initiator ? ike_.initiator_nonce : ike_.responder_nonce, proving_key(*payloads).view(),
        body);
    if (!octets) return chain;
    const auto proof = ike::shared_key_auth(ike_.suite.prf, secrets_.find({}, {})->view(), *octets);
    if (!proof) return chain;
    for (auto& payload : *payloads) {
      auto* auth = std::get_if<wire::ike::Authentication>(&payload);
      if (auth != nullptr) auth->data.assign(proof->view().begin(), proof->view().end());
    }
    return wire::ike::encode_payloads(*payloads, first);
  }

  /// RFC 8784 §3: an initiator that names a key has mixed it in.
  [[nodiscard]] crypto::SecretBytes proving_key(const ike::Payloads& payloads) const {
    const bool named = ike::find_notify(payloads, wire::ike::NotifyType::ppk_identity) != nullptr;
    const auto* ppk = secrets_.find_post_quantum("shared");
    if (ike_.initiator || ppk == nullptr || !named) return ike_.keys.prove_remote.clone();
    auto mixed = ike::mix_post_quantum(
        ike_.suite.prf, ppk->view(),
        {ike_.keys.derive.clone(), ike_.keys.prove_local.clone(), ike_.keys.prove_remote.clone()});
    return mixed ? std::move(mixed->prove_remote) : ike_.keys.prove_remote.clone();
  }

  const ike::IkeSa& ike_;
  const simulation::Secrets& secrets_;
  crypto::ike::Random& random_;
};

}  // namespace culvert::payloads
