// The two daemons' answers to `status`, as tests of the command need them.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace culvert::cli::test {

using nlohmann::json;

inline json traffic(int packets, const json& last_packet_seconds) {
  return {
      {"packets", packets}, {"bytes", packets * 100}, {"last_packet_seconds", last_packet_seconds}};
}

inline json dataplane_with(bool up, const json& in, const json& out) {
  return {{"running", true},
          {"version", "0.1.0"},
          {"pid", 7},
          {"uptime_seconds", 4000},
          {"engine", "ipsec-mb"},
          {"default_policy", "discard"},
          {"interfaces", json::array()},
          {"children",
           {{{"connection", "branch"},
             {"child", "office"},
             {"id", "00000000000000a0"},
             {"up", up},
             {"in", in},
             {"out", out}}}}};
}

inline json key_daemon_with(const json& children, const json& last_failure = nullptr) {
  return {{"running", true},
          {"version", "0.1.0"},
          {"pid", 8},
          {"uptime_seconds", 4000},
          {"dataplane_connected", true},
          {"ike_sas",
           {{{"connection", "branch"},
             {"local", "198.51.100.1:500"},
             {"remote", "203.0.113.7:500"},
             {"suite", "aes256gcm16-prfsha384-ecp384"},
             {"children", children}}}},
          {"connections",
           {{{"connection", "branch"},
             {"state", children.empty() ? "down" : "up"},
             {"last_failure", last_failure}}}}};
}

inline json installed_child() {
  return {{{"child", "office"},
           {"state", "installed"},
           {"spi_in", "0xc0000101"},
           {"spi_out", "0xc0000202"},
           {"suite", "aes256gcm16"},
           {"rekey_in_seconds", 3000},
           {"local_ts", {"10.1.0.0/24"}},
           {"remote_ts", {"10.2.0.0/24"}}}};
}

inline const json kStopped{{"running", false}, {"error", "nobody listens on ike.sock"}};

inline std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

inline std::string state_of_office(const json& status) {
  return status.at("connections").at(0).at("children").at(0).at("state");
}

}  // namespace culvert::cli::test
