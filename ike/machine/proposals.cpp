#include "ike/machine/proposals.hpp"

#include <algorithm>

#include "wire/cursor.hpp"

namespace culvert::ike {
namespace {

using wire::ike::SaProposal;
using wire::ike::SecurityAssociation;
using wire::ike::Transform;
using wire::ike::TransformType;

template <typename Id>
std::uint16_t number(Id id) {
  return static_cast<std::uint16_t>(id);
}

/// RFC 7296 §3.3.5: the key length attribute is for ciphers with several lengths and "MUST NOT be
/// used with transforms that use a fixed-length key" (RFC 7634 §2: ChaCha20-Poly1305; NULL).
std::optional<std::uint16_t> key_length_attribute(const crypto::Proposal::Cipher& cipher) {
  const crypto::EncryptionInfo* const row = crypto::find(cipher.id);
  if (row != nullptr && row->one_key_length) return std::nullopt;
  return cipher.key_bits;
}

void add_cipher_transforms(const crypto::Proposal& proposal, SaProposal& out) {
  for (const auto& cipher : proposal.encryption) {
    out.transforms.push_back(
        {TransformType::encryption, number(cipher.id), key_length_attribute(cipher), false});
  }
  for (const crypto::Integrity id : proposal.integrity) {
    out.transforms.push_back({TransformType::integrity, number(id), std::nullopt, false});
  }
}
void add_groups(const crypto::Proposal& proposal, SaProposal& out) {
  for (const crypto::Group id : proposal.groups) {
    out.transforms.push_back({TransformType::key_exchange, number(id), std::nullopt, false});
  }
}

bool has_type(const SaProposal& proposal, TransformType type) {
  return std::ranges::any_of(proposal.transforms,
                             [&](const Transform& transform) { return transform.type == type; });
}
const Transform* find(const SaProposal& proposal, TransformType type, std::uint16_t id,
                      std::optional<std::uint16_t> key_bits = std::nullopt) {
  for (const Transform& transform : proposal.transforms) {
    if (transform.type == type && transform.id == id && transform.key_bits == key_bits &&
        !transform.unknown_attribute) {
      return &transform;
    }
  }
  return nullptr;
}
/// RFC 7296 §3.3.6: a proposal with a transform type we do not know is not acceptable.
bool all_types_known(const SaProposal& proposal) {
  return std::ranges::all_of(proposal.transforms, [](const Transform& transform) {
    const auto type = static_cast<std::uint8_t>(transform.type);
    return type >= 1 && type <= 5;
  });
}

/// Cipher and integrity, common to both kinds. Appends the chosen transforms to `answer`.
struct ChosenCipher {
  crypto::Proposal::Cipher cipher;
  crypto::Integrity integrity = crypto::Integrity::none;
};
std::optional<ChosenCipher> choose_cipher(const crypto::Proposal& ours, const SaProposal& theirs,
                                          SaProposal& answer) {
  ChosenCipher chosen{};
  const Transform* cipher = nullptr;
  for (const auto& candidate : ours.encryption) {
    cipher = find(theirs, TransformType::encryption, number(candidate.id),
                  key_length_attribute(candidate));
    if (cipher != nullptr) {
      chosen.cipher = candidate;
      break;
    }
  }
  if (cipher == nullptr) return std::nullopt;
  answer.transforms.push_back(*cipher);
  if (ours.integrity.empty()) {
    // RFC 7296 §3.3: with an AEAD cipher the integrity type is absent or NONE.
    if (!has_type(theirs, TransformType::integrity)) return chosen;
    const Transform* none = find(theirs, TransformType::integrity, 0);
    if (none == nullptr) return std::nullopt;
    answer.transforms.push_back(*none);
    return chosen;
  }
  for (const crypto::Integrity candidate : ours.integrity) {
    const Transform* integrity = find(theirs, TransformType::integrity, number(candidate));
    if (integrity == nullptr) continue;
    chosen.integrity = candidate;
    answer.transforms.push_back(*integrity);
    return chosen;
  }
  return std::nullopt;
}

/// nullopt: no common group. Group::none: neither side wants one.
std::optional<crypto::Group> choose_group(const crypto::Proposal& ours, const SaProposal& theirs,
                                          std::optional<std::uint16_t> offered,
                                          SaProposal& answer) {
  if (ours.groups.empty()) {
    if (!has_type(theirs, TransformType::key_exchange)) return crypto::Group::none;
    const Transform* none = find(theirs, TransformType::key_exchange, 0);
    if (none == nullptr) return std::nullopt;
    answer.transforms.push_back(*none);
    return crypto::Group::none;
  }
  std::vector<crypto::Group> order = ours.groups;
  if (offered) {
    const auto preferred = std::ranges::find(order, crypto::Group{*offered});
    if (preferred != order.end()) std::rotate(order.begin(), preferred, preferred + 1);
  }
  for (const crypto::Group candidate : order) {
    const Transform* group = find(theirs, TransformType::key_exchange, number(candidate));
    if (group == nullptr) continue;
    answer.transforms.push_back(*group);
    return candidate;
  }
  return std::nullopt;
}

std::optional<ChosenIke> match_ike(const crypto::Proposal& ours, const SaProposal& theirs,
                                   std::optional<std::uint16_t> offered) {
  if (theirs.protocol != wire::ike::Protocol::ike || !all_types_known(theirs)) return std::nullopt;
  if (has_type(theirs, TransformType::esn)) return std::nullopt;
  ChosenIke chosen;
  chosen.answer.number = theirs.number;
  chosen.answer.protocol = theirs.protocol;
  chosen.peer_spi = theirs.spi;
  const auto cipher = choose_cipher(ours, theirs, chosen.answer);
  if (!cipher) return std::nullopt;
  chosen.suite = {cipher->cipher.id, cipher->cipher.key_bits, cipher->integrity, crypto::Prf::none,
                  crypto::Group::none};
  for (const crypto::Prf candidate : ours.prf) {
    const Transform* prf = find(theirs, TransformType::prf, number(candidate));
    if (prf == nullptr) continue;
    chosen.suite.prf = candidate;
    chosen.answer.transforms.push_back(*prf);
    break;
  }
  if (chosen.suite.prf == crypto::Prf::none) return std::nullopt;
  const auto group = choose_group(ours, theirs, offered, chosen.answer);
  if (!group || *group == crypto::Group::none) return std::nullopt;
  chosen.suite.group = *group;
  return chosen;
}

std::optional<ChosenEsp> match_esp(const crypto::Proposal& ours, const SaProposal& theirs,
                                   std::optional<std::uint16_t> offered) {
  if (theirs.protocol != wire::ike::Protocol::esp || !all_types_known(theirs)) return std::nullopt;
  if (theirs.spi.size() != 4 || has_type(theirs, TransformType::prf)) return std::nullopt;
  ChosenEsp chosen;
  chosen.answer.number = theirs.number;
  chosen.answer.protocol = theirs.protocol;
  const auto spi = wire::Reader(theirs.spi).u32("SPI");
  // RFC 4303 §2.1: 0 is never on the wire, 1 to 255 are reserved.
  if (!spi || *spi < 256) return std::nullopt;
  chosen.peer_spi = *spi;
  const auto cipher = choose_cipher(ours, theirs, chosen.answer);
  if (!cipher) return std::nullopt;
  chosen.suite = {cipher->cipher.id, cipher->cipher.key_bits, cipher->integrity};
  const auto group = choose_group(ours, theirs, offered, chosen.answer);
  if (!group) return std::nullopt;
  chosen.group = *group;
  const Transform* esn = ours.esn ? find(theirs, TransformType::esn, 1) : nullptr;
  const Transform* no_esn = ours.no_esn ? find(theirs, TransformType::esn, 0) : nullptr;
  if (esn == nullptr && no_esn == nullptr) return std::nullopt;
  chosen.esn = esn != nullptr;
  chosen.answer.transforms.push_back(esn != nullptr ? *esn : *no_esn);
  return chosen;
}

std::string describe(const Transform& transform) {
  const std::string bits = transform.key_bits ? std::to_string(*transform.key_bits) : "";
  switch (transform.type) {
    case TransformType::encryption: {
      const auto* row = crypto::find(crypto::Encryption{transform.id});
      if (row == nullptr) return "encryption:" + std::to_string(transform.id) + "/" + bits;
      std::string name(row->name);
      // "aesgcm16" with 256 bits reads "aes256gcm16", as operators write it.
      return name.starts_with("aes") ? "aes" + bits + name.substr(3) : name + bits;
    }
    case TransformType::prf: {
      const auto* row = crypto::find(crypto::Prf{transform.id});
      return row ? std::string(row->name) : "prf:" + std::to_string(transform.id);
    }
    case TransformType::integrity: {
      if (transform.id == 0) return "";
      const auto* row = crypto::find(crypto::Integrity{transform.id});
      return row ? std::string(row->name) : "integrity:" + std::to_string(transform.id);
    }
    case TransformType::key_exchange: {
      if (transform.id == 0) return "";
      const auto* row = crypto::find(crypto::Group{transform.id});
      return row ? std::string(row->name) : "group:" + std::to_string(transform.id);
    }
    case TransformType::esn:
      return transform.id == 1 ? "esn" : "noesn";
  }
  return "type:" + std::to_string(static_cast<unsigned>(transform.type));
}

bool same_protocol(const crypto::Proposal& ours, const SaProposal& theirs) {
  const bool ike = theirs.protocol == wire::ike::Protocol::ike;
  const bool esp = theirs.protocol == wire::ike::Protocol::esp;
  return ours.prf.empty() ? esp : ike;
}

std::vector<std::string> differences(const crypto::Proposal& ours, const SaProposal& theirs) {
  if (!same_protocol(ours, theirs)) return {"protocol"};
  std::vector<std::string> found;
  SaProposal ignored;
  const auto common = [&](TransformType type, const auto& mine) {
    return std::ranges::any_of(
        mine, [&](const auto& id) { return find(theirs, type, number(id)) != nullptr; });
  };
  const auto cipher_in = [&](bool exactly) {
    return std::ranges::any_of(ours.encryption, [&](const auto& cipher) {
      return std::ranges::any_of(theirs.transforms, [&](const Transform& transform) {
        return transform.type == TransformType::encryption && transform.id == number(cipher.id) &&
               (!exactly || transform.key_bits == key_length_attribute(cipher));
      });
    });
  };
  if (!cipher_in(false)) {
    found.emplace_back("encryption");
  } else if (!cipher_in(true)) {
    found.emplace_back("key length");
  }
  const bool integrity = ours.integrity.empty()
                             ? !has_type(theirs, TransformType::integrity) ||
                                   find(theirs, TransformType::integrity, 0) != nullptr
                             : common(TransformType::integrity, ours.integrity);
  if (!integrity) found.emplace_back("integrity");
  if (!ours.prf.empty() && !common(TransformType::prf, ours.prf)) found.emplace_back("PRF");
  if (!choose_group(ours, theirs, std::nullopt, ignored)) {
    found.emplace_back("key exchange group");
  }
  const bool esn = !ours.prf.empty() ||
                   (ours.esn && find(theirs, TransformType::esn, 1) != nullptr) ||
                   (ours.no_esn && find(theirs, TransformType::esn, 0) != nullptr);
  if (!esn) found.emplace_back("extended sequence numbers");
  return found;
}

}  // namespace

SecurityAssociation offer_ike(const std::vector<crypto::Proposal>& proposals,
                              const std::vector<std::uint8_t>& spi) {
  SecurityAssociation offer;
  for (const crypto::Proposal& proposal : proposals) {
    SaProposal out;
    out.number = static_cast<std::uint8_t>(offer.proposals.size() + 1);
    out.protocol = wire::ike::Protocol::ike;
    out.spi = spi;
    add_cipher_transforms(proposal, out);
    for (const crypto::Prf id : proposal.prf) {
      out.transforms.push_back({TransformType::prf, number(id), std::nullopt, false});
    }
    add_groups(proposal, out);
    offer.proposals.push_back(std::move(out));
  }
  return offer;
}

SecurityAssociation offer_esp(const std::vector<crypto::Proposal>& proposals, std::uint32_t spi,
                              bool with_groups) {
  std::vector<std::uint8_t> spi_octets(4);
  wire::Writer(spi_octets).u32(spi);
  SecurityAssociation offer;
  for (const crypto::Proposal& proposal : proposals) {
    SaProposal out;
    out.number = static_cast<std::uint8_t>(offer.proposals.size() + 1);
    out.protocol = wire::ike::Protocol::esp;
    out.spi = spi_octets;
    add_cipher_transforms(proposal, out);
    if (with_groups) add_groups(proposal, out);
    if (proposal.esn) out.transforms.push_back({TransformType::esn, 1, std::nullopt, false});
    if (proposal.no_esn) out.transforms.push_back({TransformType::esn, 0, std::nullopt, false});
    offer.proposals.push_back(std::move(out));
  }
  return offer;
}

std::optional<ChosenIke> choose_ike(const std::vector<crypto::Proposal>& ours,
                                    const SecurityAssociation& theirs,
                                    std::optional<std::uint16_t> offered_group) {
  for (const crypto::Proposal& mine : ours) {
    for (const SaProposal& candidate : theirs.proposals) {
      if (auto chosen = match_ike(mine, candidate, offered_group)) return chosen;
    }
  }
  return std::nullopt;
}

std::optional<ChosenEsp> choose_esp(const std::vector<crypto::Proposal>& ours,
                                    const SecurityAssociation& theirs, bool with_groups,
                                    std::optional<std::uint16_t> offered_group) {
  for (crypto::Proposal mine : ours) {
    if (!with_groups) mine.groups.clear();
    for (const SaProposal& candidate : theirs.proposals) {
      if (auto chosen = match_esp(mine, candidate, offered_group)) return chosen;
    }
  }
  return std::nullopt;
}

bool is_an_answer(const SecurityAssociation& answer) {
  if (answer.proposals.size() != 1) return false;
  std::vector<TransformType> seen;
  for (const Transform& transform : answer.proposals.front().transforms) {
    if (std::ranges::find(seen, transform.type) != seen.end()) return false;
    seen.push_back(transform.type);
  }
  return true;
}

std::string describe(const std::vector<crypto::Proposal>& proposals) {
  std::string text;
  for (const crypto::Proposal& proposal : proposals) {
    text += (text.empty() ? "" : ", ") + proposal.to_string();
  }
  return text.empty() ? "nothing" : text;
}

std::string groups_text(const std::vector<crypto::Proposal>& proposals) {
  std::vector<std::string> names;
  for (const crypto::Proposal& proposal : proposals) {
    for (const crypto::Group group : proposal.groups) {
      const auto* row = crypto::find(group);
      std::string name(row != nullptr ? row->name : "none");
      if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
    }
  }
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

Difference difference(const std::vector<crypto::Proposal>& ours, const SecurityAssociation& theirs,
                      bool with_groups) {
  std::optional<std::vector<std::string>> nearest;
  for (crypto::Proposal mine : ours) {
    if (!with_groups) mine.groups.clear();
    for (const SaProposal& candidate : theirs.proposals) {
      auto found = differences(mine, candidate);
      if (!nearest || found.size() < nearest->size()) nearest = std::move(found);
    }
  }
  Difference result;
  for (const std::string& word : nearest.value_or(std::vector<std::string>{})) {
    result.text += (result.text.empty() ? "" : ", ") + word;
  }
  result.only_group = result.text == "key exchange group";
  return result;
}

std::string compare(const std::vector<crypto::Proposal>& ours, const SecurityAssociation& theirs,
                    bool with_groups) {
  const std::string differs = difference(ours, theirs, with_groups).text;
  return "ours: " + describe(ours) + "; the peer's: " + describe(theirs) +
         (differs.empty() ? "" : "; nothing in common: " + differs);
}

std::string describe(const SecurityAssociation& offer) {
  std::string text;
  for (const SaProposal& proposal : offer.proposals) {
    if (!text.empty()) text += ", ";
    bool first = true;
    if (static_cast<std::uint8_t>(proposal.protocol) == 2) text += "AH ";
    for (const Transform& transform : proposal.transforms) {
      const std::string word = describe(transform);
      if (word.empty()) continue;
      text += (first ? "" : "-") + word;
      first = false;
    }
  }
  return text.empty() ? "nothing" : text;
}

}  // namespace culvert::ike
