// packet_rate: packets per second of a worker, beside the floor of the same run.
//
// Source and sink are in memory (net_pcap with infinite_rx, net_null), so no NIC is needed and what
// is measured is the worker: receive burst to transmit burst. Each repeat measures bare I/O, the
// raw crypto call and the worker one after the other on the same core and packets; efficiency is
// their ratio in that repeat, and the table shows medians.
#include <algorithm>
#include <expected>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <rte_version.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "benchmarks/floor.hpp"
#include "benchmarks/lcores.hpp"
#include "benchmarks/machine.hpp"
#include "benchmarks/memory.hpp"
#include "benchmarks/results.hpp"
#include "benchmarks/rig.hpp"
#include "benchmarks/suites.hpp"
#include "dataplane/tables/mapped_array.hpp"

namespace {

using namespace culvert::benchmarks;
using culvert::dataplane::table_pages;
using culvert::dataplane::TablePages;

/// Less than this of free huge pages, and ordinary ones serve.
constexpr std::uint64_t kLeastHugeMib = 256;
/// The packets of every row but those with a million SAs.
constexpr std::uint64_t kAdvisedHugeMib = 800;
/// Ordinary pages: address space of which what is not touched costs nothing. The routing tables and
/// rings; the largest pool, and half of it again for the pieces that it is made of.
std::uint32_t ordinary_mib(std::uint32_t most_packets) {
  return pool_mib(most_packets) * 3 / 2 + 512;
}

constexpr double kSeconds = 0.4, kQuickSeconds = 0.2;

struct Options {
  bool quick = false;
  bool lists = false;
  bool stages = false;
  bool may_use_huge_pages = true;
  int repeats = 5;
  double seconds = 0;  ///< 0: kQuickSeconds or kSeconds
  std::string json_file;
  std::vector<std::string> suites;
  std::vector<std::string> only;  ///< row_name, or its short form for the ordinary suite
};

/// "out/64/1": direction, size, SAs; of the ordinary suite alone.
std::string short_name(const Case& test) {
  return fmt::format("{}/{}/{}", direction_name(test), size_name(test), test.sas);
}

std::vector<Case> chosen_cases(const Options& options) {
  std::vector<Case> chosen;
  std::set<std::string> names;
  const auto add = [&](const std::vector<Case>& cases) {
    for (const Case& test : cases) {
      const std::string name = row_name(test);
      const bool is_ordinary = name == row_name(ordinary_case(test.direction, test.size, test.sas));
      const bool wanted = options.only.empty() || std::ranges::count(options.only, name) != 0 ||
                          (is_ordinary && std::ranges::count(options.only, short_name(test)) != 0);
      if (wanted && names.insert(name).second) chosen.push_back(test);
    }
  };
  if (options.stages) add(stage_cases());
  if (options.quick) add(quick_cases());
  for (const Suite& suite : all_suites()) {
    if ((options.quick || options.stages) && options.only.empty()) break;
    if (options.suites.empty() || std::ranges::count(options.suites, suite.name) != 0) {
      add(suite.cases);
    }
  }
  return chosen;
}

/// `has_tables`: they stand already.
Need need_of(const Case& test, bool has_tables = false) {
  constexpr std::uint64_t kSaBytes = 8192, kPolicyBytes = 1024;  // with room to spare
  const std::uint64_t tables =
      has_tables ? 0 : test.sas * kSaBytes + policies_of(test) * kPolicyBytes;
  return {pool_mib(packets_in_memory(test)), tables >> 20U};
}

/// What a run may have.
Memory memory_for(bool huge_pages) {
  Memory there = free_memory();
  if (!huge_pages) there.huge = 0;
  return there;
}

/// Why a case cannot be measured on this machine; empty when it can.
std::string obstacle(const Case& test, std::size_t cores, const Memory& there,
                     bool has_tables = false) {
  // The main thread only waits: a worker may share its core.
  if (test.workers > cores) return fmt::format("{} cores for {} workers", cores, test.workers);
  const Need need = need_of(test, has_tables);
  if (pages_for(need, there) != Pages::none) return {};
  return fmt::format("{} MiB of memory and {} MiB of huge pages, {} needed, {} of them in one kind",
                     there.ordinary, there.huge, need.packets + need.tables, need.packets);
}

struct Packets {
  Pool pool;
  bool in_huge_pages = false;
};
/// A case's packets, or why it cannot be measured.
std::expected<Packets, std::string> make_packets(const Case& test, std::size_t cores,
                                                 bool huge_pages, bool has_tables) {
  const Memory there = memory_for(huge_pages);
  if (std::string why_not = obstacle(test, cores, there, has_tables); !why_not.empty()) {
    return std::unexpected(std::move(why_not));
  }
  const std::uint32_t count = packets_in_memory(test);
  const Need need = need_of(test, has_tables);
  const bool can_be_huge = pages_for(need, there) == Pages::huge;
  // Without huge pages DPDK's memory is ordinary.
  if (can_be_huge || !huge_pages) {
    if (Pool pool = make_pool(count)) return Packets{std::move(pool), can_be_huge};
  }
  if (huge_pages && pages_for(need, {there.ordinary, 0}) == Pages::ordinary) {
    if (Pool pool = make_pool_in_ordinary_pages(count)) return Packets{std::move(pool), false};
  }
  return std::unexpected(fmt::format("no {} MiB in one kind of pages", need.packets));
}

/// Good packets that bare I/O and the raw call let through: in a flood each waits for the others.
double floor_mpps(const Case& test, const std::vector<double>& crypto,
                  const std::vector<double>& io) {
  double sum = 0;
  for (std::size_t worker = 0; worker < io.size(); ++worker) {
    sum += 1e3 / (crypto[worker] * openings_per_good(test) + io[worker] * frames_per_good(test));
  }
  return sum;
}

double mpps(const std::vector<double>& nanoseconds) {
  double sum = 0;
  for (const double value : nanoseconds) sum += 1e3 / value;
  return sum;
}

Row measure(const Case& test, const Options& options, Rig& rig,
            culvert::crypto::esp::Engine& engine, rte_mempool* pool, const std::string& folder) {
  std::vector<std::string> captures;
  for (std::size_t worker = 0; worker < test.workers; ++worker) {
    captures.push_back(fmt::format("{}/queue{}.pcap", folder, worker));
    if (test.direction == Direction::out) {
      write_clear_capture(captures.back(), test, rig.sas_of(worker));
    } else {
      write_sealed_capture(captures.back(), test, rig.sas_of(worker), rig.spis(), engine);
    }
  }
  const Devices devices(captures, pool);
  Row row;
  row.test = test;
  row.state = rig.state_bytes();
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    const auto crypto = raw_crypto_nanoseconds(test, options.seconds / 2);
    const auto io = io_nanoseconds(devices, options.seconds / 2);
    const double floor = floor_mpps(test, crypto, io);
    row.crypto_nanoseconds.push_back(crypto.front());
    row.io_nanoseconds.push_back(io.front());
    row.mpps.push_back(mpps(rig.measure(devices, pool, options.seconds)));
    row.floor_mpps.push_back(floor);
    row.efficiency.push_back(row.mpps.back() / floor);
    if (options.stages) row.stages.push_back(rig.measure_stages(devices, pool, options.seconds));
  }
  return row;
}

