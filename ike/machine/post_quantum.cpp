// Post-quantum pre-shared keys (RFC 8784): mixed into SK_d, SK_pi and SK_pr before IKE_AUTH proves
// anything, so that whoever breaks the key exchange later still lacks a secret.
#include <algorithm>

#include "ike/machine/core.hpp"

namespace culvert::ike {
namespace {

using wire::ike::NotifyType;

/// RFC 8784 §5.1: the identity is a fixed string that both operators wrote.
constexpr std::uint8_t kFixedId = 2;

Refusal mismatch(std::string detail) {
  return {NotifyType::authentication_failed, Failure::post_quantum_mismatch, std::move(detail), {}};
}

std::string ours_text(const config::Connection& connection) {
  return "ours: ppk_id " + (connection.ppk_id.empty() ? std::string("none") : connection.ppk_id) +
         (connection.ppk_required ? ", required" : ", optional");
}

/// The name in a PPK_IDENTITY, printable; empty when it has another form than ours.
std::string name_in(const wire::ike::Notify& notify) {
  if (notify.data.size() < 2 || notify.data.front() != kFixedId) return {};
  std::string name;
  for (const std::uint8_t octet : std::span(notify.data).subspan(1)) {
    name += octet >= 0x20 && octet < 0x7f ? static_cast<char>(octet) : '?';
  }
  return name;
}

}  // namespace

bool Core::can_mix(const config::Connection& connection) const {
  return !connection.ppk_id.empty() &&
         environment_.secrets->find_post_quantum(connection.ppk_id) != nullptr;
}

std::expected<void, Refusal> Core::mix_keys(IkeSa& ike) {
  const crypto::SecretBytes* key = environment_.secrets->find_post_quantum(ike.connection->ppk_id);
  if (key == nullptr) return std::unexpected(mismatch(ours_text(*ike.connection)));
  ike.plain_keys = {std::move(ike.keys.derive), std::move(ike.keys.prove_local),
                    std::move(ike.keys.prove_remote)};
  auto mixed = mix_post_quantum(ike.suite.prf, key->view(), ike.plain_keys);
  if (!mixed) {
    unmix_keys(ike);
    return std::unexpected(mismatch(mixed.error().what));
  }
  ike.keys.derive = std::move(mixed->derive);
  ike.keys.prove_local = std::move(mixed->prove_local);
  ike.keys.prove_remote = std::move(mixed->prove_remote);
  ike.post_quantum = true;
  return {};
}

void Core::unmix_keys(IkeSa& ike) {
  ike.keys.derive = std::move(ike.plain_keys.derive);
  ike.keys.prove_local = std::move(ike.plain_keys.prove_local);
  ike.keys.prove_remote = std::move(ike.plain_keys.prove_remote);
  ike.post_quantum = false;
}

/// AUTH, PPK_IDENTITY, and where the key is optional NO_PPK_AUTH: the proof without it, for a
/// responder that does not know it (RFC 8784 §3).
std::expected<Payloads, Refusal> Core::initiators_proof(IkeSa& ike) {
  if (!ike.post_quantum_offered) return our_proof(ike);
  Octets without;
  if (!ike.connection->ppk_required) {
    const auto plain = our_proof(ike);
    if (!plain) return plain;
    without = find_payload<wire::ike::Authentication>(*plain)->data;
  }
  if (auto mixed = mix_keys(ike); !mixed) return std::unexpected(mixed.error());
  auto proof = our_proof(ike);
  if (!proof) return proof;
  Octets identity{kFixedId};
  identity.insert(identity.end(), ike.connection->ppk_id.begin(), ike.connection->ppk_id.end());
  proof->emplace_back(make_notify(NotifyType::ppk_identity, std::move(identity)));
  if (!without.empty()) {
    proof->emplace_back(make_notify(NotifyType::no_ppk_auth, std::move(without)));
  }
  return proof;
}

/// Responder, once the connection is known: which of the initiator's two proofs counts. The
/// payloads with that proof as AUTH.
std::expected<Payloads, Refusal> Core::settle_post_quantum(IkeSa& ike, Payloads payloads) {
  const config::Connection& connection = *ike.connection;
  const auto* identity =
      ike.post_quantum_offered ? find_notify(payloads, NotifyType::ppk_identity) : nullptr;
  if (identity == nullptr) {
    if (!connection.ppk_required) return payloads;
    return std::unexpected(
        mismatch(ours_text(connection) + "; the peer's: it uses no post-quantum key"));
  }
  const std::string name = name_in(*identity);
  if (name == connection.ppk_id && can_mix(connection)) {
    if (auto mixed = mix_keys(ike); !mixed) return std::unexpected(mixed.error());
    return payloads;
  }
  const auto* without = find_notify(payloads, NotifyType::no_ppk_auth);
  if (connection.ppk_required || without == nullptr) {
    return std::unexpected(mismatch(ours_text(connection) + "; the peer's: ppk_id " +
                                    (name.empty() ? "of another form" : name) +
                                    (without == nullptr ? ", required" : ", optional")));
  }
  const Octets proof = without->data;
  for (auto& payload : payloads) {
    if (auto* auth = std::get_if<wire::ike::Authentication>(&payload)) auth->data = proof;
  }
  return payloads;
}

/// Initiator: whether the responder used the key.
std::expected<void, Refusal> Core::learn_post_quantum(IkeSa& ike, const Payloads& payloads) {
  if (!ike.post_quantum || find_notify(payloads, NotifyType::ppk_identity) != nullptr) return {};
  if (ike.connection->ppk_required) {
    return std::unexpected(
        mismatch(ours_text(*ike.connection) + "; the peer's: it does not know that key"));
  }
  unmix_keys(ike);
  return {};
}

}  // namespace culvert::ike
