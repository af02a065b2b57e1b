// AES-GCM by IPsec-MB's one-shot calls on expanded keys: no job, no per-packet set-up. They equal
// the library's burst calls within noise, and init/update/finalize costs some 20 ns more. All other
// suites go to multi_buffer.cpp; which way is chosen once a burst.
#include <algorithm>
#include <cstdlib>
#include <string>

#include <intel-ipsec-mb.h>

#include "crypto/esp/engine_choice.hpp"
#include "crypto/esp/multi_buffer.hpp"

namespace culvert::crypto::esp {
namespace {

static_assert(sizeof(gcm_key_data) <= kExpandedKeyBytes);
static_assert(alignof(gcm_key_data) <= alignof(ExpandedKey));

constexpr std::uint64_t kGcmTagBytes = 16;

gcm_key_data* schedule(ExpandedKey& key) { return reinterpret_cast<gcm_key_data*>(key.bytes); }
const gcm_key_data* schedule(const ExpandedKey* key) {
  return reinterpret_cast<const gcm_key_data*>(key->bytes);
}

/// Packets between the one at work and the one whose key lines are fetched. Measured on Zen 5 with
/// a key for each packet, against a loop that fetches nothing (benchmarks/crypto_engine.cpp): with
/// 100 000 keys (in memory) it saves a third and more at 64 bytes, a quarter at 1420; with 10 000
/// (in L3) 3 to 8 % at 64; with 1 024 (in L2) and one it costs at most 2 %. Distances 2 and 3 save
/// less in memory; fetching all 16 lines costs 12 % in L2.
constexpr std::size_t kKeyPrefetchDistance = 6;

/// Fetches what a small packet needs of a key: the round keys at the front and the low powers of
/// the hash key, which stand at the end in the AVX-512 layout. Larger packets walk the powers in
/// between, a stream that the hardware follows by itself. Always inline: g++ takes a function that
/// only prefetches for one without effect and drops the call.
[[gnu::always_inline]] inline void prefetch_key(const ExpandedKey* key) {
  constexpr std::size_t kLine = 64;
  __builtin_prefetch(key->bytes);
  __builtin_prefetch(key->bytes + 1 * kLine);
  __builtin_prefetch(key->bytes + 2 * kLine);
  __builtin_prefetch(key->bytes + 3 * kLine);
  constexpr std::size_t kLast = (sizeof(gcm_key_data) - 1) / kLine;
  __builtin_prefetch(key->bytes + (kLast - 2) * kLine);
  __builtin_prefetch(key->bytes + (kLast - 1) * kLine);
  __builtin_prefetch(key->bytes + kLast * kLine);
}

/// One loop for both directions and all key lengths: `process` is the library's function for them.
void process_burst(aes_gcm_enc_dec_t process, std::span<const Operation> burst) {
  gcm_context_data context;
  const std::size_t count = burst.size();
  // Those of the first packets, which none is far enough in front of.
  for (std::size_t i = 1; i < std::min(count, kKeyPrefetchDistance); ++i) {
    if (burst[i].key != burst[i - 1].key) prefetch_key(burst[i].key);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Operation& operation = burst[i];
    if (i + kKeyPrefetchDistance < count) {
      const ExpandedKey* ahead = burst[i + kKeyPrefetchDistance].key;
      if (ahead != operation.key) prefetch_key(ahead);
    }
    process(schedule(operation.key), &context, operation.text, operation.text, operation.text_bytes,
            operation.nonce, operation.aad, operation.aad_bytes, operation.icv, kGcmTagBytes);
  }
}

/// The library's functions for one key length.
struct GcmFunctions {
  aes_gcm_pre_t expand;
  aes_gcm_enc_dec_t seal;
  aes_gcm_enc_dec_t open;
};

GcmFunctions functions_of(const IMB_MGR& manager, const EspSuite& suite) {
  if (suite.encryption == Encryption::aes_gcm_16 && suite.integrity == Integrity::none) {
    switch (suite.key_bits) {
      case 128:
        return {manager.gcm128_pre, manager.gcm128_enc, manager.gcm128_dec};
      case 192:
        return {manager.gcm192_pre, manager.gcm192_enc, manager.gcm192_dec};
      case 256:
        return {manager.gcm256_pre, manager.gcm256_enc, manager.gcm256_dec};
      default:  // a number, not an enum
        break;
    }
  }
  return {};
}

std::string_view architecture_name(std::uint32_t architecture) {
  switch (architecture) {
    case IMB_ARCH_SSE:
      return "sse";
#if IMB_VERSION_NUM < IMB_VERSION(2, 0, 0)  // 2.0 dropped its AVX code
    case IMB_ARCH_AVX:
      return "avx";
#endif
    case IMB_ARCH_AVX2:
      return "avx2";
    case IMB_ARCH_AVX512:
      return "avx512";
    default:
      return "unknown";
  }
}

struct FreeManager {
  void operator()(IMB_MGR* manager) const { free_mb_mgr(manager); }
};
using ManagerHandle = std::unique_ptr<IMB_MGR, FreeManager>;

class IpsecMbEngine final : public Engine {
 public:
  explicit IpsecMbEngine(ManagerHandle manager)
      : manager_(std::move(manager)),
        multi_buffer_(*manager_),
        name_(std::string("ipsec-mb ") + imb_get_version_str() + " (" +
              std::string(architecture_name(manager_->used_arch)) + ")") {}

