#include "config/dataplane_changes.hpp"

#include <algorithm>
#include <string_view>

namespace culvert::config {
namespace {

using Reasons = std::vector<std::string>;

std::string_view name_of(std::string_view device) { return device.substr(0, device.find(',')); }

/// An interface is a VLAN of a device that is open: anything else of it is an entry of a table.
void compare_devices(const Dataplane& running, const Dataplane& wanted,
                     std::span<const std::string> open, Reasons& reasons) {
  Reasons known = device_texts(running);
  known.insert(known.end(), open.begin(), open.end());
  for (const Interface& interface : wanted.interfaces) {
    if (std::ranges::find(known, interface.device) != known.end()) continue;
    const auto other = std::ranges::find_if(known, [&](const std::string& device) {
      return name_of(device) == name_of(interface.device);
    });
    if (other != known.end()) {
      reasons.push_back("the device of interface \"" + interface.name + "\" was opened as " +
                        *other + ", not as " + interface.device);
    } else {
      reasons.push_back("interface \"" + interface.name + "\" is on a device, " + interface.device +
                        ", that the packet daemon did not open at its start: it has given up the "
                        "rights to open one");
    }
  }
}

void compare(std::string_view key, const std::string& was, const std::string& is,
             Reasons& reasons) {
  if (was == is) return;
  reasons.push_back("dataplane." + std::string(key) + " changed from " + was + " to " + is);
}

std::string workers_of(const Dataplane& dataplane) {
  if (dataplane.cores.empty()) return std::to_string(dataplane.workers);
  std::string cores;
  for (const std::uint32_t core : dataplane.cores) {
    cores += (cores.empty() ? "" : ", ") + std::to_string(core);
  }
  return "[" + cores + "]";
}

std::string word_of(IdleMode mode) {
  switch (mode) {
    case IdleMode::busy:
      return "busy";
    case IdleMode::adaptive:
      return "adaptive";
    case IdleMode::interrupt:
      return "interrupt";
  }
  return "adaptive";
}

std::string word_of(crypto::esp::EngineWish wish) {
  switch (wish) {
    case crypto::esp::EngineWish::automatic:
      return "auto";
    case crypto::esp::EngineWish::ipsec_mb:
      return "ipsec-mb";
    case crypto::esp::EngineWish::openssl:
      return "openssl";
  }
  return "auto";
}

std::string word_of(bool truth) { return truth ? "true" : "false"; }

std::string memory_of(const Dataplane& dataplane) {
  return dataplane.memory_mib ? std::to_string(*dataplane.memory_mib)
                              : std::string("what the limits ask for");
}

}  // namespace

std::vector<std::string> device_texts(const Dataplane& dataplane) {
  std::vector<std::string> texts;
  for (const Interface& interface : dataplane.interfaces) {
    if (std::ranges::find(texts, interface.device) == texts.end()) {
      texts.push_back(interface.device);
    }
  }
  return texts;
}

std::vector<std::string> restart_reasons(const Dataplane& running, const Dataplane& wanted,
                                         std::span<const std::string> open) {
  Reasons reasons;
  compare_devices(running, wanted, open, reasons);
  compare("workers", workers_of(running), workers_of(wanted), reasons);
  const auto limit = [&](const char* key, std::uint32_t was, std::uint32_t is) {
    compare(key, std::to_string(was), std::to_string(is), reasons);
  };
  limit("limits.sas", running.limits.sas, wanted.limits.sas);
  limit("limits.policies", running.limits.policies, wanted.limits.policies);
  limit("limits.flows", running.limits.flows, wanted.limits.flows);
  compare("idle", word_of(running.idle), word_of(wanted.idle), reasons);
  compare("crypto", word_of(running.engine), word_of(wanted.engine), reasons);
  compare("memory_mib", memory_of(running), memory_of(wanted), reasons);
  compare("huge_pages_required", word_of(running.huge_pages_required),
          word_of(wanted.huge_pages_required), reasons);
  return reasons;
}

}  // namespace culvert::config
