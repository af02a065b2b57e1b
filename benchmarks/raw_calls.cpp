#include "raw_calls.hpp"

#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <intel-ipsec-mb.h>

namespace culvert::benchmarks {
namespace {

using crypto::Encryption;
using crypto::Integrity;
using crypto::esp::Operation;
using crypto::esp::Transform;

constexpr std::size_t kEspHeaderBytes = 8;

/// Manager, keys and jobs of one floor. Shared by its two functions.
struct Floor {
  explicit Floor(const Transform& of, std::span<const Operation> packets)
      : transform(of), burst(packets), manager(alloc_mb_mgr(0), free_mb_mgr) {
    if (manager == nullptr) std::abort();
    init_mb_mgr_auto(manager.get(), nullptr);
    alignas(64) const std::array<std::uint8_t, 32> key{1, 2, 3};  // loaded aligned
    IMB_AES128_GCM_PRE(manager.get(), key.data(), &gcm);
    if (transform.suite.key_bits == 256) IMB_AES256_GCM_PRE(manager.get(), key.data(), &gcm);
    if (transform.suite.key_bits == 192) IMB_AES192_GCM_PRE(manager.get(), key.data(), &gcm);
    IMB_AES_KEYEXP_256(manager.get(), key.data(), encrypt.data(), decrypt.data());
    jobs.resize(burst.size());
  }

