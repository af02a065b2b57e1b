// culvert-dataplane: reads the configuration, starts the gateway, runs it until it is told to stop.
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include <CLI/CLI.hpp>

#include "config/config.hpp"
#include "config/config_version.hpp"
#include "config/not_loaded.hpp"
#include "dataplane/control/gateway.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/log.hpp"
#include "runtime/notify.hpp"
#include "runtime/privileges.hpp"
#include "runtime/side_task.hpp"

namespace {

using namespace culvert;

struct Arguments {
  std::string config_file;
  bool check = false;
  bool debug = false;
};

int fail(std::string_view event, const std::string& error) {
  runtime::log(runtime::Level::error, event, {{"error", error}});
  return 1;
}

int run(const Arguments& arguments, config::Config config) {
  runtime::set_log_level(arguments.debug ? runtime::Level::debug : runtime::Level::info);
  if (auto done = runtime::disable_core_dumps(); !done) return fail("start_failed", done.error());
  runtime::lift_locked_memory_limit();  // the keys' pages are as many as the SAs
  auto loop = runtime::EventLoop::create();
  if (!loop) return fail("start_failed", loop.error());

  // Signals are taken by the loop before DPDK starts threads, which inherit the mask.
  std::unique_ptr<dataplane::control::Gateway> gateway;
  const auto stop = [&] { (*loop)->stop(); };
  // A large file takes seconds, in which neighbours and the key daemon are not to wait.
  config::LoadResult loaded;
  std::string version;
  const auto begins = [&] {
    runtime::notify_reloading();
    runtime::log(runtime::Level::info, "reload_begun", {{"file", arguments.config_file}});
  };
  const auto load = [&] {
    loaded = config::load_file(arguments.config_file, config::Purpose::run);
    version = config::config_version(arguments.config_file);
  };
  const auto reload = [&](const runtime::SideTask::Ended& ended) {
    if (!ended) loaded = config::not_loaded(arguments.config_file, ended.error());
    if (gateway) gateway->reload(std::exchange(loaded, {}), version);
  };
  auto reloading = runtime::SideTask::create(**loop, load, reload, begins);
  if (!reloading) return fail("start_failed", reloading.error());
  for (const int signal : {SIGTERM, SIGINT}) {
    if (auto done = (*loop)->on_signal(signal, stop); !done) {
      return fail("start_failed", done.error());
    }
  }
  if (auto done = (*loop)->on_signal(SIGHUP, [&] { (*reloading)->begin(); }); !done) {
    return fail("start_failed", done.error());
  }
  auto started = dataplane::control::Gateway::start(std::move(config), **loop);
  if (!started) return fail("start_failed", started.error());
  gateway = std::move(*started);
  (*loop)->run();
  gateway->stop();
  if ((*reloading)->is_under_way()) {
    runtime::log(runtime::Level::warning, "reload_waited_for",
                 {{"file", arguments.config_file},
                  {"effect", "the daemon ends when the file has been read"}});
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Culvert's packet daemon: IPsec tunnels on DPDK ports.", "culvert-dataplane"};
  app.add_option("-c,--config", arguments.config_file, "The gateway's configuration (YAML)")
      ->required();
  app.add_flag("--check", arguments.check, "Validate the configuration and exit");
  app.add_flag("--debug", arguments.debug, "Log DPDK's messages and every table change too");
  app.set_version_flag("--version", CULVERT_VERSION);
  CLI11_PARSE(app, argc, argv);

  config::LoadResult loaded = config::load_file(
      arguments.config_file, arguments.check ? config::Purpose::check : config::Purpose::run);
  for (const config::Diagnostic& diagnostic : loaded.diagnostics) {
    std::fprintf(stderr, "%s\n", diagnostic.to_string().c_str());
  }
  if (!loaded.ok()) return 1;
  if (arguments.check) return 0;
  return run(arguments, std::move(*loaded.config));
}
