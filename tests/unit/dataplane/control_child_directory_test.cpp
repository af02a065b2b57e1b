#include <catch2/catch.hpp>

#include "dataplane/control/child_directory.hpp"

namespace culvert::dataplane::control {

TEST_CASE("children: numbered as in the file, manual names behind them, a pair shares one") {
  config::Config config;
  config::Child office, lab;
  office.name = "office";
  lab.name = "lab";
  lab.index = 1;
  config::Connection branch, site;
  branch.name = "branch";
  branch.children = {office};
  site.name = "site";
  site.children = {lab};
  config.connections = {branch, site};
  config::ManualSa in, out, other;
  in.name = out.name = "pair";
  in.direction = config::ManualSa::Direction::in;
  other.name = "other";
  config.manual_sas = {in, out, other};

  const ChildDirectory children(config);
  CHECK(children.size() == 4);
  CHECK(children.negotiable() == 2);
  CHECK(children.name(1) == ChildName{"site", "lab", false});
  CHECK(children.find_manual("pair") == 2);
  CHECK(children.find_manual("other") == 3);
  CHECK(children.find_manual("office") == children.size());  // not a manual one
  CHECK(children.name(2) == ChildName{"manual", "pair", true, true, true});
  CHECK(children.name(3) == ChildName{"manual", "other", true, false, true});
}

}  // namespace culvert::dataplane::control
