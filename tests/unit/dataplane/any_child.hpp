// A child that any SA of a test may be of.
#pragma once

#include <string>

#include "config/config.hpp"

namespace culvert::test {

inline config::Child any_child(const std::string& name, config::Mode mode = config::Mode::tunnel) {
  config::Child child;
  child.name = name;
  child.mode = mode;
  for (const auto family : {wire::Family::v4, wire::Family::v6}) {
    child.local_ts.push_back(wire::TrafficSelector::everything(family));
  }
  child.remote_ts = child.local_ts;
  for (const char* const proposal : {"aes128gcm16-aes256gcm16", "aes128-aes256-sha256"}) {
    child.esp_proposals.push_back(crypto::parse_esp_proposal(proposal).value());
  }
  return child;
}

}  // namespace culvert::test
