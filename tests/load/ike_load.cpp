// The far ends of many tunnels. Commands come on standard input, one a line, answers go out as
// JSON:
//
//   initiate FROM TO AT_ONCE SECONDS    peers FROM to TO - 1, so many at once, spread over SECONDS
//   rekey    FROM TO AT_ONCE SECONDS    their child SAs
//   sas                                 how many SAs the peers hold
#include <iostream>
#include <sstream>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/load/fleet.hpp"

namespace {

using culvert::load::Fleet;
using nlohmann::json;

double processor_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

json render(const culvert::load::Outcome& outcome) {
  const auto at = [&](double share) -> double {
    if (outcome.milliseconds.empty()) return 0;
    const auto last = static_cast<double>(outcome.milliseconds.size() - 1);
    return outcome.milliseconds[static_cast<std::size_t>(last * share)];
  };
  return {{"done", outcome.done},
          {"failed", outcome.failed},
          {"seconds", outcome.seconds},
          {"per_second", static_cast<double>(outcome.done) / outcome.seconds},
          {"milliseconds", {{"median", at(0.5)}, {"p95", at(0.95)}, {"most", at(1)}}},
          {"retransmits", outcome.retransmits},
          {"refused_by_kernel", outcome.refused_by_kernel},
          {"failures", outcome.failures},
          {"first_failure", outcome.first_failure},
          {"processor_seconds", processor_seconds()}};
}

void say(const json& answer) { std::cout << answer.dump() << std::endl; }

class Commands {
 public:
  Commands(culvert::runtime::EventLoop& loop, Fleet& fleet) : loop_(loop), fleet_(fleet) {}

  /// What standard input has; its end is ours.
  void read() {
    std::array<char, 4096> bytes{};
    const ssize_t length = ::read(STDIN_FILENO, bytes.data(), bytes.size());
    if (length <= 0) return loop_.stop();
    waiting_.append(bytes.data(), static_cast<std::size_t>(length));
    for (std::size_t end = 0; (end = waiting_.find('\n')) != std::string::npos;) {
      carry_out(waiting_.substr(0, end));
      waiting_.erase(0, end + 1);
    }
  }

 private:
  void carry_out(const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    words >> verb;
    if (verb == "sas") return say({{"sas", fleet_.sas()}, {"violations", fleet_.violations()}});
    std::size_t from = 0, to = 0, at_once = 0;
    double seconds = 0;
    words >> from >> to >> at_once >> seconds;
    using culvert::ike::CommandVerb;
    if (!words || at_once == 0 || from >= to || (verb != "initiate" && verb != "rekey")) {
      return say({{"error", "not a command: " + line}});
    }
    fleet_.command(verb == "rekey" ? CommandVerb::rekey_child : CommandVerb::initiate, from, to,
                   at_once, std::chrono::duration<double>(seconds),
                   [](const culvert::load::Outcome& outcome) { say(render(outcome)); });
  }

  culvert::runtime::EventLoop& loop_;
  Fleet& fleet_;
  std::string waiting_;
};

int fail(const std::string& why) {
  std::cerr << "ike_load: " << why << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  culvert::load::FleetOptions options;
  CLI::App app("The far ends of many tunnels: real IKE towards one gateway, commands on stdin.");
  app.add_option("--peers", options.peers, "how many")->check(CLI::Range(1, 1'000'000));
  app.add_option("--gateway", options.gateway, "its address")->required();
  app.add_option("--gateway-id", options.gateway_id, "its identity")->required();
  app.add_option("--first-address", options.first_address, "of the first peer")->required();
  app.add_option("--first-network", options.first_network, "behind the first peer")->required();
  app.add_option("--gateway-networks", options.gateway_networks, "behind the gateway")->required();
  app.add_option("--psk", options.psk, "of all peers")->envname("CULVERT_LOAD_PSK")->required();
  app.add_option("--proposal", options.ike_proposal, "for the IKE SA")->required();
  app.add_option("--esp-proposal", options.esp_proposal, "for the child SA")->required();
  CLI11_PARSE(app, argc, argv);

  const auto loop = culvert::runtime::EventLoop::create();
  if (!loop) return fail(loop.error());
  Fleet fleet(**loop, options);
  if (const auto opened = fleet.open(); !opened) return fail(opened.error());
  Commands commands(**loop, fleet);
  if (const auto added = (*loop)->add(STDIN_FILENO, [&] { commands.read(); }); !added) {
    return fail(added.error());
  }
  say({{"peers", fleet.size()}});
  (*loop)->run();
  return 0;
}
