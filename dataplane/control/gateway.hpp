// The whole packet daemon: starts ports, tables, workers and the main thread's duties in order,
// runs them from one event loop, and takes them down.
#pragma once

#include <expected>
#include <memory>
#include <string>

#include "config/config.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::dataplane::control {

class Gateway {
 public:
  /// `loop` outlives the gateway and drives it. The calling thread becomes the main thread. The
  /// error is a sentence that says what to change.
  static std::expected<std::unique_ptr<Gateway>, std::string> start(config::Config config,
                                                                    runtime::EventLoop& loop);
  virtual ~Gateway() = default;

  /// SIGHUP, and the file is loaded: puts what can be changed in force, or says in the log why
  /// nothing changes. `version`: config_version of the file.
  virtual void reload(config::LoadResult loaded, const std::string& version) = 0;
  /// Workers stop, what waits is dropped and counted, ports stop, keys are wiped.
  virtual void stop() = 0;
};

}  // namespace culvert::dataplane::control
