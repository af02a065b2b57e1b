#include "channel/held_memory.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel/sealed_memory.hpp"

namespace culvert::channel {
namespace {

/// Pages are made real and locked in pieces of this size: a hundred IKE SAs.
constexpr std::size_t kPiece = 256UL << 10U;

}  // namespace

std::expected<HeldMemory, std::string> HeldMemory::create(std::size_t bytes) {
  Descriptor file(::memfd_create("culvert-checkpoint", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return failed("held memory", "memfd_create");
  if (::ftruncate(file.number(), static_cast<off_t>(bytes)) != 0)
    return failed("held memory", "ftruncate");
  if (::fcntl(file.number(), F_ADD_SEALS, kSeals) != 0) return failed("held memory", "F_ADD_SEALS");
  return HeldMemory(std::move(file));
}

HeldMemory::~HeldMemory() { unlock(); }

void HeldMemory::unlock() {
  if (locked_ != nullptr) ::munmap(locked_, locked_bytes_);
  locked_ = nullptr;
  locked_bytes_ = 0;
}

void HeldMemory::lock() {
  // Made real from the front, so that the first hole is the end of what is in use.
  const off_t end = ::lseek(file_.number(), 0, SEEK_HOLE);
  if (end <= 0 || static_cast<std::size_t>(end) == locked_bytes_) return;
  const auto bytes = static_cast<std::size_t>(end);
  void* const memory = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file_.number(), 0);
  if (memory == MAP_FAILED) return;
  crypto::exclude_from_dumps(memory, bytes);
  (void)::mlock(memory, bytes);
  unlock();
  locked_ = memory;
  locked_bytes_ = bytes;
}

std::expected<HeldMapping, std::string> HeldMapping::open(const Descriptor& file,
                                                          std::size_t least) {
  const int seals = ::fcntl(file.number(), F_GET_SEALS);
  if (seals < 0) return failed("held memory", "F_GET_SEALS");
  if ((seals & kSeals) != kSeals) {
    return std::unexpected("held memory: it could shrink or grow (not sealed)");
  }
  struct stat status{};
  if (::fstat(file.number(), &status) != 0) return failed("held memory", "fstat");
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes < least) return std::unexpected("held memory: too small");
  // Ours beyond the connection that brought it.
  Descriptor own(::fcntl(file.number(), F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return failed("held memory", "F_DUPFD_CLOEXEC");
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, own.number(), 0);
  if (memory == MAP_FAILED) return failed("held memory", "mmap");
  crypto::exclude_from_dumps(memory, bytes);
  return HeldMapping(std::move(own), {static_cast<std::uint8_t*>(memory), bytes});
}

HeldMapping::~HeldMapping() {
  if (!memory_.empty()) ::munmap(memory_.data(), memory_.size());
}

bool HeldMapping::make_real(std::size_t end) {
  if (end <= real_) return true;
  const std::size_t wanted = std::min((end + kPiece - 1) / kPiece * kPiece, memory_.size());
  if (end > wanted) return false;
  // Not posix_fallocate: its fallback would write.
  if (::fallocate(file_.number(), 0, static_cast<off_t>(real_),
                  static_cast<off_t>(wanted - real_)) != 0) {
    return false;
  }
  if (::mlock(memory_.data() + real_, wanted - real_) != 0) locked_ = false;
  real_ = wanted;
  return true;
}

}  // namespace culvert::channel
