#include "dataplane/ports/eal.hpp"

#include <cstdio>
#include <string_view>
#include <vector>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "runtime/log.hpp"

namespace culvert::dataplane::ports {
namespace {

runtime::Level level_of_current_message() {
  const int level = rte_log_cur_msg_loglevel();
  if (level >= 0 && level <= static_cast<int>(RTE_LOG_ERR)) return runtime::Level::error;
  if (level == static_cast<int>(RTE_LOG_WARNING)) return runtime::Level::warning;
  return runtime::Level::debug;
}

/// What rte_vlog writes and flushes, a message at a time: one event a line.
ssize_t write_to_log(void*, const char* text, std::size_t size) {
  std::string_view rest(text, size);
  while (!rest.empty()) {
    const std::size_t newline = rest.find('\n');
    const std::string_view line = rest.substr(0, newline);
    if (!line.empty()) runtime::log(level_of_current_message(), "dpdk", {{"message", line}});
    if (newline == std::string_view::npos) break;
    rest.remove_prefix(newline + 1);
  }
  return static_cast<ssize_t>(size);
}

/// The stream stays open for the life of the process: DPDK's own threads may log until the end.
bool join_logs() {
  static FILE* const stream = [] {
    cookie_io_functions_t functions{};
    functions.write = write_to_log;
    FILE* const opened = fopencookie(nullptr, "w", functions);
    if (opened != nullptr) setvbuf(opened, nullptr, _IOLBF, BUFSIZ);
    return opened;
  }();
  return stream != nullptr && rte_openlog_stream(stream) == 0;
}

}  // namespace

std::expected<std::unique_ptr<Eal>, std::string> Eal::start(const EalPlan& plan) {
  if (!join_logs()) return std::unexpected("the log stream for DPDK could not be made");
  // rte_eal_init keeps and may permute the pointers: the strings live as long as the process.
  static std::vector<std::string> arguments;
  static std::vector<char*> argv;
  arguments = plan.arguments;
  argv.clear();
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  if (rte_eal_init(static_cast<int>(arguments.size()), argv.data()) < 0) {
    std::string command;
    for (const std::string& argument : plan.arguments) command += argument + " ";
    command.pop_back();
    return std::unexpected(std::string("DPDK did not start (") + rte_strerror(rte_errno) +
                           "); its arguments were: " + command);
  }
  return std::unique_ptr<Eal>(new Eal);
}

Eal::~Eal() { rte_eal_cleanup(); }

}  // namespace culvert::dataplane::ports
