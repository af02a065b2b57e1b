// packet_rate: packets per second of one worker, beside the floor of the same run.
//
// Source and sink are in memory (net_pcap with infinite_rx, net_null), so no NIC is needed and what
// is measured is the worker: receive burst to transmit burst. Each repeat measures bare I/O, the
// raw crypto call and the worker one after the other on the same core and packets; efficiency is
// their ratio in that repeat, and the table shows medians.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <intel-ipsec-mb.h>
#include <nlohmann/json.hpp>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>
#include <rte_version.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "benchmarks/floor.hpp"
#include "benchmarks/rig.hpp"
#include "benchmarks/workload.hpp"

namespace {

using namespace culvert::benchmarks;
using nlohmann::json;

struct Options {
  bool quick = false;
  bool huge_pages = true;
  int repeats = 5;
  double seconds = 0.4;
  std::string json_file;
  std::vector<std::string> only;  ///< "out/64/1": direction, size, SAs
};

struct Row {
  Case test;
  std::vector<double> mpps, floor_mpps, efficiency;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<Case> cases(const Options& options) {
  std::vector<Case> all;
  for (const Direction direction : {Direction::out, Direction::in}) {
    for (const std::uint32_t size : {64U, 512U, 1420U, 0U}) all.push_back({direction, size, 1});
    for (const std::uint32_t size : {64U, 0U}) all.push_back({direction, size, 1024});
    if (options.quick) continue;
    for (const std::uint32_t size : {128U, 256U, 1024U, 1280U}) all.push_back({direction, size, 1});
  }
  if (options.only.empty()) return all;
  std::erase_if(all, [&](const Case& test) {
    const std::string name = fmt::format(
        "{}/{}/{}", test.direction == Direction::out ? "out" : "in", size_name(test), test.sas);
    return std::ranges::find(options.only, name) == options.only.end();
  });
  return all;
}

Row run(const Case& test, const Options& options, rte_mempool* pool, const std::string& folder) {
  const auto engine = culvert::crypto::esp::make_engine();
  Rig rig(test, *engine);
  const Frames frames = test.direction == Direction::out ? clear_frames(test)
                                                         : sealed_frames(test, rig.spis(), *engine);
  const std::string capture = folder + "/frames.pcap";
  write_capture(capture, frames);
  const Devices devices(capture, pool);
  Row row{test, {}, {}, {}};
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    const double crypto = raw_crypto_nanoseconds(test.direction, frames, options.seconds / 2);
    const double io = 1e9 / measure_io(devices, options.seconds / 2).packets_per_second;
    const double worker = rig.measure(devices, pool, options.seconds).packets_per_second;
    const double floor = 1e9 / (crypto + io);
    row.mpps.push_back(worker / 1e6);
    row.floor_mpps.push_back(floor / 1e6);
    row.efficiency.push_back(worker / floor);
  }
  return row;
}

void print(const Row& row) {
  const auto [least, most] = std::ranges::minmax(row.mpps);
  std::cout << fmt::format("{:<4} {:>5} {:>6} {:>8} {:>9.2f} {:>9.2f} {:>9.2f} {:>9.2f} {:>8.2f}\n",
                           row.test.direction == Direction::out ? "out" : "in", size_name(row.test),
                           row.test.sas, row.test.policies + row.test.sas, median(row.mpps), least,
                           most, median(row.floor_mpps), median(row.efficiency))
            << std::flush;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

json to_json(const std::vector<Row>& rows, bool huge_pages) {
  json results = json::array();
  for (const Row& row : rows) {
    const auto [least, most] = std::ranges::minmax(row.mpps);
    results.push_back({{"suite", kSuite.name()},
                       {"direction", row.test.direction == Direction::out ? "out" : "in"},
                       {"size", row.test.size == 0 ? json("imix") : json(row.test.size)},
                       {"sas", row.test.sas},
                       {"policies", row.test.policies + row.test.sas},
                       {"workers", 1},
                       {"mpps", median(row.mpps)},
                       {"mpps_min", least},
                       {"mpps_max", most},
                       {"floor_mpps", median(row.floor_mpps)},
                       {"efficiency", median(row.efficiency)}});
  }
  return {
      {"results", std::move(results)},
      {"machine", {{"cpu", cpu_model()}, {"tsc_hz", rte_get_tsc_hz()}, {"huge_pages", huge_pages}}},
      {"versions",
       {{"culvert", CULVERT_VERSION},
        {"dpdk", rte_version()},
        {"ipsec_mb", imb_get_version_str()}}}};
}

bool start_eal(bool huge_pages) {
  std::vector<std::string> arguments{"packet_rate",    "--lcores",    "0@0,1@1",
                                     "--no-pci",       "--log-level", "3",
                                     "--no-telemetry", "-m",          "768"};
  // DPDK 22.11 refuses --no-huge together with --in-memory.
  arguments.emplace_back(huge_pages ? "--in-memory" : "--no-shconf");
  if (!huge_pages) arguments.emplace_back("--no-huge");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  return rte_eal_init(static_cast<int>(argv.size()), argv.data()) >= 0;
}

/// Whether the kernel has free huge pages for the suite's memory.
bool has_huge_pages() {
  std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  long free = 0;
  return (file >> free) && free * 2 >= 768;
}

int run_all(const Options& options) {
  const bool huge_pages = options.huge_pages && has_huge_pages();
  if (!start_eal(huge_pages)) return 1;
  std::cout << fmt::format(
                   "{}, {}, IPsec-MB {}, {} pages, {} x {} s a row, IMIX 64x7 570x4 1400x1\n",
                   cpu_model(), rte_version(), imb_get_version_str(),
                   huge_pages ? "huge" : "ordinary", options.repeats, options.seconds)
            << fmt::format("{:<4} {:>5} {:>6} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8}\n", "dir", "size",
                           "SAs", "policies", "Mpps", "min", "max", "floor", "of floor");
  rte_mempool* pool =
      rte_pktmbuf_pool_create("packets", 16383, 256, culvert::dataplane::kPuntPrivateBytes,
                              2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
  if (pool == nullptr) return 1;
  const auto folder = std::filesystem::temp_directory_path() /
                      ("culvert-packet-rate-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  std::vector<Row> rows;
  for (const Case& test : cases(options)) {
    rows.push_back(run(test, options, pool, folder));
    print(rows.back());
  }
  std::filesystem::remove_all(folder);
  if (!options.json_file.empty()) {
    std::ofstream(options.json_file) << to_json(rows, huge_pages).dump(2) << '\n';
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Packets per second of one worker, beside the floor"};
  Options options;
  app.add_flag("--quick", options.quick, "only the sizes of the summary table");
  app.add_flag("!--no-huge", options.huge_pages, "do without huge pages");
  app.add_option("--repeats", options.repeats, "measurements a row")->check(CLI::Range(1, 101));
  app.add_option("--seconds", options.seconds, "length of a measurement")
      ->check(CLI::Range(0.05, 60.0));
  app.add_option("--json", options.json_file, "write the results there");
  app.add_option("--only", options.only, "rows by name: out/64/1, in/imix/1024");
  CLI11_PARSE(app, argc, argv);
  return run_all(options);
}
