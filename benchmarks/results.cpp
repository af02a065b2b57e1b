#include "benchmarks/results.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include <intel-ipsec-mb.h>
#include <nlohmann/json.hpp>
#include <rte_cycles.h>
#include <rte_version.h>
#include <spdlog/fmt/fmt.h>

#include "benchmarks/machine.hpp"

namespace culvert::benchmarks {
namespace {

using nlohmann::json;

json result(const Row& row) {
  const auto [least, most] = std::ranges::minmax(row.mpps);
  return {{"suite", suite_name(row.test)},
          {"direction", direction_name(row.test)},
          {"size", row.test.size == 0 ? json("imix") : json(row.test.size)},
          {"sas", row.test.sas},
          {"policies", policies_of(row.test)},
          {"workers", row.test.workers},
          {"mpps", median(row.mpps)},
          {"mpps_min", least},
          {"mpps_max", most},
          {"floor_mpps", median(row.floor_mpps)},
          {"efficiency", median(row.efficiency)}};
}

constexpr std::array<std::string_view, dataplane::kStages> kStageNames{
    "loop", "rx", "classify", "lookup", "header", "crypto", "check", "forward", "tx"};
/// In the order of a packet's way.
constexpr std::array kStageOrder{
    dataplane::Stage::rx,      dataplane::Stage::classify, dataplane::Stage::lookup,
    dataplane::Stage::header,  dataplane::Stage::crypto,   dataplane::Stage::check,
    dataplane::Stage::forward, dataplane::Stage::tx,       dataplane::Stage::loop};
static_assert(kStageOrder.size() == dataplane::kStages);

double nanoseconds_in(const Row& row, dataplane::Stage stage) {
  std::vector<double> cycles;
  for (const StageTimes& times : row.stages) {
    cycles.push_back(times.cycles_per_packet[static_cast<std::size_t>(stage)]);
  }
  return median(cycles) * 1e9 / static_cast<double>(rte_get_tsc_hz());
}

json stages_of(const Row& row) {
  json stages = json::object();
  for (const dataplane::Stage stage : kStageOrder) {
    stages[std::string(kStageNames[static_cast<std::size_t>(stage)])] = nanoseconds_in(row, stage);
  }
  return {{"row", row_name(row.test)},
          {"nanoseconds", std::move(stages)},
          {"worker_nanoseconds", 1e3 / median(row.mpps)},
          {"floor_io_nanoseconds", median(row.io_nanoseconds)},
          {"floor_crypto_nanoseconds", median(row.crypto_nanoseconds)}};
}

}  // namespace

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::string heading(bool names_suites) {
  return fmt::format("{:<4} {:>5} {:>7} {:>8} {:>7} {:>9} {:>9} {:>9} {:>9} {:>8}{}", "dir", "size",
                     "SAs", "policies", "workers", "Mpps", "min", "max", "floor", "of floor",
                     names_suites ? "  suite" : "");
}

std::string line_of(const Row& row, bool names_suites) {
  const auto [least, most] = std::ranges::minmax(row.mpps);
  return fmt::format("{:<4} {:>5} {:>7} {:>8} {:>7} {:>9.4g} {:>9.4g} {:>9.4g} {:>9.4g} {:>8.2g}{}",
                     direction_name(row.test), size_name(row.test), row.test.sas,
                     policies_of(row.test), row.test.workers, median(row.mpps), least, most,
                     median(row.floor_mpps), median(row.efficiency),
                     names_suites ? "  " + suite_name(row.test) : "");
}

std::string stage_heading() {
  std::string line = fmt::format("{:<4} {:>5} {:>5}", "dir", "size", "SAs");
  for (const dataplane::Stage stage : kStageOrder) {
    line += fmt::format(" {:>8}", kStageNames[static_cast<std::size_t>(stage)]);
  }
  return line + fmt::format(" {:>8} {:>8} {:>8} {:>8}", "sum", "worker", "raw I/O", "raw call");
}

std::string stage_line_of(const Row& row) {
  std::string line =
      fmt::format("{:<4} {:>5} {:>5}", direction_name(row.test), size_name(row.test), row.test.sas);
  double sum = 0;
  for (const dataplane::Stage stage : kStageOrder) {
    const double nanoseconds = nanoseconds_in(row, stage);
    sum += nanoseconds;
    line += fmt::format(" {:>8.1f}", nanoseconds);
  }
  return line + fmt::format(" {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f}", sum, 1e3 / median(row.mpps),
                            median(row.io_nanoseconds), median(row.crypto_nanoseconds));
}

json to_json(const Run& run, const std::vector<Row>& rows, const std::vector<Skipped>& skipped) {
  json results = json::array(), memory = json::array(), left_out = json::array();
  json stages = json::array(), in_ordinary_pages = json::array();
  for (const Row& row : rows) {
    results.push_back(result(row));
    if (row.in_ordinary_pages) in_ordinary_pages.push_back(row_name(row.test));
    if (!row.stages.empty()) stages.push_back(stages_of(row));
    if (row.state.per_sa == 0) continue;
    memory.push_back({{"direction", direction_name(row.test)},
                      {"sas", row.test.sas},
                      {"policies", policies_of(row.test)},
                      {"bytes_per_sa", row.state.per_sa},
                      {"bytes_per_policy", row.state.per_policy}});
  }
  for (const Skipped& row : skipped) left_out.push_back({{"row", row.row}, {"reason", row.reason}});
  return {{"results", std::move(results)},
          {"stages", std::move(stages)},
          {"memory", std::move(memory)},
          {"skipped", std::move(left_out)},
          {"in_ordinary_pages", std::move(in_ordinary_pages)},
          {"measurement", {{"repeats", run.repeats}, {"seconds", run.seconds}}},
          {"machine",
           {{"cpu", cpu_model()},
            {"cores", run.cores},
            {"tsc_hz", rte_get_tsc_hz()},
            {"kernel", kernel_release()},
            {"huge_pages", run.huge_pages}}},
          {"versions",
           {{"culvert", CULVERT_VERSION},
            {"dpdk", rte_version()},
            {"ipsec_mb", imb_get_version_str()},
            {"engine", run.engine},
            {"compiler", "g++ " __VERSION__}}}};
}

}  // namespace culvert::benchmarks
