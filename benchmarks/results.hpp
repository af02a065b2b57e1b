// Rows that were measured, as a table for people and as JSON for programs.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "benchmarks/rig.hpp"
#include "benchmarks/workload.hpp"

namespace culvert::benchmarks {

/// A value a repeat. All workers together.
struct Row {
  Case test;
  std::vector<double> mpps, floor_mpps, efficiency;
  StateBytes state;
  bool in_ordinary_pages = false;  ///< of a run in huge pages: too few were free for this one
  std::vector<StageTimes> stages;  ///< empty: not asked for
  std::vector<double> io_nanoseconds, crypto_nanoseconds;  ///< of the floor, first worker
};
/// A row that could not be measured here.
struct Skipped {
  std::string row, reason;
};

/// How it was measured; what else the JSON says of the run.
struct Run {
  bool huge_pages = false;
  int repeats = 0;
  double seconds = 0;
  std::size_t cores = 0;
  std::string engine;
};

[[nodiscard]] double median(std::vector<double> values);
/// With a suite's column when `names_suites`.
[[nodiscard]] std::string heading(bool names_suites);
[[nodiscard]] std::string line_of(const Row& row, bool names_suites);
/// Nanoseconds per packet by stage, their sum, the worker without a clock, and the floor's parts.
[[nodiscard]] std::string stage_heading();
[[nodiscard]] std::string stage_line_of(const Row& row);

/// `results` as docs/reference/packet-rate.md has it, beside machine, versions and how it was
/// measured.
[[nodiscard]] nlohmann::json to_json(const Run& run, const std::vector<Row>& rows,
                                     const std::vector<Skipped>& skipped);

}  // namespace culvert::benchmarks
