// Proposals as operators write them: words with dashes between, alternatives of one transform type
// side by side. Read word by word into a Proposal, then checked as a whole.
#include <algorithm>
#include <array>
#include <utility>

#include "crypto/suite.hpp"

namespace culvert::crypto {
namespace {

enum class Protocol : std::uint8_t { ike, esp };

/// A name that operators may know from older gateways and that we refuse, with the reason.
struct RefusedName {
  std::string_view word;
  std::string_view problem;
  std::string_view expected;
};

constexpr std::string_view kUseGcm = "aes128gcm16, aes192gcm16 or aes256gcm16";
constexpr std::string_view kUseSha2 = "sha256, sha384 or sha512";
constexpr std::string_view kUsePrf = "prfsha256, prfsha384 or prfsha512";
constexpr std::string_view kUseGroup =
    "modp2048, modp3072, modp4096, modp6144, modp8192, ecp256, ecp384, ecp521, x25519 or x448";

constexpr std::array kRefusedNames{
    RefusedName{"des", "weak: RFC 8221 §5 and RFC 8247 §2.1 forbid DES", kUseGcm},
    RefusedName{"3des", "weak: RFC 8221 §5 advises against 3DES (64-bit blocks)", kUseGcm},
    RefusedName{"blowfish", "weak: RFC 8221 §5 forbids Blowfish (64-bit blocks)", kUseGcm},
    RefusedName{"blowfish128", "weak: RFC 8221 §5 forbids Blowfish (64-bit blocks)", kUseGcm},
    RefusedName{"blowfish256", "weak: RFC 8221 §5 forbids Blowfish (64-bit blocks)", kUseGcm},
    RefusedName{"cast128", "weak: RFC 9395 deprecates CAST (64-bit blocks)", kUseGcm},
    RefusedName{"null", "hides nothing: RFC 8221 §5 has NULL for ESP, an IKE SA is encrypted",
                kUseGcm},
    RefusedName{"aes128gcm8", "weak: of AES-GCM, RFC 8221 §5 asks for the 16-byte ICV",
                "aes128gcm16"},
    RefusedName{"aes192gcm8", "weak: of AES-GCM, RFC 8221 §5 asks for the 16-byte ICV",
                "aes192gcm16"},
    RefusedName{"aes256gcm8", "weak: of AES-GCM, RFC 8221 §5 asks for the 16-byte ICV",
                "aes256gcm16"},
    RefusedName{"aes128gcm12", "weak: of AES-GCM, RFC 8221 §5 asks for the 16-byte ICV",
                "aes128gcm16"},
    RefusedName{"aes192gcm12", "weak: of AES-GCM, RFC 8221 §5 asks for the 16-byte ICV",
                "aes192gcm16"},
    RefusedName{"aes256gcm12", "weak: of AES-GCM, RFC 8221 §5 asks for the 16-byte ICV",
                "aes256gcm16"},
    RefusedName{"md5", "weak: RFC 8221 §6 and RFC 8247 §2.3 forbid HMAC-MD5", kUseSha2},
    RefusedName{"sha1", "weak: RFC 8247 §2.3 phases SHA-1 out; ESP alone still takes it", kUseSha2},
    RefusedName{"prfmd5", "weak: RFC 8247 §2.2 forbids HMAC-MD5", kUsePrf},
    RefusedName{"prfsha1", "weak: RFC 8247 §2.2 phases SHA-1 out", kUsePrf},
    RefusedName{"modp768", "weak: RFC 8247 §2.4 forbids group 1", kUseGroup},
    RefusedName{"modp1024", "weak: RFC 8247 §2.4 advises against group 2", kUseGroup},
    RefusedName{"modp1536", "weak: RFC 8247 §2.4 advises against group 5", kUseGroup},
    RefusedName{"modp1024s160", "weak: RFC 8247 §2.4 forbids group 22", kUseGroup},
    RefusedName{"modp2048s224", "weak: RFC 8247 §2.4 advises against group 23", kUseGroup},
    RefusedName{"modp2048s256", "weak: RFC 8247 §2.4 advises against group 24", kUseGroup},
};

struct Alias {
  std::string_view word;
  std::string_view name;
};
constexpr std::array kAliases{
    Alias{"aes128gcm128", "aes128gcm16"},
    Alias{"aes192gcm128", "aes192gcm16"},
    Alias{"aes256gcm128", "aes256gcm16"},
    Alias{"aes", "aes128"},
    Alias{"sha2_256", "sha256"},
    Alias{"sha2_384", "sha384"},
    Alias{"sha2_512", "sha512"},
    Alias{"curve25519", "x25519"},
    Alias{"aes128ccm128", "aes128ccm16"},
    Alias{"aes256ccm128", "aes256ccm16"},
    Alias{"aes128ccm64", "aes128ccm8"},
    Alias{"aes256ccm64", "aes256ccm8"},
    Alias{"sha", "sha1"},
    Alias{"curve448", "x448"},
};

struct Word {
  std::string_view text;
  std::size_t offset;
};

ProposalError refuse(const Word& word, std::string_view problem, std::string_view expected) {
  return {std::string(word.text), word.offset, std::string(problem), std::string(expected)};
}

std::string_view name_of(std::string_view word) {
  const auto alias = std::ranges::find(kAliases, word, &Alias::word);
  return alias == kAliases.end() ? word : alias->name;
}

const EncryptionInfo* find_cipher(std::string_view name, std::uint16_t& key_bits) {
  for (const EncryptionInfo& row : encryptions()) {
    for (const std::uint16_t bits : row.key_bits) {
      if (name == EspSuite{row.id, bits, Integrity::none}.name()) {
        key_bits = bits;
        return &row;
      }
    }
  }
  return nullptr;
}

template <typename Row>
const Row* find_name(std::span<const Row> rows, std::string_view name) {
  const auto found = std::ranges::find(rows, name, &Row::name);
  return found == rows.end() ? nullptr : &*found;
}

/// What has been read so far, with the word that first named each transform type, so that a
/// contradiction can point at it.
class Reading {
 public:
  explicit Reading(Protocol protocol) : protocol_(protocol) {}

