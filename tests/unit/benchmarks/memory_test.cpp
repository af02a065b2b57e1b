// Which pages the packet-rate suite finds, on machines made of folders and numbers.
#include "benchmarks/memory.hpp"

#include <fstream>

#include <catch2/catch.hpp>
#include <unistd.h>

namespace {

using namespace culvert::benchmarks;
namespace fs = std::filesystem;

/// /sys/kernel/mm/hugepages of another machine.
class HugePages {
 public:
  HugePages() : path_(fs::temp_directory_path() / ("culvert-pages-" + std::to_string(getpid()))) {
    fs::create_directory(path_);
  }
  ~HugePages() { fs::remove_all(path_); }
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;

  void add(const std::string& size, int all, int free) const {
    fs::create_directory(path_ / size);
    std::ofstream(path_ / size / "nr_hugepages") << all << '\n';
    std::ofstream(path_ / size / "free_hugepages") << free << '\n';
  }
  [[nodiscard]] const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

TEST_CASE("memory: huge pages of every size are found") {
  const HugePages machine;
  CHECK(free_memory(machine.path()).huge == 0);
  machine.add("hugepages-1048576kB", 2, 2);
  CHECK(free_memory(machine.path()).huge == 2048);
  machine.add("hugepages-2048kB", 100, 30);
  CHECK(free_memory(machine.path()).huge == 2048 + 60);
  CHECK(free_memory(machine.path()).ordinary > 0);
  CHECK(free_memory(machine.path() / "none").huge == 0);
}

TEST_CASE("memory: the advice names the size of its pages and spares those that others have") {
  const HugePages machine;
  machine.add("hugepages-1048576kB", 0, 0);
  machine.add("hugepages-2048kB", 100, 30);
  CHECK(how_to_reserve(800, machine.path()) ==
        "echo 470 > " + (machine.path() / "hugepages-2048kB/nr_hugepages").string());
}

TEST_CASE("memory: packets lie in huge pages where they fit") {
  constexpr Need kSmall{.packets = 40, .tables = 10};
  CHECK(pages_for(kSmall, {.ordinary = 1000, .huge = 800}) == Pages::huge);
  CHECK(pages_for(kSmall, {.ordinary = 1000, .huge = 0}) == Pages::ordinary);
  // Routes and rings want some of them.
  CHECK(pages_for(kSmall, {.ordinary = 1000, .huge = 40}) == Pages::ordinary);
}

TEST_CASE("memory: a million SAs go to ordinary pages where huge ones are few") {
  constexpr Need kMillion{.packets = 2565, .tables = 8788};
  CHECK(pages_for(kMillion, {.ordinary = 14000, .huge = 800}) == Pages::ordinary);
  CHECK(pages_for(kMillion, {.ordinary = 14000, .huge = 5000}) == Pages::huge);
  CHECK(pages_for(kMillion, {.ordinary = 8000, .huge = 800}) == Pages::none);
}

TEST_CASE("memory: free huge pages count as memory") {
  // 16 GB, of which 12 are reserved.
  constexpr Need kMillion{.packets = 2565, .tables = 8788};
  CHECK(pages_for(kMillion, {.ordinary = 3500, .huge = 12000}) == Pages::huge);
}

}  // namespace
