#include "runtime/notify.hpp"

#include <array>
#include <filesystem>
#include <string>

#include <catch2/catch.hpp>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/unix_socket.hpp"

using namespace culvert::runtime;

TEST_CASE("notify: the service manager hears ready with a status of one line") {
  std::string folder = (std::filesystem::temp_directory_path() / "notify-XXXXXX").string();
  const std::filesystem::path path = std::filesystem::path(::mkdtemp(folder.data())) / "notify";
  const int manager = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const auto address = *unix_address(path);
  REQUIRE(::bind(manager, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  const auto heard = [&] {
    std::array<char, 512> buffer;
    const ssize_t count = ::recv(manager, buffer.data(), buffer.size(), MSG_DONTWAIT);
    return std::string(buffer.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  };

  notify_ready("2 tunnels\nSTOPPING=1");
  CHECK(heard() == "READY=1\nSTATUS=2 tunnels STOPPING=1");
  notify_reloading();
  CHECK(heard().starts_with("RELOADING=1\nMONOTONIC_USEC="));
  notify_watchdog();
  CHECK(heard() == "WATCHDOG=1");

  ::unsetenv("NOTIFY_SOCKET");
  notify_stopping();
  CHECK(heard().empty());
  CHECK_FALSE(watchdog_interval());
  ::close(manager);
  std::filesystem::remove_all(path.parent_path());
}
