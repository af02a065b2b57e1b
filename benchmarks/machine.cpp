#include "benchmarks/machine.hpp"

#include <fstream>

#include <rte_eal.h>
#include <sys/utsname.h>

#include "benchmarks/cores.hpp"
#include "dataplane/ports/cores.hpp"

namespace culvert::benchmarks {
namespace {

/// The value of a "name: value" line; empty when there is none.
std::string field(const char* file, std::string_view name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(name)) continue;
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  }
  return {};
}

}  // namespace

std::string cpu_model() {
  const std::string model = field("/proc/cpuinfo", "model name");
  return model.empty() ? "unknown processor" : model;
}

std::string kernel_release() {
  utsname names{};
  return ::uname(&names) == 0 ? std::string(names.sysname) + " " + names.release : "unknown";
}

std::vector<unsigned> usable_cores() {
  std::ifstream file("/sys/devices/system/cpu/isolated");
  std::string isolated;
  std::getline(file, isolated);
  return cores_to_measure_on(dataplane::ports::own_cores(), dataplane::ports::reachable_cores(),
                             parse_core_list(isolated));
}

bool start_eal(std::size_t workers, const std::vector<unsigned>& cores, bool huge_pages,
               std::uint32_t memory_mib) {
  std::string lcores = "0@" + std::to_string(cores.at(0));
  for (std::size_t worker = 1; worker <= workers; ++worker) {
    const unsigned core = cores[worker % cores.size()];
    lcores += "," + std::to_string(worker) + "@" + std::to_string(core);
  }
  // rte_eal_init keeps the pointers.
  static std::vector<std::string> arguments;
  arguments = {"packet_rate", "--lcores", lcores, "--no-pci", "--log-level", "3", "--no-telemetry"};
  if (huge_pages) {
    arguments.emplace_back("--in-memory");  // takes more pages when it needs them
  } else {
    // DPDK 22.11 refuses --no-huge together with --in-memory.
    for (const char* const word : {"--no-shconf", "--no-huge", "-m"}) arguments.emplace_back(word);
    arguments.push_back(std::to_string(memory_mib));
  }
  static std::vector<char*> argv;
  argv.clear();
  for (std::string& argument : arguments) argv.push_back(argument.data());
  return rte_eal_init(static_cast<int>(argv.size()), argv.data()) >= 0;
}

}  // namespace culvert::benchmarks
