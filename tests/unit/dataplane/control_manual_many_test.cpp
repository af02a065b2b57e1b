// Many manual SAs change at once, or several under one key and SPI: what is sent from when their
// numbers are told until the policies are in force has to do with how long that takes.
#include <algorithm>
#include <string>

#include <catch2/catch.hpp>

#include "runtime/log.hpp"
#include "tests/unit/dataplane/growth.hpp"
#include "tests/unit/dataplane/manual_gateway.hpp"

namespace culvert::dataplane::control::manual_reload {
namespace {

/// All of them change, and their policies are built.
class Changing {
 public:
  explicit Changing(std::uint32_t sas) : gateway_(crypto::esp::make_engine(), few(2 * sas)) {
    for (std::uint32_t number = 0; number < sas; ++number) {
      gateway_.add("pair " + std::to_string(number), kOut, 0x2000 + number);
    }
    REQUIRE(gateway_.reload() == "");
  }
  void change() {
    for (ManualSa& sa : gateway_.file.manual_sas) {
      sa.headers.hop_limit = static_cast<std::uint8_t>(hop_limit_);
    }
    ++hop_limit_;
    REQUIRE(gateway_.apply() == "");
    gateway_.directory.take(gateway_.file, gateway_.associations.borne());
    gateway_.policies.publish([&] {
      least_ = std::min(least_, test::seconds_of([&] { gateway_.manual_sas.begin_numbers(); }));
    });
    gateway_.manual_sas.remove_replaced();
  }
  [[nodiscard]] double seconds() const { return least_; }

 private:
  Gateway gateway_;
  unsigned hop_limit_ = 3;
  double least_ = 1e9;
};

}  // namespace

TEST_CASE("manual successor: how long the numbers of many take follows from how many there are") {
  runtime::set_log_level(runtime::Level::warning);  // of a line an SA nothing is learnt
  Changing few_of_them(100), many(1000);
  // Ten times as many: in a hundred times as long where each looks at all. Noise only adds.
  double times = 0;
  for (int round = 0; round < 6 && (round < 2 || times > 30); ++round) {
    few_of_them.change();
    many.change();
    times = many.seconds() / few_of_them.seconds();
  }
  runtime::set_log_level(runtime::Level::info);
  CHECK(times <= 30);
}

TEST_CASE("manual successor: those before end where the first of several begins") {
  // Given two outbound SAs with one key and SPI, to two peers
  Gateway gateway;
  gateway.add("one", kOut, 0x2001);
  gateway.add("two", kOut, 0x2001).remote = test::address("198.51.100.3");
  gateway.file.manual_sas[1].remote_ts = {wire::TrafficSelector::of(test::prefix("10.3.0.0/24"))};
  REQUIRE(gateway.reload() == "");
  const SharedAdd add(1);
  const auto sas = [&] {
    std::vector<OutboundSa*> found;
    for (const PolicyEntry& entry : gateway.tables->spd->entries()) {
      found.push_back(gateway.tables->sad->outbound(entry.outbound));
    }
    return found;
  };
  const std::vector<OutboundSa*> before = sas();
  REQUIRE(before.size() == 2);
  REQUIRE(reserve_sequence(*before[0], 50, add).count == 50);
  REQUIRE(reserve_sequence(*before[1], 80, add).count == 80);
  // When both change, one of them to begin at a number of its own
  for (ManualSa& sa : gateway.file.manual_sas) sa.headers.hop_limit = 9;
  gateway.file.manual_sas[1].first_sequence = GENERATE(1U, 10'000'000U);
  REQUIRE(gateway.apply() == "");
  std::uint64_t last = 0;
  gateway.publish([] {},
                  [&] {
                    for (OutboundSa* const sa : before) {
                      const SequenceBlock block = reserve_sequence(*sa, 1U << 20U, add);
                      last = std::max(last, block.first + block.count - 1);
                    }
                  });
  // Then neither begins at a number that one of those before could give out
  CHECK(last > 100'000);
  const std::vector<OutboundSa*> after = sas();
  CHECK(reserve_sequence(*after[0], 1, add).first == last + 1);
  CHECK(reserve_sequence(*after[1], 1, add).first ==
        std::max(last + 1, gateway.file.manual_sas[1].first_sequence));
}

}  // namespace culvert::dataplane::control::manual_reload