/// Captures in a folder of their own, gone at the end.
class ScratchFolder {
 public:
  ScratchFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("culvert-packet-rate-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

void introduce(const Run& run, bool may_use_huge_pages) {
  std::cout << fmt::format("{}, {}, {}, {} pages, {} x {} s a row, IMIX 64x7 570x4 1400x1\n",
                           cpu_model(), rte_version(), run.engine,
                           run.huge_pages ? "huge" : "ordinary", run.repeats, run.seconds);
  if (run.huge_pages) return;
  std::cout << "No huge pages: slower, the floor too.";
  if (may_use_huge_pages) std::cout << " For them: " << how_to_reserve(kAdvisedHugeMib);
  std::cout << '\n';
}

int run_all(const Options& options) {
  const std::vector<Case> cases = chosen_cases(options);
  if (cases.empty()) give_up("no row has such a name; --list shows them");
  const std::vector<unsigned> cores = usable_cores();
  Run run{options.may_use_huge_pages && free_memory().huge >= kLeastHugeMib, options.repeats,
          options.seconds, cores.size(), std::string(culvert::crypto::esp::make_engine()->name())};
  const Memory at_first = memory_for(run.huge_pages);
  std::vector<Skipped> skipped;
  std::uint32_t most_packets = 0, most_workers = 1;
  for (const Case& test : cases) {
    if (!obstacle(test, cores.size(), at_first).empty()) continue;
    most_packets = std::max(most_packets, packets_in_memory(test));
    most_workers = std::max(most_workers, test.workers);
  }
  if (!start_eal(most_workers, cores, run.huge_pages, ordinary_mib(most_packets))) return 1;
  introduce(run, options.may_use_huge_pages);
  if (options.stages) std::cout << "Nanoseconds a packet:\n";
  std::cout << (options.stages ? stage_heading() : heading(!options.quick)) << std::endl;
  const ScratchFolder folder;
  const auto engine = culvert::crypto::esp::make_engine();
  std::unique_ptr<Rig> rig;  // of the row before: a million SAs are not made for each size anew
  std::vector<Row> rows;
  for (const Case& test : cases) {
    if (rig && !have_same_tables(test, rig->test())) rig.reset();
    const auto packets = make_packets(test, cores.size(), run.huge_pages, rig != nullptr);
    if (!packets) {
      std::cout << fmt::format("skipped {}: {}", row_name(test), packets.error()) << std::endl;
      skipped.push_back({row_name(test), packets.error()});
      continue;
    }
    const bool is_exception = run.huge_pages && !packets->in_huge_pages;
    if (is_exception) {
      std::cout << fmt::format("in ordinary pages, for its packets want {} MiB of huge ones: {}",
                               need_of(test).packets, row_name(test))
                << std::endl;
    }
    if (!rig) {
      table_pages = packets->in_huge_pages ? TablePages::pool : TablePages::ordinary;
      rig = std::make_unique<Rig>(test, *engine);
    }
    rig->serve(test);
    rows.push_back(measure(test, options, *rig, *engine, packets->pool.get(), folder.path()));
    rows.back().in_ordinary_pages = is_exception;
    std::cout << (options.stages ? stage_line_of(rows.back())
                                 : line_of(rows.back(), !options.quick))
              << std::endl;
  }
  if (options.json_file.empty()) return 0;
  std::ofstream file(options.json_file);
  file << to_json(run, rows, skipped).dump(2) << std::endl;
  if (!file) give_up("cannot write " + options.json_file);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Packets per second of a worker, beside the floor"};
  Options options;
  std::vector<std::string> suite_names;
  for (const Suite& suite : all_suites()) suite_names.push_back(suite.name);
  app.add_flag("--quick", options.quick, "only the rows of the summary");
  app.add_flag("--stages", options.stages, "where a worker's time goes, by stage");
  app.add_flag("--list", options.lists, "names the rows and stops");
  app.add_flag("!--no-huge", options.may_use_huge_pages,
               "leave the kernel's pool of huge pages alone");
  app.add_option("--repeats", options.repeats, "measurements a row")->check(CLI::Range(1, 101));
  app.add_option("--seconds", options.seconds, "length of a measurement: 0.4, with --quick 0.2")
      ->check(CLI::Range(0.01, 60.0));
  app.add_option("--json", options.json_file, "write the results there");
  app.add_option("--suites", options.suites, "of these alone")
      ->delimiter(',')
      ->check(CLI::IsMember(suite_names));
  app.add_option("--only", options.only,
                 "rows by name: out/64/1, in/imix/1024, or as --list has them");
  CLI11_PARSE(app, argc, argv);
  if (options.seconds == 0) options.seconds = options.quick ? kQuickSeconds : kSeconds;
  if (!options.lists) return run_all(options);
  for (const Case& test : chosen_cases(options)) std::cout << row_name(test) << '\n';
  return 0;
}