  const Transform& transform;
  std::span<const Operation> burst;
  std::unique_ptr<IMB_MGR, void (*)(IMB_MGR*)> manager;
  alignas(64) gcm_key_data gcm;
  alignas(16) std::array<std::uint8_t, 240> encrypt;
  alignas(16) std::array<std::uint8_t, 240> decrypt;
  alignas(16) std::array<std::uint8_t, 64> hmac_state{};
  std::vector<IMB_JOB> jobs;
};

// ---- AES-GCM and AES-GMAC: one call a packet ----------------------------------------------------

aes_gcm_enc_dec_t gcm_function(const IMB_MGR& manager, std::uint16_t key_bits, bool seals) {
  if (key_bits == 128) return seals ? manager.gcm128_enc : manager.gcm128_dec;
  if (key_bits == 192) return seals ? manager.gcm192_enc : manager.gcm192_dec;
  return seals ? manager.gcm256_enc : manager.gcm256_dec;
}

void run_gcm(Floor& floor, aes_gcm_enc_dec_t function) {
  gcm_context_data context;
  for (const Operation& op : floor.burst) {
    function(&floor.gcm, &context, op.text, op.text, op.text_bytes, op.nonce, op.aad, op.aad_bytes,
             op.icv, 16);
  }
}

void run_gmac(Floor& floor, aes_gcm_enc_dec_t function) {
  gcm_context_data context;
  for (const Operation& op : floor.burst) {
    const std::size_t in_front = kEspHeaderBytes + floor.transform.form.iv_bytes;
    function(&floor.gcm, &context, op.icv, op.icv, 0, op.nonce, op.text - in_front,
             op.text_bytes + in_front, op.icv, 16);
  }
}

// ---- ChaCha20-Poly1305 and AES-CCM: jobs --------------------------------------------------------

void prepare_aead(Floor& floor, IMB_CIPHER_DIRECTION direction) {
  const bool is_ccm = floor.transform.suite.encryption != Encryption::chacha20_poly1305;
  const bool encrypts = direction == IMB_DIR_ENCRYPT;
  for (std::size_t i = 0; i < floor.burst.size(); ++i) {
    const Operation& op = floor.burst[i];
    IMB_JOB& job = floor.jobs[i];
    job = IMB_JOB{};
    job.enc_keys = job.dec_keys = floor.encrypt.data();
    job.key_len_in_bytes = floor.transform.suite.encryption_key_bytes();
    job.src = op.text;
    job.dst = op.text;
    job.msg_len_to_cipher_in_bytes = job.msg_len_to_hash_in_bytes = op.text_bytes;
    job.iv = op.nonce;
    job.iv_len_in_bytes = is_ccm ? 11 : 12;
    job.auth_tag_output = op.icv;
    job.auth_tag_output_len_in_bytes = floor.transform.form.icv_bytes;
    job.cipher_direction = direction;
    job.cipher_mode = is_ccm ? IMB_CIPHER_CCM : IMB_CIPHER_CHACHA20_POLY1305;
    job.hash_alg = is_ccm ? IMB_AUTH_AES_CCM : IMB_AUTH_CHACHA20_POLY1305;
    job.chain_order = encrypts != is_ccm ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
    if (is_ccm) {
      job.u.CCM.aad = op.aad;
      job.u.CCM.aad_len_in_bytes = op.aad_bytes;
    } else {
      job.u.CHACHA20_POLY1305.aad = op.aad;
      job.u.CHACHA20_POLY1305.aad_len_in_bytes = op.aad_bytes;
    }
  }
}

void run_jobs(Floor& floor) {
  IMB_MGR* const manager = floor.manager.get();
  for (const IMB_JOB& job : floor.jobs) {
    *IMB_GET_NEXT_JOB(manager) = job;
    const IMB_JOB* done = IMB_SUBMIT_JOB_NOCHECK(manager);
    while (done != nullptr) done = IMB_GET_COMPLETED_JOB(manager);
  }
  while (IMB_FLUSH_JOB(manager) != nullptr) {
  }
}

// ---- a cipher and HMAC: two burst calls ---------------------------------------------------------

IMB_HASH_ALG hash_of(Integrity id) {
  switch (id) {
    case Integrity::hmac_sha1_96:
      return IMB_AUTH_HMAC_SHA_1;
    case Integrity::hmac_sha2_256_128:
      return IMB_AUTH_HMAC_SHA_256;
    case Integrity::hmac_sha2_384_192:
      return IMB_AUTH_HMAC_SHA_384;
    case Integrity::hmac_sha2_512_256:
      return IMB_AUTH_HMAC_SHA_512;
    case Integrity::none:
      break;
  }
  std::abort();
}

/// Cipher and hash fields of a job stand side by side: one array serves both calls.
void prepare_pair(Floor& floor) {
  const bool is_cbc = floor.transform.suite.encryption == Encryption::aes_cbc;
  for (std::size_t i = 0; i < floor.burst.size(); ++i) {
    const Operation& op = floor.burst[i];
    const std::size_t in_front = kEspHeaderBytes + floor.transform.form.iv_bytes;
    IMB_JOB& job = floor.jobs[i];
    job = IMB_JOB{};
    job.enc_keys = floor.encrypt.data();
    job.dec_keys = floor.decrypt.data();
    job.key_len_in_bytes = floor.transform.suite.encryption_key_bytes();
    job.src = op.text - in_front;
    job.dst = op.text;
    job.cipher_start_src_offset_in_bytes = in_front;
    job.msg_len_to_cipher_in_bytes = op.text_bytes;
    job.iv = op.nonce;
    job.iv_len_in_bytes = is_cbc ? 16 : 12;
    job.msg_len_to_hash_in_bytes = in_front + op.text_bytes;
    job.auth_tag_output = op.icv;
    job.auth_tag_output_len_in_bytes = floor.transform.form.icv_bytes;
    job.u.HMAC._hashed_auth_key_xor_ipad = floor.hmac_state.data();
    job.u.HMAC._hashed_auth_key_xor_opad = floor.hmac_state.data();
  }
}

void run_pair(Floor& floor, IMB_CIPHER_DIRECTION direction) {
  IMB_MGR* const manager = floor.manager.get();
  const auto& suite = floor.transform.suite;
  const auto count = static_cast<std::uint32_t>(floor.jobs.size());
  const auto cipher = [&] {
    if (suite.encryption == Encryption::null) return;
    const auto key_size = static_cast<IMB_KEY_SIZE_BYTES>(suite.encryption_key_bytes());
    const bool is_cbc = suite.encryption == Encryption::aes_cbc;
    IMB_SUBMIT_CIPHER_BURST_NOCHECK(manager, floor.jobs.data(), count,
                                    is_cbc ? IMB_CIPHER_CBC : IMB_CIPHER_CNTR,
                                    is_cbc ? direction : IMB_DIR_ENCRYPT, key_size);
  };
  if (direction == IMB_DIR_ENCRYPT) cipher();
  IMB_SUBMIT_HASH_BURST_NOCHECK(manager, floor.jobs.data(), count, hash_of(suite.integrity));
  if (direction == IMB_DIR_DECRYPT) cipher();
}

}  // namespace

RawCalls make_raw_calls(const Transform& transform, std::span<const Operation> burst) {
  const auto floor = std::make_shared<Floor>(transform, burst);
  const std::uint16_t bits = transform.suite.key_bits;
  if (transform.suite.integrity != Integrity::none) {
    prepare_pair(*floor);
    return {[floor] { run_pair(*floor, IMB_DIR_ENCRYPT); },
            [floor] { run_pair(*floor, IMB_DIR_DECRYPT); }};
  }
  if (transform.suite.encryption == Encryption::aes_gcm_16) {
    const auto seal = gcm_function(*floor->manager, bits, true);
    const auto open = gcm_function(*floor->manager, bits, false);
    return {[floor, seal] { run_gcm(*floor, seal); }, [floor, open] { run_gcm(*floor, open); }};
  }
  if (transform.suite.encryption == Encryption::null_aes_gmac) {
    const auto both = gcm_function(*floor->manager, bits, true);
    return {[floor, both] { run_gmac(*floor, both); }, [floor, both] { run_gmac(*floor, both); }};
  }
  const auto opening = std::make_shared<Floor>(transform, burst);
  prepare_aead(*floor, IMB_DIR_ENCRYPT);
  prepare_aead(*opening, IMB_DIR_DECRYPT);
  return {[floor] { run_jobs(*floor); }, [opening] { run_jobs(*opening); }};
}

}  // namespace culvert::benchmarks
