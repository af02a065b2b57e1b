// culvert: the operator's command. Parses arguments; the verbs are in commands.cpp.
#include <exception>
#include <functional>
#include <iostream>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/commands.hpp"

namespace {

using culvert::cli::Options;
using Verb = std::function<int()>;

CLI::App* add_verb(CLI::App& app, Options& options, const char* name, const char* help) {
  CLI::App* verb = app.add_subcommand(name, help);
  verb->add_flag("--json", options.json, "print JSON with a stable schema");
  verb->add_option("--instance", options.instance, "which gateway of this host")
      ->envname("CULVERT_INSTANCE");
  return verb;
}

int run(int argc, char** argv) {
  CLI::App app{"Culvert: ask and steer an IPsec gateway"};
  app.require_subcommand(1);
  app.set_version_flag("--version", CULVERT_VERSION);
  Options options;
  std::string file, name;
  bool drops_only = false, all = false, ike = false;
  int timeout_seconds = 30;
  Verb verb;

  CLI::App* check = add_verb(app, options, "check", "validate a configuration file");
  check->add_option("file", file, "the YAML file")->required();
  check->callback([&] { verb = [&] { return culvert::cli::check(options, file); }; });

  const auto simple = [&](const char* word, const char* help, int (*ask)(const Options&)) {
    add_verb(app, options, word, help)->callback([&options, &verb, ask] {
      verb = [&options, ask] { return ask(options); };
    });
  };
  simple("status", "what works, what does not, and what to do", culvert::cli::status);
  simple("sas", "the installed SAs with their traffic", culvert::cli::sas);
  simple("policies", "the SPD in the order of matching", culvert::cli::policies);
  simple("routes", "the routes", culvert::cli::routes);
  simple("neighbors", "neighbors by ARP and neighbor discovery", culvert::cli::neighbors);

  CLI::App* counters = add_verb(app, options, "counters", "packets by fate");
  counters->add_flag("--drops", drops_only, "only what was dropped, and why");
  counters->add_flag("--all", all, "also the reasons that no packet met");
  counters->callback(
      [&] { verb = [&] { return culvert::cli::counters(options, drops_only, all); }; });

  const auto negotiation = [&](const char* word, const char* help) {
    CLI::App* command = add_verb(app, options, word, help);
    command->add_option("name", name, "a connection or a child")->required();
    command->add_option("--timeout", timeout_seconds, "seconds to wait for the result")
        ->check(CLI::Range(1, 3600));
    command->callback([&, word] {
      verb = [&, word] {
        return culvert::cli::negotiate(options, word, name, ike,
                                       std::chrono::seconds(timeout_seconds));
      };
    });
    return command;
  };
  negotiation("initiate", "bring up a connection or child");
  negotiation("terminate", "take down a connection or child");
  negotiation("rekey", "rekey a child, or with --ike a connection's IKE SA")
      ->add_flag("--ike", ike, "rekey the IKE SA of the connection");

  CLI11_PARSE(app, argc, argv);
  return verb();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "culvert: " << error.what() << '\n';
    return 1;
  }
}
