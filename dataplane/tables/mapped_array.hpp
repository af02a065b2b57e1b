// A large array of its own pages: zero until touched, huge pages where the kernel gives them, never
// in a core dump.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#include <linux/mman.h>
#include <sys/mman.h>

namespace culvert::dataplane {

/// Where `MappedArray::map` looks first.
enum class TablePages : std::uint8_t {
  pool,      ///< the kernel's pool of huge pages, where some are free
  ordinary,  ///< what is free there was counted by another gateway of the machine
};
/// Single writer: the main thread, before the first array; it stays until the end.
inline TablePages table_pages = TablePages::pool;

template <typename T>
class MappedArray {
 public:
  MappedArray() = default;
  ~MappedArray() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
  }
  MappedArray(const MappedArray&) = delete;
  MappedArray& operator=(const MappedArray&) = delete;

  /// As `map`, of ordinary memory that is there at once: no later touch waits for the kernel. Huge
  /// pages of the pool are left to those whose memory was counted. Throws std::bad_alloc.
  void map_and_touch(std::size_t count) {
    bytes_ = count * sizeof(T);
    void* memory =
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    ::madvise(memory, bytes_, MADV_HUGEPAGE);
    ::madvise(memory, bytes_, MADV_DONTDUMP);
    std::memset(memory, 0, bytes_);
    memory_ = memory;
  }
  /// Address space whose pages come as they are written, for what grows with the configuration;
  /// huge pages of the pool are left alone here too. False when there is none.
  [[nodiscard]] bool reserve(std::size_t count) {
    bytes_ = count * sizeof(T);
    void* memory = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    // Little stays little: the kernel would clear all of the first huge page for one entry.
    if (bytes_ > kHugePage) {
      ::madvise(static_cast<char*>(memory) + kHugePage, bytes_ - kHugePage, MADV_HUGEPAGE);
    }
    ::madvise(memory, bytes_, MADV_DONTDUMP);
    memory_ = memory;
    return true;
  }
  /// False when there is no memory. T's zero bytes must be a valid, empty T.
  [[nodiscard]] bool map(std::size_t count) {
    constexpr int kPlain = MAP_PRIVATE | MAP_ANONYMOUS;
    constexpr int kAccess = PROT_READ | PROT_WRITE;
    // Huge pages that are free are reserved whole, so that a later touch cannot fail. Of 2 MiB by
    // name: the kernel's default may be 1 GiB, of which such lengths are no multiples.
    bytes_ = (count * sizeof(T) + kHugePage - 1) / kHugePage * kHugePage;
    void* memory = MAP_FAILED;
    if (table_pages == TablePages::pool) {
      memory = ::mmap(nullptr, bytes_, kAccess, kPlain | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);
    }
    if (memory == MAP_FAILED) {
      memory = ::mmap(nullptr, bytes_, kAccess, kPlain | MAP_NORESERVE, -1, 0);
    }
    if (memory == MAP_FAILED) return false;
    // Best effort: without huge pages it is slower, not wrong.
    ::madvise(memory, bytes_, MADV_HUGEPAGE);
    ::madvise(memory, bytes_, MADV_DONTDUMP);
    memory_ = memory;
    return true;
  }

  /// Its pages stay in memory from when they are touched; false: it may be swapped out.
  [[nodiscard]] bool lock() const { return ::mlock2(memory_, bytes_, MLOCK_ONFAULT) == 0; }

  [[nodiscard]] T& operator[](std::size_t index) const { return static_cast<T*>(memory_)[index]; }

 private:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20U;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace culvert::dataplane
