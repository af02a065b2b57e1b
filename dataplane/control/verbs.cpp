#include "dataplane/control/verbs.hpp"

#include "dataplane/control/report_json.hpp"

namespace culvert::dataplane::control {

void register_verbs(runtime::ControlServer& server, Reporter& reporter) {
  using nlohmann::json;
  using runtime::Responder;
  server.handle("status", [&reporter](const json&, const Responder& responder) {
    responder.ok_in_slices(reporter.status(runtime::now()));
  });
  server.handle("sas", [&reporter](const json&, const Responder& responder) {
    responder.ok_in_slices(reporter.sas());
  });
  server.handle("policies", [&reporter](const json&, const Responder& responder) {
    responder.ok_in_slices(reporter.policies());
  });
  server.handle("counters", [&reporter](const json& args, const Responder& responder) {
    const bool all = args.value("all", false);
    responder.ok(counters_json(reporter.drops(all), reporter.totals(), reporter.workers()));
  });
  server.handle("routes", [&reporter](const json&, const Responder& responder) {
    responder.ok(to_json(reporter.routes()));
  });
  server.handle("neighbors", [&reporter](const json&, const Responder& responder) {
    responder.ok(to_json(reporter.neighbors(runtime::now())));
  });
}

}  // namespace culvert::dataplane::control
