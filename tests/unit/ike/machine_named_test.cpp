// Names that the operator may give, and what is said of those that nobody has.
#include <catch2/catch.hpp>

#include "ike/machine/named.hpp"

using namespace culvert;
using namespace culvert::ike;
using Catch::Matchers::Contains;
using Catch::Matchers::Equals;

namespace {

config::Connection connection(const std::string& name, const std::vector<std::string>& children) {
  config::Connection made;
  made.name = name;
  for (const std::string& child : children) made.children.emplace_back().name = child;
  return made;
}

/// "branch/office", "branch" for all of it, or what is said.
class Names {
 public:
  explicit Names(std::vector<config::Connection> connections)
      : connections_(std::move(connections)) {}
  [[nodiscard]] std::string find(CommandVerb verb, std::string_view name) const {
    std::vector<const config::Connection*> all;
    for (const config::Connection& one : connections_) all.push_back(&one);
    const auto named = find_named(all, verb, name);
    if (!named) return "error: " + named.error();
    return named->connection->name +
           (named->child == nullptr ? std::string() : "/" + named->child->name);
  }

 private:
  std::vector<config::Connection> connections_;
};

using enum CommandVerb;

}  // namespace

TEST_CASE("names: a connection, or a child of one") {
  const Names names({connection("branch", {"office"}), connection("hq", {"lab", "sales"})});
  for (const CommandVerb verb : {initiate, terminate}) {
    CHECK(names.find(verb, "branch") == "branch");
    CHECK(names.find(verb, "hq") == "hq");
    CHECK(names.find(verb, "sales") == "hq/sales");
    CHECK(names.find(verb, "hq/sales") == "hq/sales");
  }
  CHECK(names.find(rekey_ike, "hq") == "hq");
  CHECK_THAT(names.find(rekey_ike, "sales"), Contains("no such connection: \"sales\""));
  CHECK_THAT(names.find(rekey_ike, "hq/sales"), Contains("error"));
}

TEST_CASE("names: a rekey is of a child, or of a connection's only one") {
  const Names names({connection("branch", {"office"}), connection("hq", {"lab", "hq"})});
  CHECK(names.find(rekey_child, "office") == "branch/office");
  CHECK(names.find(rekey_child, "branch") == "branch/office");
  // A child may be named like its connection, or like another's.
  CHECK(names.find(rekey_child, "hq") == "hq/hq");
  CHECK(names.find(terminate, "hq") == "hq");
  CHECK(names.find(terminate, "hq/hq") == "hq/hq");
  const Names two({connection("hq", {"lab", "sales"})});
  CHECK_THAT(two.find(rekey_child, "hq"),
             Equals("error: \"hq\" is not one child: write hq/lab, hq/sales"));
}

TEST_CASE("names: of children of one name none is taken silently") {
  const Names names({connection("a", {"site"}), connection("b", {"site"})});
  for (const CommandVerb verb : {initiate, terminate, rekey_child}) {
    CHECK_THAT(names.find(verb, "site"),
               Equals("error: \"site\" is not one child: write a/site, b/site"));
    CHECK(names.find(verb, "b/site") == "b/site");
  }
}

TEST_CASE("names: one that nobody has is answered with the nearest, and with ten of all") {
  std::vector<config::Connection> many;
  for (int n = 10; n < 60; ++n) many.push_back(connection("peer" + std::to_string(n), {"all"}));
  many.push_back(connection("branch", {"office"}));
  const Names names(std::move(many));
  const std::string said = names.find(initiate, "ofice");
  CHECK_THAT(said, Contains("no such connection or child: \"ofice\" (did you mean \"office\"?)"));
  CHECK_THAT(said, Contains("there are: peer10, peer10/all, peer11"));
  CHECK_THAT(said, Contains(" and 92 more"));
  CHECK(said.size() < 300);
  for (const char* nobody : {"", "/", "branch/", "/office", "branch/ofice", "branch/office/"}) {
    CHECK_THAT(names.find(terminate, nobody), Contains("no such connection or child"));
  }
  CHECK_THAT(Names({}).find(initiate, "x"), Contains("none is configured"));
}
