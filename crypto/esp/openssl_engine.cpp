// Every suite by OpenSSL: where IPsec-MB cannot run, and as the independent oracle in tests. An
// ExpandedKey holds the raw keys; OpenSSL expands them anew for every packet.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/esp/packet_layout.hpp"
#include "crypto/esp/transform.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::esp {
namespace {

constexpr std::size_t kSpiBytes = 4, kEsnHighAt = 4, kEsnHighBytes = 4;
/// The longest text: a tag is computed in `open` by encrypting it again, into scratch of this size.
constexpr std::size_t kMaxTextBytes = 65536;

const char* cipher_name(const EspSuite& suite) {
  const auto of_length = [&](const char* with_128, const char* with_192, const char* with_256) {
    return suite.key_bits == 128 ? with_128 : suite.key_bits == 192 ? with_192 : with_256;
  };
  switch (suite.encryption) {
    case Encryption::aes_gcm_16:
    case Encryption::null_aes_gmac:
      return of_length("AES-128-GCM", "AES-192-GCM", "AES-256-GCM");
    case Encryption::aes_ccm_8:
    case Encryption::aes_ccm_16:
      return of_length("AES-128-CCM", "AES-192-CCM", "AES-256-CCM");
    case Encryption::aes_cbc:
      return of_length("AES-128-CBC", "AES-192-CBC", "AES-256-CBC");
    case Encryption::aes_ctr:
      return of_length("AES-128-CTR", "AES-192-CTR", "AES-256-CTR");
    case Encryption::chacha20_poly1305:
      return "ChaCha20-Poly1305";
    case Encryption::null:
    case Encryption::none:
      break;
  }
  return nullptr;
}

const char* digest_name(Integrity id) {
  switch (id) {
    case Integrity::hmac_sha1_96:
      return "SHA1";
    case Integrity::hmac_sha2_256_128:
      return "SHA256";
    case Integrity::hmac_sha2_384_192:
      return "SHA384";
    case Integrity::hmac_sha2_512_256:
      return "SHA512";
    case Integrity::none:
      break;
  }
  return nullptr;
}

/// OpenSSL's objects for one suite, used again and again.
class Runner {
 public:
  explicit Runner(const Transform& transform) : suite_(transform.suite), form_(transform.form) {
    if (const char* name = cipher_name(suite_)) {
      cipher_.reset(EVP_CIPHER_fetch(nullptr, name, nullptr));
      context_.reset(EVP_CIPHER_CTX_new());
      require(cipher_ != nullptr && context_ != nullptr);
    }
    if (const char* name = digest_name(suite_.integrity)) {
      const openssl::Mac hmac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
      hmac_.reset(EVP_MAC_CTX_new(hmac.get()));
      std::string digest(name);
      const OSSL_PARAM parameters[] = {
          OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest.data(), digest.size()),
          OSSL_PARAM_construct_end()};
      require(hmac_ != nullptr && EVP_MAC_CTX_set_params(hmac_.get(), parameters) == 1);
    }
  }

  void seal(const Operation& operation) const {
    if (suite_.encryption == Encryption::null_aes_gmac) return authenticate_only(operation);
    if (suite_.integrity == Integrity::none) {
      begin_aead(operation);
      add_aad(operation.aad, operation.aad_bytes);
      update(operation.text, operation.text, operation.text_bytes);
      finish_aead(operation.icv);
      return;
    }
    encrypt(operation);
    authenticate(operation);
  }

  /// OpenSSL compares a tag when it decrypts and never shows the one it computed. Our AEADs encrypt
  /// and decrypt by the same key stream, so two encryptions do it: the first turns ciphertext into
  /// plaintext, the second turns that back into ciphertext, whose tag is the one wanted.
  void open(const Operation& operation, std::span<std::uint8_t> scratch) const {
    if (suite_.encryption == Encryption::null_aes_gmac) return authenticate_only(operation);
    if (suite_.integrity == Integrity::none) {
      require(operation.text_bytes <= scratch.size());
      begin_aead(operation);
      add_aad(operation.aad, operation.aad_bytes);
      update(operation.text, operation.text, operation.text_bytes);
      begin_aead(operation);
      add_aad(operation.aad, operation.aad_bytes);
      update(scratch.data(), operation.text, operation.text_bytes);
      finish_aead(operation.icv);
      return;
    }
    authenticate(operation);
    decrypt(operation);
  }

