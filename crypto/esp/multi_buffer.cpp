#include "crypto/esp/multi_buffer.hpp"

#include <algorithm>
#include <cstring>

#include "crypto/esp/packet_layout.hpp"

namespace culvert::crypto::esp {
namespace {

constexpr std::size_t kScheduleBytes = 15 * 16;  // AES-256: 14 rounds and the key itself
constexpr std::size_t kHighBytes = 4;            // of an extended sequence number
constexpr std::size_t kChachaKeyBytes = 32;

/// What an ExpandedKey holds for a cipher with HMAC.
struct alignas(16) CipherHmacKey {
  std::uint8_t encrypt[kScheduleBytes];
  std::uint8_t decrypt[kScheduleBytes];
  std::uint8_t inner[64];  ///< the hash's state after the key's block xor 0x36 (RFC 2104)
  std::uint8_t outer[64];  ///< … xor 0x5c
};
static_assert(sizeof(CipherHmacKey) <= kExpandedKeyBytes);

template <typename Key>
const Key& key_as(const Operation& operation) {
  return *reinterpret_cast<const Key*>(operation.key->bytes);
}

void expand_aes(IMB_MGR& manager, std::size_t key_bytes, const std::uint8_t* key,
                std::uint8_t* encrypt, std::uint8_t* decrypt) {
  switch (key_bytes) {
    case IMB_KEY_128_BYTES:
      return IMB_AES_KEYEXP_128(&manager, key, encrypt, decrypt);
    case IMB_KEY_192_BYTES:
      return IMB_AES_KEYEXP_192(&manager, key, encrypt, decrypt);
    case IMB_KEY_256_BYTES:
      return IMB_AES_KEYEXP_256(&manager, key, encrypt, decrypt);
    default:  // a number, not an enum
      std::abort();
  }
}

struct HmacHash {
  IMB_HASH_ALG algorithm;
  std::size_t block_bytes;
};
HmacHash hash_of(Integrity id) {
  switch (id) {
    case Integrity::hmac_sha1_96:
      return {IMB_AUTH_HMAC_SHA_1, 64};
    case Integrity::hmac_sha2_256_128:
      return {IMB_AUTH_HMAC_SHA_256, 64};
    case Integrity::hmac_sha2_384_192:
      return {IMB_AUTH_HMAC_SHA_384, 128};
    case Integrity::hmac_sha2_512_256:
      return {IMB_AUTH_HMAC_SHA_512, 128};
    case Integrity::none:
      break;
  }
  std::abort();
}

void hash_one_block(IMB_MGR& manager, Integrity id, const std::uint8_t* block,
                    std::uint8_t* state) {
  switch (id) {
    case Integrity::hmac_sha1_96:
      return IMB_SHA1_ONE_BLOCK(&manager, block, state);
    case Integrity::hmac_sha2_256_128:
      return IMB_SHA256_ONE_BLOCK(&manager, block, state);
    case Integrity::hmac_sha2_384_192:
      return IMB_SHA384_ONE_BLOCK(&manager, block, state);
    case Integrity::hmac_sha2_512_256:
      return IMB_SHA512_ONE_BLOCK(&manager, block, state);
    case Integrity::none:
      break;
  }
  std::abort();
}

/// The key is never longer than a block, so that it is padded, not hashed (RFC 2104 §2).
void expand_hmac(IMB_MGR& manager, Integrity id, Bytes key, CipherHmacKey& out) {
  std::array<std::uint8_t, 128> block{};
  const auto absorb = [&](std::uint8_t pad, std::uint8_t* state) {
    block.fill(pad);
    for (std::size_t i = 0; i < key.size(); ++i) block[i] ^= key[i];
    hash_one_block(manager, id, block.data(), state);
  };
  require(key.size() <= hash_of(id).block_bytes);
  absorb(0x36, out.inner);
  absorb(0x5c, out.outer);
  wipe(block.data(), block.size());
}

std::uint8_t* esp_header_of(const Operation& operation, const Form& form) {
  return operation.text - form.iv_bytes - kEspHeaderBytes;
}

bool has_esn(const Operation& operation) { return operation.aad_bytes == kEsnAadBytes; }
const std::uint8_t* high_half_of(const Operation& operation) { return operation.aad + kHighBytes; }

/// Four bytes of a packet that hold something else while a call lasts.
class Borrowed {
 public:
  Borrowed() = default;
  Borrowed(std::uint8_t* at, const std::uint8_t* value) : at_(at) {
    std::memcpy(kept_, at, kHighBytes);
    std::memcpy(at, value, kHighBytes);
  }
  void give_back() const {
    if (at_ != nullptr) std::memcpy(at_, kept_, kHighBytes);
  }

