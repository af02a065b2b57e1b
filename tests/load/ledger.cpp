#include "tests/load/ledger.hpp"

namespace culvert::load {

Tally& Tally::operator+=(const Tally& other) {
  sent += other.sent;
  answered += other.answered;
  duplicates += other.duplicates;
  by_first_sas += other.by_first_sas;
  by_later_sas += other.by_later_sas;
  without_sa += other.without_sa;
  unknown_spi += other.unknown_spi;
  icv_wrong += other.icv_wrong;
  malformed += other.malformed;
  return *this;
}

void Ledger::on_sent(std::size_t peer, channel::Spi spi, Instant now) {
  Account& account = accounts_[peer];
  account.unanswered[++account.tally.sent] = {spi, now};
  if (!account.first_out) account.first_out = spi;
  ++under_way_;
}

void Ledger::on_answer(std::size_t peer, std::uint64_t number, channel::Spi spi, Instant now) {
  Account& account = accounts_[peer];
  Tally& tally = account.tally;
  const auto sent = account.unanswered.find(number);
  if (sent == account.unanswered.end()) {
    ++(number != 0 && number <= tally.sent ? tally.duplicates : tally.malformed);
    return;
  }
  if (!account.first_in) account.first_in = spi;
  const bool by_first_out = sent->second.spi == account.first_out;
  const bool by_first_in = spi == account.first_in;
  ++tally.answered;
  if (by_first_out && by_first_in) ++tally.by_first_sas;
  if (!by_first_out && !by_first_in) ++tally.by_later_sas;
  milliseconds_.push_back(
      std::chrono::duration<double, std::milli>(now - sent->second.when).count());
  account.unanswered.erase(sent);
  --under_way_;
}

Tally Ledger::total() const {
  Tally sum;
  for (const Account& account : accounts_) sum += account.tally;
  return sum;
}

std::vector<Unanswered> Ledger::unanswered() const {
  std::vector<Unanswered> all;
  for (std::size_t peer = 0; peer < accounts_.size(); ++peer) {
    for (const auto& [number, sent] : accounts_[peer].unanswered) {
      all.push_back({peer, number, sent.spi, sent.when});
    }
  }
  return all;
}

}  // namespace culvert::load
