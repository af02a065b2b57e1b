// Inbound SAs to their worker's queue by rules of the device (rte_flow), where it takes such. Only
// a saving: a packet that comes to another queue is handed to the SA's worker (worker/inbound.cpp),
// and an SA without a rule is like any other.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/control/steering_report.hpp"
#include "dataplane/ports/esp_rule.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/mapped_array.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::dataplane::control {

using runtime::Instant;

/// Main thread. A device is called from here only, and a bounded number of times at once: a rule
/// may take it 100 µs and more.
class Steering {
 public:
  /// Calls of the driver in one `work`, and after how much time no more are begun: the main thread
  /// has IKE to carry and SAs to install. Some thousand rules a second, which is what tables of
  /// NICs hold.
  static constexpr unsigned kCallsAtOnce = 64;
  static constexpr Instant kPatience{std::chrono::milliseconds(2)};

  struct Interface {
    std::uint16_t dpdk_port = 0;  ///< with a queue for each worker
    wire::vlan::Ids vlan;
    std::string name;  ///< for the log
  };
  struct InboundSaPlace {
    SlotIndex slot;
    std::uint32_t spi;  ///< host order
    PortId port;        ///< by which its packets come
    ports::EspForm form;
  };

  /// `interfaces` by PortId; `slots`: of the inbound SAD, of which a worker owns every `workers`th.
  /// The error is a sentence (no memory).
  [[nodiscard]] static std::expected<std::unique_ptr<Steering>, std::string> create(
      std::vector<Interface> interfaces, std::uint32_t workers, std::uint32_t slots);

  /// Asks the started devices what they take; rules follow as there is work. Again after a `stop`:
  /// every SA gets its rule anew.
  void start();
  /// Before devices stop: removes all rules.
  void stop();

  /// The ports are others, of started devices. One that is the device and VLAN that it was keeps
  /// its rules; those of one that is not go by and by. True: some are new, and all SAs are to be
  /// added again, of which only theirs cost more than a look; false: the names differ at most.
  bool change(std::vector<Interface> interfaces);

  /// An inbound SA was installed, or its packets come otherwise now: perhaps by a port of which
  /// `change` tells next.
  void add(const InboundSaPlace& sa);
  void remove(SlotIndex slot);
  /// A part of what waits. Call about fifty times a second.
  void work();

  [[nodiscard]] SteeringReport report(PortId port) const;

 private:
  static constexpr std::uint32_t kNobody = 0;  ///< of `next` and `before`, which are slots + 1

  /// An SA, by slot; vacant: zero bytes. Each is in one list of its lane: `waiting` or `ruled`.
  struct Place {
    rte_flow* rule;
    std::uint32_t spi;
    std::uint32_t before, next;
    std::uint32_t lane;  ///< + 1; 0: no SA
  };
  struct List {
    std::uint32_t first = kNobody, last = kNobody;
    std::uint32_t count = 0;
  };
  struct Device {
    std::uint16_t dpdk_port;
    std::vector<rte_flow*> leaving;  ///< rules of SAs that are gone
    bool any_rule = false;           ///< was made since the start
  };
  /// One form on one interface.
  struct Lane {
    ports::EspRules rules;
    std::size_t interface, device;
    ports::EspForm form;
    bool is_taken = false;
    bool is_over = false;  ///< its port is another one now: what is in it goes
    bool is_full = false;  ///< until a rule of the device is freed
    bool is_logged = false;
    std::string refusal{};  ///< of the form, or of the last rule
    List waiting{}, ruled{};
  };

  Steering(std::vector<Interface> interfaces, std::uint32_t workers);
  void make_lanes(std::size_t interface);
  [[nodiscard]] std::size_t room_for_lanes();
  [[nodiscard]] std::size_t device_of(const Interface& interface);
  void probe(std::size_t interface);
  void append(List& list, std::uint32_t slot);
  void take_out(List& list, std::uint32_t slot);
  [[nodiscard]] bool can_add(const Lane& lane) const {
    return is_started_ && lane.is_taken && !lane.is_over && !lane.is_full &&
           lane.waiting.count != 0;
  }
  bool remove_one();
  void remove_rule(std::size_t device, rte_flow* rule);
  bool empty_one();
  bool add_one();
  void add_rule(Lane& lane);
  void freed(std::size_t device);
  void log_interface(PortId port) const;

  std::vector<Interface> interfaces_;
  std::uint32_t workers_;
  bool is_started_ = false;
  std::vector<Device> devices_;
  std::vector<Lane> lanes_;            ///< kEspForms of an interface together; one worker: none
  std::vector<std::size_t> lanes_of_;  ///< by interface: the first of its lanes
  std::size_t next_lane_ = 0;
  bool removal_failed_ = false;  ///< and was logged
  MappedArray<Place> places_;
};

}  // namespace culvert::dataplane::control
