#include "channel/mapping.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel/sealed_memory.hpp"
#include "crypto/secret.hpp"

namespace culvert::channel {
namespace {

std::string build_mismatch(const Header& found) {
  if (found.magic != kMagic) return "channel memory: it is not Culvert's";
  if (found.layout_version != kLayoutVersion) {
    return "the data plane speaks channel layout " + std::to_string(found.layout_version) +
           ", this key daemon " + std::to_string(kLayoutVersion) +
           ": run both from the same release";
  }
  return "channel memory: its sizes are not this build's: run both daemons from the same release";
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (number_ >= 0) ::close(number_);
    number_ = std::exchange(other.number_, -1);
  }
  return *this;
}

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

std::expected<Mapping, std::string> Mapping::create() {
  Descriptor file(::memfd_create("culvert-channel", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return failed("channel memory", "memfd_create");
  if (::ftruncate(file.number(), sizeof(Memory)) != 0) return failed("channel memory", "ftruncate");
  // Its pages exist before a peer is there: running out of memory is an error here, not a signal
  // later.
  if (const int error = ::posix_fallocate(file.number(), 0, sizeof(Memory)); error != 0) {
    errno = error;
    return failed("channel memory", "posix_fallocate");
  }
  if (::fcntl(file.number(), F_ADD_SEALS, kSeals) != 0)
    return failed("channel memory", "F_ADD_SEALS");
  auto mapping = map(std::move(file));
  if (mapping) mapping->memory().header = expected_header();
  return mapping;
}

std::expected<Mapping, std::string> Mapping::open(Descriptor file) {
  const int seals = ::fcntl(file.number(), F_GET_SEALS);
  if (seals < 0) return failed("channel memory", "F_GET_SEALS");
  if ((seals & kSeals) != kSeals) {
    return std::unexpected("channel memory: it could shrink or grow (not sealed)");
  }
  struct stat status{};
  if (::fstat(file.number(), &status) != 0) return failed("channel memory", "fstat");
  Header found{};
  if (::pread(file.number(), &found, sizeof(found), 0) != static_cast<ssize_t>(sizeof(found))) {
    return std::unexpected("channel memory: too small for its header");
  }
  if (found != expected_header() || status.st_size != static_cast<off_t>(sizeof(Memory))) {
    return std::unexpected(build_mismatch(found));
  }
  return map(std::move(file));
}

std::expected<Mapping, std::string> Mapping::map(Descriptor file) {
  void* const memory =
      ::mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED, file.number(), 0);
  if (memory == MAP_FAILED) return failed("channel memory", "mmap");
  crypto::exclude_from_dumps(memory, sizeof(Memory));
  return Mapping(std::move(file), static_cast<Memory*>(memory));
}

Mapping::~Mapping() {
  if (memory_ != nullptr) ::munmap(memory_, sizeof(Memory));
}

}  // namespace culvert::channel
