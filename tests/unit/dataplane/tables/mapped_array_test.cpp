// Which pages an array asks the kernel for. The kernel here is this file: no huge page is taken,
// and its default size may be any.
#include "dataplane/tables/mapped_array.hpp"

#include <catch2/catch.hpp>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

using namespace culvert::dataplane;

/// What the next call with MAP_HUGETLB meets, and what calls asked for since.
struct Kernel {
  bool has_huge_pages = true;
  int flags_of_huge = 0;  ///< of the last call for them; 0: there was none
};
Kernel kernel;

constexpr int kSizeBits = MAP_HUGE_MASK << MAP_HUGE_SHIFT;

TEST_CASE("mapped_array: huge pages are asked for by their size, not the kernel's default") {
  kernel = {};
  MappedArray<int> array;
  REQUIRE(array.map(3));
  CHECK((kernel.flags_of_huge & kSizeBits) == MAP_HUGE_2MB);
  CHECK(array[2] == 0);
}

TEST_CASE("mapped_array: without a free huge page it lies in ordinary ones") {
  kernel = {.has_huge_pages = false};
  MappedArray<int> array;
  REQUIRE(array.map(3));
  CHECK(kernel.flags_of_huge != 0);
  CHECK(array[2] == 0);
}

TEST_CASE("mapped_array: whoever goes on with ordinary pages leaves the pool alone") {
  kernel = {};
  table_pages = TablePages::ordinary;
  MappedArray<int> array;
  const bool is_mapped = array.map(3);
  table_pages = TablePages::pool;
  REQUIRE(is_mapped);
  CHECK(kernel.flags_of_huge == 0);
  CHECK(array[2] == 0);
}

}  // namespace

extern "C" void* mmap(void* address, std::size_t bytes, int access, int flags, int file,
                      off_t offset) noexcept {
  if ((flags & MAP_HUGETLB) != 0) {
    kernel.flags_of_huge = flags;
    if (!kernel.has_huge_pages) return MAP_FAILED;
    flags &= ~(MAP_HUGETLB | kSizeBits);
  }
  return reinterpret_cast<void*>(::syscall(SYS_mmap, address, bytes, access, flags, file, offset));
}
