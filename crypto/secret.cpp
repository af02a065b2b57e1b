#include "crypto/secret.hpp"

#include <cstring>
#include <new>

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

namespace culvert::crypto {
namespace {

/// An IKE SA's keys take less than 1 KiB, a P-384 key 64 bytes, an RSA-4096 key 2.5 KiB. Only what
/// is used is there and locked.
constexpr std::size_t kSecureHeapBytes = 32U << 20U;
constexpr std::size_t kSecureHeapUnit = 32;  ///< bytes of the smallest piece

}  // namespace

void wipe(void* memory, std::size_t size) noexcept {
  if (size != 0) ::explicit_bzero(memory, size);
}

bool equal_constant_time(Bytes a, Bytes b) noexcept {
  if (a.size() != b.size()) return false;
  return a.empty() || CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void exclude_from_dumps(void* memory, std::size_t size) noexcept {
  // Rounded inwards: the pages at the ends may hold a neighbour's data, which a core dump needs.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<std::uintptr_t>(memory);
  const std::uintptr_t first = (start + page - 1) / page * page;
  const std::uintptr_t last = (start + size) / page * page;
  if (first >= last) return;
  void* const pages = reinterpret_cast<void*>(first);
  // Best effort: a kernel or a mapping that refuses leaves the keys usable all the same.
  (void)::madvise(pages, last - first, MADV_DONTDUMP);
  (void)::madvise(pages, last - first, MADV_DONTFORK);
}

bool lock_key_memory() {
  if (CRYPTO_secure_malloc_initialized() == 1) return true;
  return CRYPTO_secure_malloc_init(kSecureHeapBytes, kSecureHeapUnit) == 1;
}

void* allocate_key_memory(std::size_t size) {
  // Without a secure heap OpenSSL would take its ordinary one, which is not ours.
  if (CRYPTO_secure_malloc_initialized() == 1) {
    if (void* const memory = OPENSSL_secure_malloc(size)) return memory;
  }
  return ::operator new(size);
}

void free_key_memory(void* memory, std::size_t size) noexcept {
  wipe(memory, size);
  if (CRYPTO_secure_allocated(memory) == 1) {
    OPENSSL_secure_free(memory);
  } else {
    ::operator delete(memory);
  }
}

}  // namespace culvert::crypto
