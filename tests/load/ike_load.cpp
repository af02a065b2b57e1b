// The far ends of many tunnels. Commands come on standard input, one a line, answers go out as
// JSON:
//
//   initiate FROM TO AT_ONCE SECONDS    peers FROM to TO - 1, so many at once, spread over SECONDS
//   rekey    FROM TO AT_ONCE SECONDS    their child SAs
//   sas                                 how many SAs the peers hold
//   traffic FROM TO PER_SECOND          echo requests through their tunnels, so many a second
//   traffic                             what became of them
//   traffic stop                        no more of them; answers after what is under way
#include <iostream>
#include <sstream>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "tests/load/answers.hpp"

namespace {

using culvert::load::Fleet;
using nlohmann::json;

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
    if (verb == "traffic") {
      std::string what;
      std::getline(words >> std::ws, what);
      return carry_out_traffic(line, what);
    }
    if (verb == "sas") return say({{"sas", fleet_.sas()}, {"violations", fleet_.violations()}});
    std::size_t from = 0, to = 0, at_once = 0;
    double seconds = 0;
    words >> from >> to >> at_once >> seconds;
    using culvert::ike::CommandVerb;
    if (!words || at_once == 0 || from >= to || (verb != "initiate" && verb != "rekey")) {
      return refuse(line);
    }
    fleet_.command(verb == "rekey" ? CommandVerb::rekey_child : CommandVerb::initiate, from, to,
                   at_once, std::chrono::duration<double>(seconds),
                   [](const culvert::load::Outcome& outcome) { say(render(outcome)); });
  }

  void carry_out_traffic(const std::string& line, const std::string& what) {
    culvert::load::Traffic& traffic = fleet_.traffic();
    if (what.empty()) return say(render(traffic));
    if (what == "stop") return traffic.stop(kGrace, [&traffic] { say(render(traffic)); });
    std::istringstream words(what);
    std::size_t from = 0, to = 0;
    double per_second = 0;
    words >> from >> to >> per_second;
    if (!words || from >= to || to > fleet_.size() || per_second <= 0 ||
        per_second > culvert::load::kMostPacketsPerSecond) {
      return refuse(line);
    }
    traffic.start(from, to, per_second);
    say({{"per_second", per_second}});
  }

  static void refuse(const std::string& line) { say({{"error", "not a command: " + line}}); }

  /// For answers that are under way when traffic is stopped.
  static constexpr std::chrono::seconds kGrace{3};

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
  app.add_option("--host", options.host, "behind the gateway, answers echo requests")->required();
  app.add_flag("--udp-encapsulation", options.udp_encapsulation, "of ESP, also without a NAT");
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
