// The configured interfaces on their devices, changed while workers run: which port each is, what
// its device takes, and what it has counted. Main thread.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config/config.hpp"
#include "dataplane/control/hardware.hpp"
#include "dataplane/control/port_directory.hpp"
#include "dataplane/ports/port.hpp"

namespace culvert::dataplane::control {

class Interfaces {
 public:
  /// The first configuration, on the hardware that was started for it; `hardware` outlives this.
  /// Before workers start.
  Interfaces(const config::Dataplane& dataplane, Hardware& hardware);

  /// What another configuration makes of the ports. Nothing is changed; the error is a sentence
  /// that says what to do.
  [[nodiscard]] std::expected<PortDirectory, std::string> plan(const config::Dataplane& wanted,
                                                               Instant now) const;
  /// Devices that take more than before, with what they took.
  using Raised = std::vector<std::pair<ports::Port*, std::uint16_t>>;
  /// Makes devices take the MTUs of what is planned. The error is a sentence that says what to do;
  /// they are as they were then.
  [[nodiscard]] std::expected<Raised, std::string> fit_devices(const PortDirectory& next,
                                                               const config::Dataplane& wanted);
  /// It does not come into force after all.
  static void take_back(const Raised& raised);
  /// Workers see the ports so from now on.
  void publish(const PortDirectory& directory, const config::Dataplane& dataplane);
  /// It is in force: counts and numbers follow.
  void adopt(PortDirectory next);
  /// It is not, and `running` stays: workers see the ports as before.
  void refuse(const PortDirectory& next, const config::Dataplane& running, Instant now);

  [[nodiscard]] const PortDirectory& directory() const { return directory_; }
  [[nodiscard]] const ports::Port& device_of(PortId port) const;
  /// Since the interface came, also where who counts for it changed: its device alone, or workers
  /// for each of the device's.
  [[nodiscard]] ports::PortStatistics statistics(PortId port) const;

 private:
  /// What is counted at one place goes on at another.
  struct Account {
    ports::PortStatistics carried{};  ///< counted where it was before
    ports::PortStatistics since{};    ///< what stood where it is now
    bool is_of_device = true;
  };
  void await_quiet();
  [[nodiscard]] ports::PortStatistics read(PortId port, std::size_t device,
                                           bool is_of_device) const;

  Hardware& hardware_;
  PortDirectory directory_;
  std::vector<Account> accounts_;  ///< by PortId
  /// What waits for a grace period may come after this is gone.
  std::shared_ptr<const bool> lives_ = std::make_shared<const bool>(true);
};

}  // namespace culvert::dataplane::control
