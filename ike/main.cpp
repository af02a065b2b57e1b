// culvert-ike: the key daemon. Wiring only.
#include <csignal>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>
#include <unistd.h>

#include "config/config.hpp"
#include "crypto/secret.hpp"
#include "ike/daemon/daemon.hpp"
#include "ike/daemon/fetcher.hpp"
#include "ike/identity/certificates.hpp"
#include "ike/identity/pre_shared_keys.hpp"
#include "runtime/event_loop.hpp"
#include "runtime/log.hpp"
#include "runtime/notify.hpp"
#include "runtime/privileges.hpp"

namespace {

using culvert::runtime::Level;

int fail(std::string_view event, const std::string& why) {
  culvert::runtime::log(Level::error, event, {{"why", why}});
  return 1;
}

/// From root or whoever started us to the service user without a capability or a way back. Leaves
/// the run directory to that user.
culvert::runtime::Done confine(const culvert::config::Config& configuration) {
  namespace runtime = culvert::runtime;
  runtime::UserIds owner{::geteuid(), ::getegid()};
  if (owner.uid == 0) {
    auto user = runtime::lookup_user(configuration.user);
    if (!user) return std::unexpected(user.error());
    owner = *user;
  }
  const auto directory = culvert::config::run_directory(configuration.instance);
  if (auto done = runtime::create_run_directory(directory, owner); !done) return done;
  if (auto done = runtime::disable_core_dumps(); !done) return done;
  if (::geteuid() == 0) {
    if (auto done = runtime::drop_to_user(configuration.user); !done) return done;
    // A change of user makes a process dumpable as the system's default says.
    if (auto done = runtime::disable_core_dumps(); !done) return done;
  }
  return runtime::no_new_privileges();
}

int run(const culvert::config::Config& configuration) {
  namespace runtime = culvert::runtime;
  // The records that the data plane holds for us grow with the number of IKE SAs.
  runtime::lift_locked_memory_limit();
  if (!culvert::crypto::lock_key_memory()) {
    runtime::log(Level::warning, "keys_not_locked",
                 {{"effect", "keys may be swapped out"}, {"remedy", "raise LimitMEMLOCK to 64M"}});
  }
  // Before a key is read: what it inherits is what there is now.
  culvert::channel::Descriptor fetch_helper;
  if (configuration.pki.fetches()) {
    auto started = culvert::ike::start_fetch_helper();
    if (!started) return fail("fetch_helper_not_started", started.error());
    fetch_helper = *std::move(started);
  }
  auto keys = culvert::ike::PreSharedKeys::load(configuration);
  if (!keys) return fail("secrets_unreadable", keys.error());
  auto certificates = culvert::ike::Certificates::load(configuration);
  if (!certificates) return fail("certificates_unreadable", certificates.error());
  if (auto done = confine(configuration); !done) return fail("not_confined", done.error());

  auto loop = runtime::EventLoop::create();
  if (!loop) return fail("event_loop_failed", loop.error());
  culvert::ike::Daemon daemon(**loop, configuration, *std::move(keys), **certificates);
  if (fetch_helper.valid()) daemon.use_fetch_helper(std::move(fetch_helper));
  const auto stop = [&] {
    runtime::notify_stopping();
    (*loop)->stop();
  };
  for (const int signal : {SIGTERM, SIGINT}) {
    if (auto done = (*loop)->on_signal(signal, stop); !done) return fail("signals", done.error());
  }
  if (auto done = (*loop)->on_signal(SIGHUP, [&] { daemon.reload(); }); !done) {
    return fail("signals", done.error());
  }
  if (auto bound = daemon.bind(); !bound) return fail("not_bound", bound.error());
  if (auto done = runtime::leave_other_processes_alone(); !done) {
    return fail("not_confined", done.error());
  }
  if (auto done = runtime::allow_only_system_calls(runtime::key_daemon_system_calls()); !done) {
    return fail("not_confined", done.error());
  }
  runtime::log(Level::info, "started",
               {{"version", CULVERT_VERSION}, {"instance", configuration.instance}});
  runtime::notify_ready("negotiating keys");
  daemon.start();
  (*loop)->run();
  runtime::log(Level::info, "stopped", {});
  if (daemon.is_reloading()) {
    runtime::log(
        Level::warning, "reload_waited_for",
        {{"file", configuration.file}, {"effect", "the daemon ends when the file has been read"}});
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Culvert's IKEv2 daemon"};
  std::string file;
  bool check_only = false;
  bool debug = false;
  app.add_option("--config", file, "the gateway's YAML file")->required();
  app.add_flag("--check", check_only, "validate the file and exit");
  app.add_flag("--debug", debug,
               "log what is of no consequence too, such as packets of unknown SPIs");
  app.set_version_flag("--version", CULVERT_VERSION);
  CLI11_PARSE(app, argc, argv);

  const auto loaded = culvert::config::load_file(
      file, check_only ? culvert::config::Purpose::check : culvert::config::Purpose::run);
  for (const auto& diagnostic : loaded.diagnostics) std::cerr << diagnostic.to_string() << '\n';
  if (!loaded.ok()) return 1;
  if (check_only) return 0;
  culvert::runtime::set_log_level(debug ? Level::debug : Level::info);
  return run(*loaded.config);
}