  [[nodiscard]] std::string_view name() const override { return name_; }

  [[nodiscard]] bool supports(const EspSuite& suite) const override {
    return functions_of(*manager_, suite).seal != nullptr || MultiBuffer::supports(suite);
  }

  [[nodiscard]] std::expected<void, KeyError> expand(const EspSuite& suite, Bytes key,
                                                     ExpandedKey& out) const override {
    if (!supports(suite)) return std::unexpected(KeyError::unsupported_suite);
    if (key.size() != suite.encryption_key_bytes() + suite.integrity_key_bytes()) {
      return std::unexpected(KeyError::wrong_key_size);
    }
    const GcmFunctions functions = functions_of(*manager_, suite);
    if (functions.expand != nullptr) {
      functions.expand(key.data(), schedule(out));
    } else {
      MultiBuffer::expand(*manager_, suite, key, out);
    }
    return {};
  }

  void seal(const EspSuite& suite, std::span<const Operation> burst) override {
    const GcmFunctions functions = functions_of(*manager_, suite);
    if (functions.seal != nullptr) [[likely]]
      return process_burst(functions.seal, burst);
    if (!MultiBuffer::supports(suite)) std::abort();
    multi_buffer_.seal(suite, burst);
  }

  void open(const EspSuite& suite, std::span<const Operation> burst) override {
    const GcmFunctions functions = functions_of(*manager_, suite);
    if (functions.open != nullptr) [[likely]]
      return process_burst(functions.open, burst);
    if (!MultiBuffer::supports(suite)) std::abort();
    multi_buffer_.open(suite, burst);
  }

 private:
  ManagerHandle manager_;
  MultiBuffer multi_buffer_;
  std::string name_;
};

/// What none of the library's implementations does without, of both of its major versions.
struct Instructions {
  std::uint64_t feature;
  const char* name;
};
constexpr Instructions kNeeded[] = {{IMB_FEATURE_AESNI, "AES-NI"},
                                    {IMB_FEATURE_PCLMULQDQ, "PCLMULQDQ"},
                                    {IMB_FEATURE_SSE4_2, "SSE4.2"},
                                    {IMB_FEATURE_CMOV, "CMOV"}};

/// "AES-NI, PCLMULQDQ"; empty: nothing is missing.
std::string missing_of(std::uint64_t features) {
  std::string missing;
  for (const auto& [feature, name] : kNeeded) {
    if ((features & feature) == 0) missing += (missing.empty() ? "" : ", ") + std::string(name);
  }
  return missing;
}

/// A manager that is ready, its self-test passed, or why there is none. The library knows the
/// processor by `features`, and looks there when it chooses among its implementations.
std::expected<ManagerHandle, std::string> make_manager(Processor processor) {
  ManagerHandle manager(alloc_mb_mgr(0));
  if (manager == nullptr) return std::unexpected(imb_get_strerror(imb_get_errno(nullptr)));
  if (processor == Processor::without_aes) {
    manager->features &= ~std::uint64_t{IMB_FEATURE_AESNI};
  }
  const std::string missing = missing_of(manager->features);
  IMB_ARCH architecture = IMB_ARCH_NONE;
  init_mb_mgr_auto(manager.get(), &architecture);
  const int error = imb_get_errno(manager.get());
  // Without AES-NI version 1.3 may emulate it, slower than OpenSSL and not in constant time.
  if (architecture >= IMB_ARCH_SSE && error == 0) return manager;
  if (!missing.empty()) return std::unexpected("the processor lacks " + missing);
  return std::unexpected(imb_get_strerror(error));
}

}  // namespace

std::string why_no_ipsec_mb(Processor processor) {
  const auto manager = make_manager(processor);
  return manager ? "" : manager.error();
}

std::unique_ptr<Engine> make_ipsec_mb_engine() {
  auto manager = make_manager(Processor::as_it_is);
  if (!manager) return nullptr;
  return std::make_unique<IpsecMbEngine>(std::move(*manager));
}

}  // namespace culvert::crypto::esp
