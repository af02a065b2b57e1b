#include "dataplane/tables/drop_reason.hpp"

#include <cctype>
#include <set>
#include <string>

#include <catch2/catch.hpp>

namespace culvert::dataplane {
namespace {

TEST_CASE("drop reasons: the table has a row for each, in order, under a name of its own") {
  std::set<std::string_view> names;
  std::size_t index = 0;
  for (const DropReasonInfo& row : all_drop_reasons()) {
    CAPTURE(std::string(row.name));
    CHECK(static_cast<std::size_t>(row.reason) == index);
    CHECK(&info(row.reason) == &row);
    CHECK(names.insert(row.name).second);
    ++index;
  }
  CHECK(index == kDropReasons);
}

TEST_CASE("drop reasons: names are snake_case labels, and each says what it means and what to do") {
  for (const DropReasonInfo& row : all_drop_reasons()) {
    CAPTURE(std::string(row.name));
    CHECK_FALSE(row.name.empty());
    for (const char letter : row.name) {
      CHECK((std::islower(static_cast<unsigned char>(letter)) != 0 ||
             std::isdigit(static_cast<unsigned char>(letter)) != 0 || letter == '_'));
    }
    CHECK(row.meaning.ends_with('.'));
    CHECK(row.remedy.ends_with('.'));
    CHECK((row.rfc.empty() || row.rfc.starts_with("RFC ")));
  }
}

TEST_CASE("drop reasons: what calls itself harmless is ordinary, and nothing serious does") {
  for (const DropReasonInfo& row : all_drop_reasons()) {
    CAPTURE(std::string(row.name));
    const bool is_nothing = row.remedy.starts_with("Usually") || row.remedy == "Nothing.";
    if (is_nothing) CHECK(row.severity == DropSeverity::ordinary);
    if (row.remedy.contains("armless")) CHECK(row.severity != DropSeverity::serious);
    CHECK_FALSE(to_string(row.severity).empty());
  }
  CHECK(info(DropReason::not_for_us).severity == DropSeverity::ordinary);
  CHECK(info(DropReason::policy_discard).severity == DropSeverity::ordinary);
  CHECK(info(DropReason::no_policy_match).severity == DropSeverity::notable);
  CHECK(info(DropReason::icv_mismatch).severity == DropSeverity::serious);
  CHECK(to_string(DropSeverity::serious) == "serious");
}

TEST_CASE("drop reasons: who finds the packet pool empty is shown where its buffers are") {
  // How many there are follows from interfaces and workers (ports::packets_in_flight).
  const std::string_view remedy = info(DropReason::no_buffer).remedy;
  for (const DropReason full :
       {DropReason::punt_queue_full, DropReason::handoff_queue_full, DropReason::reassembly_full}) {
    CHECK(remedy.contains(info(full).name));
  }
  CHECK_FALSE(remedy.starts_with("Raise dataplane.memory_mib"));
}

TEST_CASE("drop reasons: the three directions have names that differ") {
  CHECK(to_string(DropDirection::in) == "in");
  CHECK(to_string(DropDirection::out) == "out");
  CHECK(to_string(DropDirection::local) == "local");
}

}  // namespace
}  // namespace culvert::dataplane