 private:
  [[nodiscard]] bool is_ccm() const {
    return suite_.encryption == Encryption::aes_ccm_8 ||
           suite_.encryption == Encryption::aes_ccm_16;
  }
  [[nodiscard]] const std::uint8_t* esp_header_of(const Operation& operation) const {
    return operation.text - form_.iv_bytes - kEspHeaderBytes;
  }

  void update(std::uint8_t* out, const std::uint8_t* in, std::size_t bytes) const {
    if (bytes == 0) return;
    int written = 0;
    require(EVP_CipherUpdate(context_.get(), out, &written, in, static_cast<int>(bytes)) == 1);
    require(written == static_cast<int>(bytes));
  }
  void add_aad(const std::uint8_t* aad, std::size_t bytes) const {
    int written = 0;
    require(EVP_EncryptUpdate(context_.get(), nullptr, &written, aad, static_cast<int>(bytes)) ==
            1);
  }

  void begin_aead(const Operation& operation) const {
    EVP_CIPHER_CTX* const context = context_.get();
    int written = 0;
    if (is_ccm()) {
      // RFC 3610 §2.2: nonce, tag and text length are in the first block.
      require(EVP_EncryptInit_ex2(context, cipher_.get(), nullptr, nullptr, nullptr) == 1);
      require(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, int{kCcmNonceBytes}, nullptr) ==
              1);
      require(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, form_.icv_bytes, nullptr) == 1);
    }
    require(EVP_EncryptInit_ex2(context, is_ccm() ? nullptr : cipher_.get(), operation.key->bytes,
                                operation.nonce, nullptr) == 1);
    if (is_ccm()) {
      require(EVP_EncryptUpdate(context, nullptr, &written, nullptr,
                                static_cast<int>(operation.text_bytes)) == 1);
    }
  }

  void finish_aead(std::uint8_t* tag) const {
    int written = 0;
    std::array<std::uint8_t, 16> unused;  // nothing is left to write; CCM wants a place for it
    require(EVP_EncryptFinal_ex(context_.get(), unused.data(), &written) == 1 && written == 0);
    require(EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, form_.icv_bytes, tag) == 1);
  }

  /// RFC 4543 §3.3: SPI, sequence number (all of an extended one), IV and payload are
  /// authenticated, none encrypted.
  void authenticate_only(const Operation& operation) const {
    const std::uint8_t* const esp = esp_header_of(operation);
    const std::uint8_t* const end = operation.text + operation.text_bytes;
    begin_aead(operation);
    add_aad(esp, kSpiBytes);
    if (operation.aad_bytes == kEsnAadBytes) add_aad(operation.aad + kEsnHighAt, kEsnHighBytes);
    add_aad(esp + kSpiBytes, static_cast<std::size_t>(end - esp) - kSpiBytes);
    finish_aead(operation.icv);
  }

  void begin_plain(const Operation& operation, const std::uint8_t* iv, bool encrypts) const {
    require(EVP_CipherInit_ex2(context_.get(), cipher_.get(), operation.key->bytes, iv,
                               encrypts ? 1 : 0, nullptr) == 1);
    require(EVP_CIPHER_CTX_set_padding(context_.get(), 0) == 1);
  }
  /// RFC 3686 §4: nonce, IV and a block counter that begins with one.
  void run_counter_mode(const Operation& operation) const {
    std::array<std::uint8_t, 16> block{};
    std::memcpy(block.data(), operation.nonce, 12);
    block[15] = 1;
    begin_plain(operation, block.data(), true);
    update(operation.text, operation.text, operation.text_bytes);
  }
  /// AES-CBC makes its IV of the block that stands in its place; see esp_crypto.hpp.
  void encrypt(const Operation& operation) const {
    if (suite_.encryption == Encryption::aes_ctr) return run_counter_mode(operation);
    if (suite_.encryption != Encryption::aes_cbc) return;
    constexpr std::array<std::uint8_t, kCbcIvBytes> kZeroIv{};
    begin_plain(operation, kZeroIv.data(), true);
    std::uint8_t* const iv = operation.text - kCbcIvBytes;
    update(iv, iv, kCbcIvBytes + operation.text_bytes);
  }
  void decrypt(const Operation& operation) const {
    if (suite_.encryption == Encryption::aes_ctr) return run_counter_mode(operation);
    if (suite_.encryption != Encryption::aes_cbc) return;
    begin_plain(operation, operation.text - kCbcIvBytes, false);
    update(operation.text, operation.text, operation.text_bytes);
  }

  /// RFC 4303 §2.2.1: the high half of an extended sequence number follows the packet.
  void authenticate(const Operation& operation) const {
    const std::uint8_t* const esp = esp_header_of(operation);
    const std::uint8_t* const key = operation.key->bytes + suite_.encryption_key_bytes();
    std::array<std::uint8_t, EVP_MAX_MD_SIZE> whole;
    std::size_t bytes = 0;
    const auto covered = static_cast<std::size_t>(operation.text + operation.text_bytes - esp);
    require(EVP_MAC_init(hmac_.get(), key, suite_.integrity_key_bytes(), nullptr) == 1);
    require(EVP_MAC_update(hmac_.get(), esp, covered) == 1);
    if (operation.aad_bytes == kEsnAadBytes) {
      require(EVP_MAC_update(hmac_.get(), operation.aad + kEsnHighAt, kEsnHighBytes) == 1);
    }
    require(EVP_MAC_final(hmac_.get(), whole.data(), &bytes, whole.size()) == 1);
    std::memcpy(operation.icv, whole.data(), form_.icv_bytes);
  }

  EspSuite suite_;
  Form form_;
  openssl::Cipher cipher_;
  openssl::CipherContext context_;
  openssl::MacContext hmac_;
};

