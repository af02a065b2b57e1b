#include "crypto/secret.hpp"

#include <cstring>
#include <utility>

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

namespace culvert::crypto {

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

SecretBytes::SecretBytes(std::size_t size) : bytes_(size) {}

SecretBytes::SecretBytes(Bytes source) : bytes_(source.begin(), source.end()) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  if (this != &other) {
    wipe(bytes_.data(), bytes_.size());
    bytes_ = std::move(other.bytes_);
    other.bytes_.clear();
  }
  return *this;
}

SecretBytes::~SecretBytes() { wipe(bytes_.data(), bytes_.size()); }

}  // namespace culvert::crypto
