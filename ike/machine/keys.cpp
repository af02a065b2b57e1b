#include "ike/machine/keys.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "wire/cursor.hpp"

namespace culvert::ike {
namespace {

using crypto::Bytes;
using crypto::SecretBytes;

/// RFC 7296 §2.15: the 17 ASCII characters, without a terminator.
constexpr std::string_view kKeyPad = "Key Pad for IKEv2";

Octets join(std::initializer_list<Bytes> pieces) {
  Octets all;
  for (const Bytes piece : pieces) all.insert(all.end(), piece.begin(), piece.end());
  return all;
}

/// {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr)
crypto::ike::Result<IkeKeys> expand(const KeyInputs& in, const SecretBytes& skeyseed) {
  const auto spi_i = octets_of(in.initiator_spi), spi_r = octets_of(in.responder_spi);
  const Octets seed = join({in.initiator_nonce, in.responder_nonce, spi_i, spi_r});
  const crypto::PrfInfo* prf = crypto::find(in.suite.prf);
  if (prf == nullptr) return std::unexpected(crypto::ike::CryptoError{"unknown prf"});
  const std::size_t derive_bytes = prf->key_bytes;
  const std::size_t integrity_bytes = crypto::ike::protector_integrity_key_bytes(in.suite);
  const std::size_t encryption_bytes = crypto::ike::protector_key_bytes(in.suite);
  auto stream = crypto::ike::prf_plus(in.suite.prf, skeyseed.view(), seed,
                                      3 * derive_bytes + 2 * (integrity_bytes + encryption_bytes));
  if (!stream) return std::unexpected(stream.error());
  std::size_t at = 0;
  const auto next = [&](std::size_t size) {
    const Bytes piece = stream->view().subspan(at, size);
    at += size;
    return piece;
  };
  const Bytes derive = next(derive_bytes);
  const Bytes integrity_i = next(integrity_bytes), integrity_r = next(integrity_bytes);
  const Bytes encryption_i = next(encryption_bytes), encryption_r = next(encryption_bytes);
  const Bytes prove_i = next(derive_bytes), prove_r = next(derive_bytes);

  auto from_initiator = crypto::ike::make_protector(in.suite, encryption_i, integrity_i);
  if (!from_initiator) return std::unexpected(from_initiator.error());
  auto from_responder = crypto::ike::make_protector(in.suite, encryption_r, integrity_r);
  if (!from_responder) return std::unexpected(from_responder.error());
  IkeKeys keys;
  keys.derive = SecretBytes(derive);
  keys.prove_local = SecretBytes(in.we_initiated ? prove_i : prove_r);
  keys.prove_remote = SecretBytes(in.we_initiated ? prove_r : prove_i);
  keys.outbound = std::move(in.we_initiated ? *from_initiator : *from_responder);
  keys.inbound = std::move(in.we_initiated ? *from_responder : *from_initiator);
  return keys;
}

}  // namespace

std::array<std::uint8_t, 8> octets_of(std::uint64_t value) {
  std::array<std::uint8_t, 8> octets{};
  wire::Writer(octets).u64(value);
  return octets;
}

crypto::ike::Result<IkeKeys> derive_first_keys(const KeyInputs& inputs, Bytes shared_secret) {
  const Octets nonces = join({inputs.initiator_nonce, inputs.responder_nonce});
  const std::array<Bytes, 1> data{shared_secret};
  const auto skeyseed = crypto::ike::prf(inputs.suite.prf, nonces, data);
  if (!skeyseed) return std::unexpected(skeyseed.error());
  return expand(inputs, *skeyseed);
}

crypto::ike::Result<IkeKeys> derive_rekeyed_keys(const KeyInputs& inputs, crypto::Prf old_prf,
                                                 Bytes old_derive, Bytes shared_secret) {
  const std::array<Bytes, 3> data{shared_secret, inputs.initiator_nonce, inputs.responder_nonce};
  const auto skeyseed = crypto::ike::prf(old_prf, old_derive, data);
  if (!skeyseed) return std::unexpected(skeyseed.error());
  return expand(inputs, *skeyseed);
}

crypto::ike::Result<MixedKeys> mix_post_quantum(crypto::Prf prf, Bytes key,
                                                const MixedKeys& plain) {
  MixedKeys mixed;
  for (const auto& [from, to] :
       {std::pair(&plain.derive, &mixed.derive), std::pair(&plain.prove_local, &mixed.prove_local),
        std::pair(&plain.prove_remote, &mixed.prove_remote)}) {
    auto made = crypto::ike::prf_plus(prf, key, from->view(), from->size());
    if (!made) return std::unexpected(made.error());
    *to = std::move(*made);
  }
  return mixed;
}

crypto::ike::Result<ChildKeys> derive_child_keys(const crypto::EspSuite& suite, crypto::Prf prf,
                                                 Bytes derive, Bytes shared_secret,
                                                 Bytes initiator_nonce, Bytes responder_nonce) {
  // RFC 7296 §2.17: KEYMAT = prf+(SK_d, [g^ir (new) |] Ni | Nr).
  const std::array<Bytes, 3> pieces{shared_secret, initiator_nonce, responder_nonce};
  SecretBytes seed(shared_secret.size() + initiator_nonce.size() + responder_nonce.size());
  auto at = seed.span().begin();
  for (const Bytes piece : pieces) at = std::ranges::copy(piece, at).out;
  const std::size_t size = suite.keymat_bytes();
  const auto keymat = crypto::ike::prf_plus(prf, derive, seed.view(), 2 * size);
  if (!keymat) return std::unexpected(keymat.error());
  return ChildKeys{SecretBytes(keymat->view().first(size)),
                   SecretBytes(keymat->view().subspan(size, size))};
}

crypto::ike::Result<Octets> auth_octets(crypto::Prf prf, Bytes first_message, Bytes other_nonce,
                                        Bytes prove_key, Bytes id_body) {
  const std::array<Bytes, 1> id_data{id_body};
  const auto maced_id = crypto::ike::prf(prf, prove_key, id_data);
  if (!maced_id) return std::unexpected(maced_id.error());
  return join({first_message, other_nonce, maced_id->view()});
}

crypto::ike::Result<SecretBytes> shared_key_auth(crypto::Prf prf, Bytes psk, Bytes octets) {
  const Octets pad(kKeyPad.begin(), kKeyPad.end());
  const std::array<Bytes, 1> pad_data{pad}, covered{octets};
  const auto key = crypto::ike::prf(prf, psk, pad_data);
  if (!key) return std::unexpected(key.error());
  return crypto::ike::prf(prf, key->view(), covered);
}

}  // namespace culvert::ike
