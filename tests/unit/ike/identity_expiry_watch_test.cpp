#include <catch2/catch.hpp>

#include "ike/identity/expiry_watch.hpp"

namespace culvert::ike {
namespace {

constexpr std::int64_t kDay = 24 * 3600, kEnd = 2'000'000'000;
const std::vector<Certificates::Loaded> kOne{{"hq.pem", "own", "CN=hq", kEnd}};

}  // namespace

TEST_CASE("certificate expiry: one warning 30, 7 and 1 days ahead, and one when it has expired") {
  ExpiryWatch watch;
  std::vector<std::int64_t> days;
  for (std::int64_t now = kEnd - 40 * kDay; now < kEnd + 5 * kDay; now += 3600) {
    for (const auto& notice : watch.due(kOne, now)) days.push_back(notice.days_left);
  }
  CHECK(days == std::vector<std::int64_t>{29, 6, 0, -1});
}

TEST_CASE("certificate expiry: a daemon that starts late says the present stage at once") {
  ExpiryWatch watch;
  const auto notices = watch.due(kOne, kEnd + 3 * kDay);
  REQUIRE(notices.size() == 1);
  CHECK(notices.front().days_left == -3);
  CHECK(watch.due(kOne, kEnd + 4 * kDay).empty());
}

TEST_CASE("certificate expiry: a renewed certificate of the same file starts anew") {
  ExpiryWatch watch;
  CHECK(watch.due(kOne, kEnd - kDay / 2).size() == 1);
  auto renewed = kOne;
  renewed.front().not_after = kEnd + 365 * kDay;
  CHECK(watch.due(renewed, kEnd).empty());
  CHECK(watch.due(renewed, kEnd + 340 * kDay).size() == 1);
}

}  // namespace culvert::ike
