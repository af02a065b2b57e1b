// Key derivation (RFC 7296 §2.14, §2.15, §2.17, §2.18): pure functions over octet strings.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "crypto/ike/ike_crypto.hpp"
#include "crypto/secret.hpp"

namespace culvert::ike {

using Octets = std::vector<std::uint8_t>;

/// An SPI of IKE as it stands in messages, and in what is hashed.
[[nodiscard]] std::array<std::uint8_t, 8> octets_of(std::uint64_t value);

/// What SKEYSEED expands to; `outbound` and `inbound` are SK_e* and SK_a* of our two directions.
struct IkeKeys {
  crypto::SecretBytes derive;       ///< SK_d
  crypto::SecretBytes prove_local;  ///< SK_pi when we initiated, else SK_pr
  crypto::SecretBytes prove_remote;
  std::unique_ptr<crypto::ike::Protector> outbound, inbound;
};
/// What both expansions take beside the secret. SPIs and nonces by original role, host order.
struct KeyInputs {
  crypto::IkeSuite suite;
  std::uint64_t initiator_spi = 0, responder_spi = 0;
  crypto::Bytes initiator_nonce, responder_nonce;
  bool we_initiated = false;
};
/// RFC 7296 §2.14: SKEYSEED = prf(Ni | Nr, g^ir).
[[nodiscard]] crypto::ike::Result<IkeKeys> derive_first_keys(const KeyInputs& inputs,
                                                             crypto::Bytes shared_secret);
/// RFC 7296 §2.18: SKEYSEED = prf(SK_d (old), g^ir | Ni | Nr), with the old SA's prf.
[[nodiscard]] crypto::ike::Result<IkeKeys> derive_rekeyed_keys(const KeyInputs& inputs,
                                                               crypto::Prf old_prf,
                                                               crypto::Bytes old_derive,
                                                               crypto::Bytes shared_secret);

/// The keys that a post-quantum pre-shared key changes (RFC 8784 §3).
struct MixedKeys {
  crypto::SecretBytes derive, prove_local, prove_remote;
};
/// SK_d = prf+(PPK, SK_d'), SK_pi and SK_pr alike.
[[nodiscard]] crypto::ike::Result<MixedKeys> mix_post_quantum(crypto::Prf prf, crypto::Bytes key,
                                                              const MixedKeys& plain);

/// KEYMAT cut in two: what the exchange's initiator sends with comes first (RFC 7296 §2.17).
struct ChildKeys {
  crypto::SecretBytes initiator_to_responder, responder_to_initiator;
};
/// Of the exchange that makes a child.
struct ChildNonces {
  crypto::Bytes initiator, responder;
};
[[nodiscard]] crypto::ike::Result<ChildKeys> derive_child_keys(
    const crypto::EspSuite& suite, crypto::Prf prf, crypto::Bytes derive,
    crypto::Bytes shared_secret, crypto::Bytes initiator_nonce, crypto::Bytes responder_nonce);

/// What a side's AUTH covers (RFC 7296 §2.15): its first message, the other side's nonce, and
/// prf(SK_p, ID body).
[[nodiscard]] crypto::ike::Result<Octets> auth_octets(crypto::Prf prf, crypto::Bytes first_message,
                                                      crypto::Bytes other_nonce,
                                                      crypto::Bytes prove_key,
                                                      crypto::Bytes id_body);
/// AUTH of a shared key (RFC 7296 §2.15): prf(prf(PSK, "Key Pad for IKEv2"), octets).
[[nodiscard]] crypto::ike::Result<crypto::SecretBytes> shared_key_auth(crypto::Prf prf,
                                                                       crypto::Bytes psk,
                                                                       crypto::Bytes octets);

}  // namespace culvert::ike