class OpensslEngine final : public Engine {
 public:
  OpensslEngine()
      : name_(std::string("openssl ") + OpenSSL_version(OPENSSL_VERSION_STRING)),
        scratch_(kMaxTextBytes) {
    runners_.reserve(kTransforms.size());
    for (const Transform& transform : kTransforms) runners_.emplace_back(transform);
  }

  ~OpensslEngine() override { wipe(scratch_.data(), scratch_.size()); }

  [[nodiscard]] std::string_view name() const override { return name_; }

  [[nodiscard]] bool supports(const EspSuite& suite) const override {
    return find_transform(suite).has_value();
  }

  [[nodiscard]] std::expected<void, KeyError> expand(const EspSuite& suite, Bytes key,
                                                     ExpandedKey& out) const override {
    if (!supports(suite)) return std::unexpected(KeyError::unsupported_suite);
    if (key.size() != suite.encryption_key_bytes() + suite.integrity_key_bytes()) {
      return std::unexpected(KeyError::wrong_key_size);
    }
    std::memcpy(out.bytes, key.data(), key.size());
    return {};
  }

  void seal(const EspSuite& suite, std::span<const Operation> burst) override {
    const Runner& runner = runner_of(suite);
    for (const Operation& operation : burst) runner.seal(operation);
  }
  void open(const EspSuite& suite, std::span<const Operation> burst) override {
    const Runner& runner = runner_of(suite);
    for (const Operation& operation : burst) runner.open(operation, scratch_);
  }

 private:
  [[nodiscard]] const Runner& runner_of(const EspSuite& suite) const {
    const auto id = find_transform(suite);
    require(id.has_value());
    return runners_[static_cast<std::size_t>(*id)];
  }

  std::string name_;
  std::vector<Runner> runners_;
  std::vector<std::uint8_t> scratch_;
};

}  // namespace

std::unique_ptr<Engine> make_openssl_engine() { return std::make_unique<OpensslEngine>(); }

}  // namespace culvert::crypto::esp
