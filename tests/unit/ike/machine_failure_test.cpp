#include <set>
#include <string_view>

#include <catch2/catch.hpp>

#include "ike/machine/failure.hpp"

TEST_CASE("failures: every one has a name of its own, a source, a meaning and a remedy") {
  std::set<std::string_view> names;
  for (const auto& row : culvert::ike::all_failures()) {
    CHECK(names.insert(row.name).second);
    CHECK(row.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string_view::npos);
    CHECK(row.rfc.starts_with("RFC "));
    CHECK(row.meaning.ends_with("."));
    CHECK(row.remedy.ends_with("."));
    CHECK(&culvert::ike::info(row.failure) == &row);
  }
}
