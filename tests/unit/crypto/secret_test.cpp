#include "crypto/secret.hpp"

#include <cstdlib>
#include <fstream>
#include <new>
#include <string>

#include <catch2/catch.hpp>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

// What a freed block held at the moment it was freed: the only way to see whether a secret was
// wiped that looks at no freed memory.
const void* watched_block = nullptr;
std::size_t watched_bytes = 0;
std::vector<std::uint8_t>* seen_at_free = nullptr;

void observe_and_free(void* block) noexcept {
  if (block != nullptr && block == watched_block) {
    watched_block = nullptr;
    std::memcpy(seen_at_free->data(), block, watched_bytes);
  }
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size) {
  if (void* block = std::malloc(size == 0 ? 1 : size)) return block;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* block) noexcept { observe_and_free(block); }
void operator delete(void* block, std::size_t) noexcept { observe_and_free(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { observe_and_free(block); }

namespace {

using culvert::crypto::Bytes;
using culvert::crypto::equal_constant_time;
using culvert::crypto::InlineSecret;
using culvert::crypto::SecretBytes;

using Buffer = std::vector<std::uint8_t>;

/// Watches a secret's memory from now until it is freed.
class FreeObserver {
 public:
  explicit FreeObserver(const SecretBytes& secret) : seen_(secret.size(), 0xEE) {
    seen_at_free = &seen_;
    watched_bytes = secret.size();
    watched_block = secret.view().data();
  }
  ~FreeObserver() { watched_block = nullptr; }
  FreeObserver(const FreeObserver&) = delete;
  FreeObserver& operator=(const FreeObserver&) = delete;
  [[nodiscard]] bool saw_zeros() const { return seen_ == Buffer(seen_.size(), 0); }
  [[nodiscard]] bool saw_nothing() const { return seen_ == Buffer(seen_.size(), 0xEE); }

 private:
  Buffer seen_;
};

const Buffer kKey{'t', 'o', 'p', ' ', 's', 'e', 'c', 'r', 'e', 't', '!'};

}  // namespace

TEST_CASE("secret: the memory is zero when a secret's life ends", "[secret]") {
  auto secret = std::make_unique<SecretBytes>(Bytes(kKey));
  const FreeObserver observer(*secret);
  secret.reset();
  CHECK(observer.saw_zeros());
}

TEST_CASE("secret: a secret that another replaces is wiped", "[secret]") {
  SecretBytes secret{Bytes(kKey)};
  const FreeObserver observer(secret);
  secret = SecretBytes(std::size_t{4});
  CHECK(observer.saw_zeros());
  CHECK(secret.size() == 4);
}

TEST_CASE("secret: moving hands the bytes over and leaves the source empty", "[secret]") {
  SecretBytes from{Bytes(kKey)};
  const FreeObserver observer(from);
  SecretBytes to{std::move(from)};
  CHECK(observer.saw_nothing());
  CHECK(from.empty());  // NOLINT(bugprone-use-after-move): that is the claim
  CHECK(equal_constant_time(to.view(), kKey));
  SecretBytes third;
  third = std::move(to);
  CHECK(to.empty());  // NOLINT(bugprone-use-after-move)
  CHECK(equal_constant_time(third.view(), kKey));
}

TEST_CASE("secret: assigning a secret to itself keeps it", "[secret]") {
  SecretBytes secret{Bytes(kKey)};
  SecretBytes& alias = secret;
  secret = std::move(alias);
  CHECK(equal_constant_time(secret.view(), kKey));
}

TEST_CASE("secret: a clone has its own memory", "[secret]") {
  SecretBytes secret{Bytes(kKey)};
  SecretBytes clone = secret.clone();
  secret.span()[0] = 'T';
  CHECK(equal_constant_time(clone.view(), kKey));
  CHECK_FALSE(equal_constant_time(secret.view(), kKey));
}

TEST_CASE("secret: a buffer that grows leaves nothing behind", "[secret]") {
  std::vector<std::uint8_t, culvert::crypto::KeyAllocator<std::uint8_t>> growing(kKey.begin(),
                                                                                 kKey.end());
  Buffer seen(kKey.size(), 0xEE);
  seen_at_free = &seen;
  watched_bytes = kKey.size();
  watched_block = growing.data();
  growing.resize(1000);
  watched_block = nullptr;
  CHECK(seen == Buffer(kKey.size(), 0));
}

TEST_CASE("secret: a secret in place is refused when too long, and wipes to zero", "[secret]") {
  alignas(InlineSecret<16>) std::uint8_t memory[sizeof(InlineSecret<16>)];
  auto* secret = new (memory) InlineSecret<16>;
  CHECK_FALSE(secret->assign(Buffer(17, 1)));
  CHECK(secret->view().empty());
  REQUIRE(secret->assign(Buffer(16, 0xAA)));
  CHECK(equal_constant_time(secret->view(), Buffer(16, 0xAA)));
  secret->wipe();
  CHECK(Buffer(std::begin(memory), std::end(memory)) == Buffer(sizeof(memory), 0));
}

TEST_CASE("secret: a length that crossed the channel and is too large yields nothing", "[secret]") {
  InlineSecret<16> secret;
  secret.length = 17;
  CHECK(secret.view().empty());
}

TEST_CASE("secret: equality in constant time sees every bit and the length", "[secret]") {
  const Buffer original(33, 0x5A);
  CHECK(equal_constant_time(original, Buffer(original)));
  CHECK(equal_constant_time({}, {}));
  CHECK_FALSE(equal_constant_time(original, Bytes(original).first(32)));
  CHECK_FALSE(equal_constant_time(original, {}));
  for (std::size_t bit = 0; bit < original.size() * 8; ++bit) {
    Buffer other = original;
    other[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
    INFO("bit " << bit);
    REQUIRE_FALSE(equal_constant_time(original, other));
  }
}

namespace {

/// The VmFlags that the kernel shows for the mapping at `address`.
std::string vm_flags(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    unsigned long first = 0;
    unsigned long last = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2) {
      const auto wanted = reinterpret_cast<unsigned long>(address);
      inside = first <= wanted && wanted < last;
    }
    if (inside && line.starts_with("VmFlags:")) return line + " ";
  }
  return "";
}

}  // namespace

TEST_CASE("secret: whole pages leave core dumps and forks, their neighbours stay", "[secret]") {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* mapping =
      ::mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapping != MAP_FAILED);
  auto* bytes = static_cast<std::uint8_t*>(mapping);

  culvert::crypto::exclude_from_dumps(bytes + 100, 3 * page);  // covers pages 1 and 2 wholly

  CHECK(vm_flags(bytes).find(" dd ") == std::string::npos);
  CHECK(vm_flags(bytes + page).find(" dd ") != std::string::npos);
  CHECK(vm_flags(bytes + page).find(" dc ") != std::string::npos);
  CHECK(vm_flags(bytes + 2 * page).find(" dd ") != std::string::npos);
  CHECK(vm_flags(bytes + 3 * page).find(" dd ") == std::string::npos);
  ::munmap(mapping, 4 * page);
}

TEST_CASE("secret: excluding less than a page touches nothing", "[secret]") {
  std::uint8_t small[64];
  culvert::crypto::exclude_from_dumps(small, sizeof(small));
  CHECK(vm_flags(small).find(" dd ") == std::string::npos);
}

TEST_CASE("secret: with key memory set up secrets lie there; what does not fit is on the heap",
          "[secret][key-memory]") {
  // A process of its own: what is set up stays.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    culvert::crypto::lock_key_memory();
    const SecretBytes secret{Bytes(kKey)};
    const SecretBytes zero(std::size_t{64});
    const bool apart = CRYPTO_secure_allocated(secret.view().data()) == 1;
    const bool clear = equal_constant_time(zero.view(), Buffer(64, 0));
    // More than there is room for goes to the heap
    const SecretBytes huge(std::size_t{64} << 20U);
    const bool elsewhere = CRYPTO_secure_allocated(huge.view().data()) == 0;
    ::_exit(apart && clear && elsewhere ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}