  std::expected<void, ProposalError> take(const Word& word);
  std::expected<Proposal, ProposalError> finish(std::string_view text);

 private:
  std::expected<void, ProposalError> take_cipher(const Word& word, const EncryptionInfo& row,
                                                 std::uint16_t key_bits);
  std::expected<void, ProposalError> take_sequence_word(const Word& word);
  std::expected<void, ProposalError> check_ike(const Word& whole);

  template <typename Value>
  static std::expected<void, ProposalError> add(std::vector<Value>& values, Value value,
                                                const Word& word) {
    if (std::ranges::find(values, value) != values.end()) {
      return std::unexpected(refuse(word, "named twice", "each algorithm once"));
    }
    values.push_back(value);
    return {};
  }

  Protocol protocol_;
  Proposal proposal_;
  bool aead_ = false;
  bool says_esn_ = false;
  bool says_noesn_ = false;
  Word first_integrity_{};
};

std::expected<void, ProposalError> Reading::take_cipher(const Word& word, const EncryptionInfo& row,
                                                        std::uint16_t key_bits) {
  if (!proposal_.encryption.empty() && aead_ != row.aead) {
    return std::unexpected(
        refuse(word, "mixes AEAD with other ciphers (RFC 7296 §3.3 wants a proposal for each)",
               "two proposals, one with AEADs and one with AES-CBC and an integrity algorithm"));
  }
  aead_ = row.aead;
  return add(proposal_.encryption, Proposal::Cipher{row.id, key_bits}, word);
}

std::expected<void, ProposalError> Reading::take_sequence_word(const Word& word) {
  if (protocol_ == Protocol::ike) {
    return std::unexpected(refuse(word, "extended sequence numbers belong to ESP",
                                  "nothing here; write it in esp_proposals"));
  }
  bool& said = word.text == "esn" ? says_esn_ : says_noesn_;
  if (said) return std::unexpected(refuse(word, "named twice", "each word once"));
  said = true;
  return {};
}

std::expected<void, ProposalError> Reading::take(const Word& word) {
  if (word.text.empty()) {
    return std::unexpected(refuse(word, "empty word", "algorithms with one '-' between them"));
  }
  const std::string_view name = name_of(word.text);
  std::uint16_t key_bits = 0;
  const EncryptionInfo* const cipher = find_cipher(name, key_bits);
  const bool is_esp = protocol_ == Protocol::esp;
  if (cipher != nullptr && (is_esp ? cipher->esp : cipher->ike)) {
    return take_cipher(word, *cipher, key_bits);
  }
  const IntegrityInfo* const integrity = find_name(integrities(), name);
  if (integrity != nullptr && (is_esp ? integrity->esp : integrity->ike)) {
    if (proposal_.integrity.empty()) first_integrity_ = word;
    return add(proposal_.integrity, integrity->id, word);
  }
  if (const PrfInfo* row = find_name(prfs(), name)) {
    if (is_esp) {
      return std::unexpected(
          refuse(word, "a PRF belongs to the IKE SA", "nothing here; write it in proposals"));
    }
    return add(proposal_.prf, row->id, word);
  }
  if (const GroupInfo* row = find_name(groups(), name)) {
    return add(proposal_.groups, row->id, word);
  }
  if (name == "esn" || name == "noesn") return take_sequence_word(word);
  const auto refused = std::ranges::find(kRefusedNames, name, &RefusedName::word);
  if (refused != kRefusedNames.end()) {
    return std::unexpected(refuse(word, refused->problem, refused->expected));
  }
  return std::unexpected(refuse(
      word, cipher != nullptr ? "not available for the IKE SA" : "unknown algorithm",
      is_esp ? "for example aes256gcm16, aes128gcm16-x25519, chacha20poly1305 or aes128-sha256"
             : "for example aes256gcm16-prfsha384-ecp384 or aes128-sha256-modp2048"));
}

/// What RFC 7296 §3.3.3 requires of an IKE proposal beyond its words: a PRF and a group, and
/// integrity exactly where the cipher has none of its own.
std::expected<void, ProposalError> Reading::check_ike(const Word& whole) {
  if (!aead_ && proposal_.integrity.empty()) {
    return std::unexpected(refuse(whole, "names no integrity algorithm for AES-CBC", kUseSha2));
  }
  if (proposal_.prf.empty()) {
    for (const Integrity id : proposal_.integrity) proposal_.prf.push_back(implied_prf(id));
  }
  if (proposal_.prf.empty()) {
    return std::unexpected(refuse(whole, "names no PRF, and AEAD implies none", kUsePrf));
  }
  if (proposal_.groups.empty()) {
    return std::unexpected(refuse(whole, "names no key exchange group", kUseGroup));
  }
  return {};
}

std::expected<Proposal, ProposalError> Reading::finish(std::string_view text) {
  const Word whole{text, 0};
  if (proposal_.encryption.empty()) {
    return std::unexpected(refuse(whole, "names no cipher", kUseGcm));
  }
  if (aead_ && !proposal_.integrity.empty()) {
    return std::unexpected(refuse(
        first_integrity_, "mixes AEAD with an integrity algorithm (RFC 5282 §8, RFC 4106 §8.1)",
        protocol_ == Protocol::ike ? "a PRF, as in prfsha256; AES-GCM carries its own integrity"
                                   : "nothing here; an AEAD carries its own integrity"));
  }
  if (protocol_ == Protocol::esp && !aead_ && proposal_.integrity.empty()) {
    return std::unexpected(refuse(
        whole, "names no integrity algorithm, and RFC 8221 §4 forbids encryption without one",
        kUseSha2));
  }
  if (protocol_ == Protocol::ike) {
    if (auto checked = check_ike(whole); !checked) return std::unexpected(checked.error());
  }
  if (says_esn_ != says_noesn_) {
    proposal_.esn = says_esn_;
    proposal_.no_esn = says_noesn_;
  }
  return std::move(proposal_);
}

std::expected<Proposal, ProposalError> parse(Protocol protocol, std::string_view text) {
  Reading reading(protocol);
  for (std::size_t offset = 0; offset <= text.size();) {
    const std::size_t dash = std::min(text.find('-', offset), text.size());
    const Word word{text.substr(offset, dash - offset), offset};
    if (auto taken = reading.take(word); !taken) return std::unexpected(taken.error());
    offset = dash + 1;
  }
  return reading.finish(text);
}

}  // namespace

std::expected<Proposal, ProposalError> parse_ike_proposal(std::string_view text) {
  return parse(Protocol::ike, text);
}

std::expected<Proposal, ProposalError> parse_esp_proposal(std::string_view text) {
  return parse(Protocol::esp, text);
}

}  // namespace culvert::crypto
