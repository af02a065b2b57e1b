#include "tests/load/ledger.hpp"

#include <catch2/catch.hpp>

namespace culvert::load {
namespace {

using namespace std::chrono_literals;

constexpr channel::Spi kFirstOut{1}, kFirstIn{2}, kLaterOut{3}, kLaterIn{4};

}  // namespace

TEST_CASE("load: a packet is lost until its answer comes, and counts once") {
  Ledger ledger(2);
  CHECK(ledger.next_number(1) == 1);
  ledger.on_sent(1, kFirstOut, 10ms);
  ledger.on_sent(1, kFirstOut, 20ms);
  CHECK(ledger.under_way() == 2);
  ledger.on_answer(1, 2, kFirstIn, 25ms);
  CHECK(ledger.of(1).lost() == 1);
  const auto unanswered = ledger.unanswered();
  REQUIRE(unanswered.size() == 1);
  CHECK(unanswered.front().peer == 1);
  CHECK(unanswered.front().number == 1);
  CHECK(unanswered.front().spi == kFirstOut);
  CHECK(unanswered.front().sent_at == 10ms);
  ledger.on_answer(1, 2, kFirstIn, 30ms);
  CHECK(ledger.of(1).duplicates == 1);
  CHECK(ledger.of(1).lost() == 1);
  CHECK(ledger.milliseconds() == std::vector<double>{5});
}

TEST_CASE("load: an answer to what was never sent is no answer") {
  Ledger ledger(1);
  ledger.on_sent(0, kFirstOut, 10ms);
  ledger.on_answer(0, 0, kFirstIn, 20ms);
  ledger.on_answer(0, 2, kFirstIn, 20ms);
  CHECK(ledger.of(0).malformed == 2);
  CHECK(ledger.of(0).answered == 0);
  CHECK(ledger.under_way() == 1);
}

TEST_CASE("load: there and back by the first SAs, by later ones, or half by each") {
  Ledger ledger(1);
  for (const channel::Spi out : {kFirstOut, kFirstOut, kLaterOut, kLaterOut}) {
    ledger.on_sent(0, out, 10ms);
  }
  ledger.on_answer(0, 1, kFirstIn, 20ms);
  ledger.on_answer(0, 3, kFirstIn, 20ms);
  ledger.on_answer(0, 2, kLaterIn, 20ms);
  CHECK(ledger.of(0).by_first_sas == 1);
  CHECK(ledger.of(0).by_later_sas == 0);
  ledger.on_answer(0, 4, kLaterIn, 20ms);
  CHECK(ledger.of(0).by_first_sas == 1);
  CHECK(ledger.of(0).by_later_sas == 1);
  CHECK(ledger.of(0).answered == 4);
}

TEST_CASE("load: all peers' counts add up") {
  Ledger ledger(3);
  ledger.on_sent(0, kFirstOut, 10ms);
  ledger.on_sent(2, kFirstOut, 10ms);
  ledger.on_answer(2, 1, kFirstIn, 11ms);
  ledger.on_answer(2, 1, kFirstIn, 12ms);
  ledger.of(0).without_sa = 1;
  ledger.of(1).unknown_spi = 2;
  ledger.of(1).icv_wrong = 3;
  ledger.of(2).malformed = 4;
  const Tally total = ledger.total();
  CHECK(total.sent == 2);
  CHECK(total.answered == 1);
  CHECK(total.lost() == 1);
  CHECK(total.duplicates == 1);
  CHECK(total.by_first_sas == 1);
  CHECK(total.without_sa == 1);
  CHECK(total.unknown_spi == 2);
  CHECK(total.icv_wrong == 3);
  CHECK(total.malformed == 4);
}

}  // namespace culvert::load
