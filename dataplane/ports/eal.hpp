// DPDK's environment: started once a process from a plan, its log joined to ours.
#pragma once

#include <expected>
#include <memory>
#include <string>

#include "dataplane/ports/eal_arguments.hpp"

namespace culvert::dataplane::ports {

/// The environment while it lives. Main thread: the thread that starts it becomes the main lcore.
class Eal {
 public:
  static std::expected<std::unique_ptr<Eal>, std::string> start(const EalPlan& plan);
  ~Eal();
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;

 private:
  Eal() = default;
};

}  // namespace culvert::dataplane::ports
