// AES-GCM by OpenSSL: where IPsec-MB cannot run, and as the independent oracle in tests. An
// ExpandedKey holds the raw key; OpenSSL expands it anew for every packet.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "crypto/esp/esp_crypto.hpp"
#include "crypto/openssl_handles.hpp"

namespace culvert::crypto::esp {
namespace {

constexpr int kGcmTagBytes = 16;
/// Text is re-encrypted through this many bytes of scratch when a tag is computed in `open`.
constexpr std::size_t kScratchBytes = 2048;

/// A failure in here is a failure of OpenSSL, not of a packet. See the contract of Engine.
void require(bool done) {
  if (!done) std::abort();
}

/// OpenSSL's cipher of one key length with a context that is used again and again.
struct CachedCipher {
  openssl::Cipher cipher;
  openssl::CipherContext context;

  [[nodiscard]] bool usable() const { return cipher != nullptr && context != nullptr; }

  void begin(const Operation& operation) const {
    require(EVP_EncryptInit_ex2(context.get(), cipher.get(), operation.key->bytes, operation.nonce,
                                nullptr) == 1);
    int written = 0;
    require(EVP_EncryptUpdate(context.get(), nullptr, &written, operation.aad,
                              operation.aad_bytes) == 1);
  }

  void update(std::uint8_t* out, const std::uint8_t* in, std::size_t bytes) const {
    int written = 0;
    require(EVP_EncryptUpdate(context.get(), out, &written, in, static_cast<int>(bytes)) == 1);
    require(written == static_cast<int>(bytes));
  }

  void finish(std::uint8_t* tag) const {
    int written = 0;
    require(EVP_EncryptFinal_ex(context.get(), tag, &written) == 1);
    require(EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kGcmTagBytes, tag) == 1);
  }
};

CachedCipher make_cached(const char* name) {
  return {openssl::Cipher(EVP_CIPHER_fetch(nullptr, name, nullptr)),
          openssl::CipherContext(EVP_CIPHER_CTX_new())};
}

class OpensslEngine final : public Engine {
 public:
  OpensslEngine()
      : name_(std::string("openssl ") + OpenSSL_version(OPENSSL_VERSION_STRING)),
        ciphers_{make_cached("AES-128-GCM"), make_cached("AES-192-GCM"),
                 make_cached("AES-256-GCM")} {
    for (const CachedCipher& cached : ciphers_) require(cached.usable());
  }

  ~OpensslEngine() override { wipe(scratch_.data(), scratch_.size()); }

  [[nodiscard]] std::string_view name() const override { return name_; }

  [[nodiscard]] bool supports(const EspSuite& suite) const override {
    return cipher_of(suite) != nullptr;
  }

  [[nodiscard]] std::expected<void, KeyError> expand(const EspSuite& suite, Bytes key,
                                                     ExpandedKey& out) const override {
    if (!supports(suite)) return std::unexpected(KeyError::unsupported_suite);
    if (key.size() != suite.encryption_key_bytes()) {
      return std::unexpected(KeyError::wrong_key_size);
    }
    std::memcpy(out.bytes, key.data(), key.size());
    return {};
  }

  void seal(const EspSuite& suite, std::span<const Operation> burst) override {
    const CachedCipher* cached = cipher_of(suite);
    require(cached != nullptr);
    for (const Operation& operation : burst) {
      cached->begin(operation);
      if (operation.text_bytes != 0) {
        cached->update(operation.text, operation.text, operation.text_bytes);
      }
      cached->finish(operation.icv);
    }
  }

  /// OpenSSL compares a tag when it decrypts and never shows the one it computed. GCM encrypts and
  /// decrypts by the same key stream, so two encryptions do it: the first turns ciphertext into
  /// plaintext, the second turns that back into ciphertext, whose tag is the one wanted.
  void open(const EspSuite& suite, std::span<const Operation> burst) override {
    const CachedCipher* cached = cipher_of(suite);
    require(cached != nullptr);
    for (const Operation& operation : burst) {
      cached->begin(operation);
      if (operation.text_bytes != 0) {
        cached->update(operation.text, operation.text, operation.text_bytes);
      }
      cached->begin(operation);
      for (std::size_t at = 0; at < operation.text_bytes; at += kScratchBytes) {
        const std::size_t part = std::min(kScratchBytes, operation.text_bytes - at);
        cached->update(scratch_.data(), operation.text + at, part);
      }
      cached->finish(operation.icv);
    }
  }

 private:
  [[nodiscard]] const CachedCipher* cipher_of(const EspSuite& suite) const {
    if (suite.encryption != Encryption::aes_gcm_16 || suite.integrity != Integrity::none) {
      return nullptr;
    }
    switch (suite.key_bits) {
      case 128:
        return &ciphers_[0];
      case 192:
        return &ciphers_[1];
      case 256:
        return &ciphers_[2];
      default:  // a number, not an enum
        return nullptr;
    }
  }

  std::string name_;
  std::array<CachedCipher, 3> ciphers_;
  std::array<std::uint8_t, kScratchBytes> scratch_{};
};

}  // namespace

std::unique_ptr<Engine> make_openssl_engine() { return std::make_unique<OpensslEngine>(); }

}  // namespace culvert::crypto::esp
