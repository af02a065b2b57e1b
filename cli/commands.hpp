// The verbs of the culvert command: ask the daemons, render. Each returns the exit code.
#pragma once

#include <chrono>
#include <string>

namespace culvert::cli {

/// What every verb is given.
struct Options {
  std::string instance = "default";
  bool json = false;
};

int check(const Options& options, const std::string& file);
int status(const Options& options);
int sas(const Options& options);
int policies(const Options& options);
int routes(const Options& options);
int neighbors(const Options& options);
int counters(const Options& options, bool drops_only, bool all);
/// `verb`: "initiate", "terminate" or "rekey".
int negotiate(const Options& options, const std::string& verb, const std::string& name, bool ike,
              std::chrono::seconds timeout);

}  // namespace culvert::cli
