#include "dataplane/ports/cores.hpp"

#include <cstring>
#include <thread>

#include <sched.h>

namespace culvert::dataplane::ports {

std::vector<std::uint32_t> own_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<std::uint32_t> cores;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return cores;
  for (std::uint32_t core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

std::vector<std::uint32_t> reachable_cores() {
  // Nothing in /proc tells it of every kernel: a thread that asks for all cores is given those that
  // it may have, and takes what it was given with it when it ends.
  std::vector<std::uint32_t> cores;
  std::thread([&] {
    cpu_set_t all;
    std::memset(&all, 0xff, sizeof(all));
    static_cast<void>(::sched_setaffinity(0, sizeof(all), &all));  // else the mask it has
    cores = own_cores();
  }).join();
  return cores;
}

}  // namespace culvert::dataplane::ports
