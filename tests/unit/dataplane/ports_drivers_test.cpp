#include <catch2/catch.hpp>
#include <dlfcn.h>

#include "dataplane/ports/drivers.hpp"

namespace culvert::dataplane::ports {
namespace {

constexpr auto kFolder = "/usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/";

bool needs(std::initializer_list<std::string_view> devices, const std::string& library) {
  std::vector<Device> parsed;
  for (const std::string_view device : devices) parsed.push_back(parse_device(device, 1, 1500));
  return needs_library(parsed, kFolder + library);
}

TEST_CASE("drivers: packet sockets need three") {
  for (const char* library :
       {"librte_bus_vdev.so.23.0", "librte_mempool_ring.so", "librte_net_af_packet.so.23"}) {
    CHECK(needs({"net_af_packet0,iface=wan", "net_af_packet1,iface=lan"}, library));
  }
  for (const char* library : {"librte_net_ice.so", "librte_net_af_xdp.so.23.0", "librte_bus_pci.so",
                              "librte_crypto_qat.so"}) {
    CHECK_FALSE(needs({"net_af_packet0,iface=wan"}, library));
  }
}

TEST_CASE("drivers: beside any other device every network driver, bus and memory stays") {
  for (const char* device : {"0000:03:00.0", "net_tap0", "net_virtio_user0", "net_null0"}) {
    for (const char* library : {"librte_net_ice.so", "librte_net_mlx5.so.23.0", "librte_bus_pci.so",
                                "librte_bus_vmbus.so", "librte_mempool_dpaa2.so",
                                "librte_common_mlx5.so", "librte_raw_ifpga.so"}) {
      CHECK(needs({"net_af_packet0,iface=wan", device}, library));
    }
    CHECK_FALSE(needs({device}, "librte_crypto_qat.so"));
    CHECK_FALSE(needs({device}, "librte_event_sw.so.23.0"));
  }
}

TEST_CASE("drivers: what is not one of DPDK's is opened as ever") {
  CHECK(needs({"net_af_packet0,iface=wan"}, "librte_eal.so.23"));
  const std::vector<Device> devices{parse_device("net_af_packet0,iface=wan", 1, 1500)};
  const DriverChoice choice(devices);
  CHECK(::dlopen("libculvert-is-not-there.so", RTLD_NOW) == nullptr);
  void* const library = ::dlopen("libm.so.6", RTLD_NOW);
  REQUIRE(library != nullptr);
  CHECK(::dlsym(library, "cos") != nullptr);
  ::dlclose(library);
  // Neither there nor missed.
  void* const driver = ::dlopen("/nowhere/librte_net_nobody.so", RTLD_NOW);
  CHECK(driver != nullptr);
  ::dlclose(driver);
}

}  // namespace
}  // namespace culvert::dataplane::ports