 private:
  std::uint8_t* at_ = nullptr;
  std::uint8_t kept_[kHighBytes] = {};
};

const Form& form_of_suite(const EspSuite& suite) { return transform(*find_transform(suite)).form; }

aes_gcm_enc_dec_t gmac_function(const IMB_MGR& manager, const EspSuite& suite) {
  switch (suite.key_bits) {
    case 128:
      return manager.gcm128_enc;
    case 192:
      return manager.gcm192_enc;
    default:  // a number, not an enum; the table has no other
      return manager.gcm256_enc;
  }
}

/// One packet by AES-GCM without text (RFC 4543 §3.3): what is authenticated is the packet from
/// the SPI to the trailer, IV included, in memory already; with ESN the SPI moves up by four
/// bytes, for the time of the call, to make room for the sequence number's high half.
void gmac_packet(aes_gcm_enc_dec_t process, const Operation& operation, const Form& form) {
  gcm_context_data context;
  const auto& key = key_as<gcm_key_data>(operation);
  std::uint8_t* const esp = esp_header_of(operation, form);
  std::size_t bytes = static_cast<std::size_t>(operation.text - esp) + operation.text_bytes;
  if (!has_esn(operation)) {
    process(&key, &context, operation.icv, operation.icv, 0, operation.nonce, esp, bytes,
            operation.icv, form.icv_bytes);
    return;
  }
  const Borrowed front(esp - kHighBytes, esp);
  const Borrowed spi(esp, high_half_of(operation));
  bytes += kHighBytes;
  process(&key, &context, operation.icv, operation.icv, 0, operation.nonce, esp - kHighBytes, bytes,
          operation.icv, form.icv_bytes);
  spi.give_back();
  front.give_back();
}

void fill_aead_job(const EspSuite& suite, const Operation& operation, const Form& form,
                   IMB_CIPHER_DIRECTION direction, IMB_JOB& job) {
  const bool is_ccm = suite.encryption != Encryption::chacha20_poly1305;
  const bool encrypts = direction == IMB_DIR_ENCRYPT;
  job.enc_keys = operation.key->bytes;
  job.dec_keys = operation.key->bytes;
  job.key_len_in_bytes = is_ccm ? suite.encryption_key_bytes() : kChachaKeyBytes;
  job.src = operation.text;
  job.dst = operation.text;
  job.cipher_start_src_offset_in_bytes = 0;
  job.msg_len_to_cipher_in_bytes = operation.text_bytes;
  job.hash_start_src_offset_in_bytes = 0;
  job.msg_len_to_hash_in_bytes = operation.text_bytes;
  job.iv = operation.nonce;
  job.iv_len_in_bytes = is_ccm ? kCcmNonceBytes : IMB_GCM_IV_DATA_LEN;
  job.auth_tag_output = operation.icv;
  job.auth_tag_output_len_in_bytes = form.icv_bytes;
  job.cipher_direction = direction;
  if (is_ccm) {
    job.u.CCM.aad = operation.aad;
    job.u.CCM.aad_len_in_bytes = operation.aad_bytes;
    job.cipher_mode = IMB_CIPHER_CCM;
    job.hash_alg = IMB_AUTH_AES_CCM;
    // CCM authenticates the plaintext (RFC 3610 §2.2), ChaCha20-Poly1305 the ciphertext.
    job.chain_order = encrypts ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
  } else {
    job.u.CHACHA20_POLY1305.aad = operation.aad;
    job.u.CHACHA20_POLY1305.aad_len_in_bytes = operation.aad_bytes;
    job.cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
    job.hash_alg = IMB_AUTH_CHACHA20_POLY1305;
    job.chain_order = encrypts ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
  }
}

}  // namespace

bool MultiBuffer::supports(const EspSuite& suite) {
  return suite.encryption != Encryption::aes_gcm_16 && find_transform(suite).has_value();
}

void MultiBuffer::expand(IMB_MGR& manager, const EspSuite& suite, Bytes key, ExpandedKey& out) {
  const std::size_t cipher_bytes = suite.encryption_key_bytes();
  auto& made = *reinterpret_cast<CipherHmacKey*>(out.bytes);
  switch (suite.encryption) {
    case Encryption::chacha20_poly1305:
      std::memcpy(out.bytes, key.data(), kChachaKeyBytes);
      return;
    case Encryption::aes_ccm_8:
    case Encryption::aes_ccm_16:
      return expand_aes(manager, cipher_bytes, key.data(), made.encrypt, made.decrypt);
    case Encryption::null_aes_gmac: {
      auto* const schedule = reinterpret_cast<gcm_key_data*>(out.bytes);
      if (cipher_bytes == IMB_KEY_128_BYTES)
        return IMB_AES128_GCM_PRE(&manager, key.data(), schedule);
      if (cipher_bytes == IMB_KEY_192_BYTES)
        return IMB_AES192_GCM_PRE(&manager, key.data(), schedule);
      return IMB_AES256_GCM_PRE(&manager, key.data(), schedule);
    }
    case Encryption::aes_cbc:
    case Encryption::aes_ctr:
      expand_aes(manager, cipher_bytes, key.data(), made.encrypt, made.decrypt);
      [[fallthrough]];
    case Encryption::null:
      return expand_hmac(manager, suite.integrity, key.subspan(cipher_bytes), made);
    case Encryption::aes_gcm_16:
    case Encryption::none:
      break;
  }
  std::abort();
}

void MultiBuffer::submit_ciphers(const EspSuite& suite, std::size_t count, IMB_CIPHER_MODE mode,
                                 IMB_CIPHER_DIRECTION direction) {
  const auto key_size = static_cast<IMB_KEY_SIZE_BYTES>(suite.encryption_key_bytes());
  require(IMB_SUBMIT_CIPHER_BURST_NOCHECK(&manager_, jobs_.data(),
                                          static_cast<std::uint32_t>(count), mode, direction,
                                          key_size) == count);
}

/// RFC 3602 §3: "The IV MUST be chosen at random, and MUST be unpredictable". The caller left a
/// block that no other packet under this key has, a counter, where the IV belongs; encrypted under
/// the same key it is an unpredictable IV (NIST SP 800-38A, appendix C, the first method). As the
/// first block of a CBC chain that begins with a zero IV it costs one block, and no call of its
/// own. AES-CTR asks for uniqueness only (RFC 3686 §2.1), and the nonce holds salt and counter.
void MultiBuffer::encrypt(const EspSuite& suite, Chunk chunk) {
  static constexpr std::array<std::uint8_t, kCbcIvBytes> kZeroIv{};
  if (suite.encryption == Encryption::null) return;
  const bool is_cbc = suite.encryption == Encryption::aes_cbc;
  const std::size_t in_front = is_cbc ? kCbcIvBytes : 0;
  for (std::size_t i = 0; i < chunk.size(); ++i) {
    const Operation& operation = chunk[i];
    const auto& key = key_as<CipherHmacKey>(operation);
    IMB_JOB& job = jobs_[i];
    job.enc_keys = key.encrypt;
    job.dec_keys = key.decrypt;
    job.key_len_in_bytes = suite.encryption_key_bytes();
    job.src = operation.text - in_front;
    job.dst = operation.text - in_front;
    job.cipher_start_src_offset_in_bytes = 0;
    job.msg_len_to_cipher_in_bytes = operation.text_bytes + in_front;
    job.iv = is_cbc ? kZeroIv.data() : operation.nonce;
    job.iv_len_in_bytes = is_cbc ? kCbcIvBytes : IMB_GCM_IV_DATA_LEN;
  }
  submit_ciphers(suite, chunk.size(), is_cbc ? IMB_CIPHER_CBC : IMB_CIPHER_CNTR, IMB_DIR_ENCRYPT);
}

void MultiBuffer::decrypt(const EspSuite& suite, Chunk chunk) {
  if (suite.encryption == Encryption::null) return;
  const bool is_cbc = suite.encryption == Encryption::aes_cbc;
  for (std::size_t i = 0; i < chunk.size(); ++i) {
    const Operation& operation = chunk[i];
    const auto& key = key_as<CipherHmacKey>(operation);
    IMB_JOB& job = jobs_[i];
    job.enc_keys = key.encrypt;
    job.dec_keys = key.decrypt;
    job.key_len_in_bytes = suite.encryption_key_bytes();
    job.src = operation.text;
    job.dst = operation.text;
    job.cipher_start_src_offset_in_bytes = 0;
    job.msg_len_to_cipher_in_bytes = operation.text_bytes;
    job.iv = is_cbc ? operation.text - kCbcIvBytes : operation.nonce;
    job.iv_len_in_bytes = is_cbc ? kCbcIvBytes : IMB_GCM_IV_DATA_LEN;
  }
  submit_ciphers(suite, chunk.size(), is_cbc ? IMB_CIPHER_CBC : IMB_CIPHER_CNTR,
                 is_cbc ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT);
}

/// RFC 4303 §2.2.1: with ESN "the high-order 32 bits are … included in the ICV computation", behind
/// the packet, where its ICV stands: they lie there while the call lasts. (Sealing writes its ICV
/// over them when all is read.)
void MultiBuffer::authenticate(const EspSuite& suite, Chunk chunk) {
  const Form& form = form_of_suite(suite);
  std::array<Borrowed, kLanes> borrowed;
  for (std::size_t i = 0; i < chunk.size(); ++i) {
    const Operation& operation = chunk[i];
    const auto& key = key_as<CipherHmacKey>(operation);
    std::uint8_t* const esp = esp_header_of(operation, form);
    std::uint8_t* const end = operation.text + operation.text_bytes;
    IMB_JOB& job = jobs_[i];
    job.src = esp;
    job.hash_start_src_offset_in_bytes = 0;
    job.msg_len_to_hash_in_bytes = static_cast<std::uint64_t>(end - esp);
    if (has_esn(operation)) {
      borrowed[i] = Borrowed(end, high_half_of(operation));
      job.msg_len_to_hash_in_bytes += kHighBytes;
    }
    job.auth_tag_output = operation.icv;
    job.auth_tag_output_len_in_bytes = form.icv_bytes;
    job.u.HMAC._hashed_auth_key_xor_ipad = key.inner;
    job.u.HMAC._hashed_auth_key_xor_opad = key.outer;
  }
  require(IMB_SUBMIT_HASH_BURST_NOCHECK(&manager_, jobs_.data(),
                                        static_cast<std::uint32_t>(chunk.size()),
                                        hash_of(suite.integrity).algorithm) == chunk.size());
  for (std::size_t i = 0; i < chunk.size(); ++i) {
    const Operation& operation = chunk[i];
    if (operation.icv != operation.text + operation.text_bytes) borrowed[i].give_back();
  }
}

/// By single jobs, which fill the same lanes: the library's burst call for AEADs came after 1.3,
/// and its general one wants set-up per job.
void MultiBuffer::run_aead(const EspSuite& suite, Chunk chunk, IMB_CIPHER_DIRECTION direction) {
  const Form& form = form_of_suite(suite);
  std::size_t done = 0;
  const auto take = [&](const IMB_JOB* job) {
    for (; job != nullptr; job = IMB_GET_COMPLETED_JOB(&manager_)) {
      require(job->status == IMB_STATUS_COMPLETED);
      ++done;
    }
  };
  for (const Operation& operation : chunk) {
    fill_aead_job(suite, operation, form, direction, *IMB_GET_NEXT_JOB(&manager_));
    take(IMB_SUBMIT_JOB_NOCHECK(&manager_));
  }
  while (const IMB_JOB* job = IMB_FLUSH_JOB(&manager_)) take(job);
  require(done == chunk.size());
}

void MultiBuffer::run_gmac(const EspSuite& suite, Chunk chunk) {
  const aes_gcm_enc_dec_t process = gmac_function(manager_, suite);
  const Form& form = form_of_suite(suite);
  for (const Operation& operation : chunk) gmac_packet(process, operation, form);
}

void MultiBuffer::seal(const EspSuite& suite, std::span<const Operation> burst) {
  for (; !burst.empty(); burst = burst.subspan(std::min(kLanes, burst.size()))) {
    const Chunk chunk = burst.first(std::min(kLanes, burst.size()));
    if (suite.encryption == Encryption::null_aes_gmac) {
      run_gmac(suite, chunk);
    } else if (suite.integrity == Integrity::none) {
      run_aead(suite, chunk, IMB_DIR_ENCRYPT);
    } else {
      encrypt(suite, chunk);
      authenticate(suite, chunk);
    }
  }
}

void MultiBuffer::open(const EspSuite& suite, std::span<const Operation> burst) {
  for (; !burst.empty(); burst = burst.subspan(std::min(kLanes, burst.size()))) {
    const Chunk chunk = burst.first(std::min(kLanes, burst.size()));
    if (suite.encryption == Encryption::null_aes_gmac) {
      run_gmac(suite, chunk);
    } else if (suite.integrity == Integrity::none) {
      run_aead(suite, chunk, IMB_DIR_DECRYPT);
    } else {
      authenticate(suite, chunk);
      decrypt(suite, chunk);
    }
  }
}

}  // namespace culvert::crypto::esp
