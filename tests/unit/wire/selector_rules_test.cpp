#include "wire/selector_rules.hpp"

#include <catch2/catch.hpp>

namespace culvert::wire {
namespace {

std::vector<TrafficSelector> parsed_all(std::initializer_list<std::string_view> texts) {
  std::vector<TrafficSelector> all;
  for (const auto text : texts) all.push_back(TrafficSelector::parse(text).value());
  return all;
}

}  // namespace

TEST_CASE("selector rules: each pair of one family, either way, is a rule") {
  CHECK(rules_between(parsed_all({"10.1.0.0/24"}), parsed_all({"10.2.0.0/24"})) == 2);
  CHECK(rules_between(parsed_all({"10.1.0.0/24", "2001:db8::/32"}),
                      parsed_all({"10.2.0.0/24", "10.3.0.0/24", "2001:db9::/32"})) == 6);
  CHECK(rules_between(parsed_all({"10.1.0.0/24"}), parsed_all({"2001:db9::/32"})) == 0);
}

TEST_CASE("selector rules: prefixes of one length, and single ports, are of one shape") {
  const auto shapes = [](std::initializer_list<std::string_view> local,
                         std::initializer_list<std::string_view> remote) {
    return shapes_between(parsed_all(local), parsed_all(remote)).size();
  };
  CHECK(shapes({"10.1.0.0/24", "10.9.0.0/24"}, {"10.2.0.0/24", "10.3.0.0/24"}) == 1);
  CHECK(shapes({"10.1.0.0/24[tcp/80]"}, {"10.2.0.0/24[tcp/443]", "10.2.0.0/24[tcp/22]"}) == 1);
  CHECK(shapes({"10.1.0.0/24", "10.9.0.0/25"}, {"10.2.0.0/24", "10.3.0.0/23"}) == 4);
  CHECK(shapes({"10.1.0.0/24"}, {"10.2.0.0/24", "10.2.0.0/24[tcp]", "10.2.0.0/24[tcp/0-1023]"}) ==
        3);
  CHECK(shapes({"10.1.0.0/24", "::/0"}, {"10.2.0.0/24"}) == 1);
  CHECK(shapes({"0.0.0.0/0", "::/0"}, {"0.0.0.0/0", "::/0"}) == 2);
  // A range is of the prefix that holds it; from one side to the other is not the way back.
  CHECK(shapes_between(parsed_all({"10.1.0.5-10.1.0.130"}), parsed_all({"10.2.0.0/16"})) ==
        shapes_between(parsed_all({"10.1.0.0/24"}), parsed_all({"10.2.0.0/16"})));
  CHECK(shapes_between(parsed_all({"10.1.0.0/24"}), parsed_all({"10.2.0.0/16"})) !=
        shapes_between(parsed_all({"10.2.0.0/16"}), parsed_all({"10.1.0.0/24"})));
}

TEST_CASE("selector rules: what no packet meets by its ports asks for none") {
  CHECK(shapes_between(parsed_all({"10.1.0.0/24[tcp/opaque]"}), parsed_all({"10.2.0.0/24[tcp]"})) ==
        shapes_between(parsed_all({"10.1.0.0/24[tcp]"}), parsed_all({"10.2.0.0/24[tcp]"})));
}

}  // namespace culvert::wire
