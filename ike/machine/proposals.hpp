// From configured proposals to SA payloads and back: offering, choosing, and saying in words why
// nothing was chosen (RFC 7296 §2.7, §3.3).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crypto/suite.hpp"
#include "wire/ike/message.hpp"

namespace culvert::ike {

/// SA payload for an IKE SA; `spi` empty in IKE_SA_INIT, 8 bytes in a rekey.
[[nodiscard]] wire::ike::SecurityAssociation offer_ike(
    const std::vector<crypto::Proposal>& proposals, const std::vector<std::uint8_t>& spi);
/// SA payload for a child. IKE_AUTH has no key exchange of its own (RFC 7296 §1.2): `with_groups`
/// is false there.
[[nodiscard]] wire::ike::SecurityAssociation offer_esp(
    const std::vector<crypto::Proposal>& proposals, std::uint32_t spi, bool with_groups);

struct ChosenIke {
  crypto::IkeSuite suite;
  std::vector<std::uint8_t> peer_spi;
  wire::ike::SaProposal answer;  ///< one transform a type; the caller puts its SPI in
};
struct ChosenEsp {
  crypto::EspSuite suite;
  crypto::Group group = crypto::Group::none;
  bool esn = false;
  std::uint32_t peer_spi = 0;
  wire::ike::SaProposal answer;
};
/// Our order decides; but a group for which the peer already sent its KE payload spares a round
/// trip and goes first among those we configured.
[[nodiscard]] std::optional<ChosenIke> choose_ike(const std::vector<crypto::Proposal>& ours,
                                                  const wire::ike::SecurityAssociation& theirs,
                                                  std::optional<std::uint16_t> offered_group);
[[nodiscard]] std::optional<ChosenEsp> choose_esp(const std::vector<crypto::Proposal>& ours,
                                                  const wire::ike::SecurityAssociation& theirs,
                                                  bool with_groups,
                                                  std::optional<std::uint16_t> offered_group);
/// An answer holds one proposal with at most one transform of each type (RFC 7296 §3.3.6).
[[nodiscard]] bool is_an_answer(const wire::ike::SecurityAssociation& answer);

/// In the words of the configuration, for messages to the operator.
[[nodiscard]] std::string describe(const std::vector<crypto::Proposal>& proposals);
[[nodiscard]] std::string describe(const wire::ike::SecurityAssociation& offer);

/// The groups of all proposals: "x25519, ecp384", or "none".
[[nodiscard]] std::string groups_text(const std::vector<crypto::Proposal>& proposals);

/// What the nearest pair of proposals does not have in common.
struct Difference {
  std::string text;         ///< "encryption, key exchange group"
  bool only_group = false;  ///< all else fits
};
/// `with_groups` is false in IKE_AUTH.
[[nodiscard]] Difference difference(const std::vector<crypto::Proposal>& ours,
                                    const wire::ike::SecurityAssociation& theirs,
                                    bool with_groups = true);
/// "ours: …; the peer's: …; nothing in common: …"
[[nodiscard]] std::string compare(const std::vector<crypto::Proposal>& ours,
                                  const wire::ike::SecurityAssociation& theirs,
                                  bool with_groups = true);

}  // namespace culvert::ike
