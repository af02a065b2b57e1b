#include "config/file_bytes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace culvert::config {
namespace {

/// A file descriptor that closes itself.
struct Descriptor {
  explicit Descriptor(int descriptor) : number(descriptor) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  int number;
};

}  // namespace

std::expected<crypto::SecretBytes, std::string> read_bytes(const std::filesystem::path& file,
                                                           std::size_t most) {
  // O_NONBLOCK: a FIFO in the file's place must not hold a daemon up.
  const Descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (opened.number < 0)
    return std::unexpected("cannot open " + file.string() + ": " + std::strerror(errno));
  struct stat status{};
  if (::fstat(opened.number, &status) != 0 || !S_ISREG(status.st_mode)) {
    return std::unexpected(file.string() + " is not a regular file");
  }
  // One byte beyond what it says: a file that grows meanwhile is noticed.
  const auto told = static_cast<std::size_t>(std::max<off_t>(status.st_size, 0));
  crypto::SecretBytes buffer(std::min(told, most) + 1);
  std::size_t size = 0;
  while (size < buffer.size()) {
    const ssize_t got = ::read(opened.number, buffer.span().data() + size, buffer.size() - size);
    if (got < 0)
      return std::unexpected("cannot read " + file.string() + ": " + std::strerror(errno));
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > most || told > most) {
    return std::unexpected(file.string() + " is larger than " + std::to_string(most) + " bytes");
  }
  if (size == buffer.size()) return std::unexpected(file.string() + " grows while it is read");
  return crypto::SecretBytes(buffer.view().first(size));
}

}  // namespace culvert::config
