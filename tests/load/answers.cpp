#include "tests/load/answers.hpp"

#include <algorithm>
#include <cstdio>

#include <sys/resource.h>

namespace culvert::load {
namespace {

using nlohmann::json;

/// Of what went wrong, so many are told one by one.
constexpr std::size_t kMostTold = 20;

double processor_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

json distribution(const std::vector<double>& sorted) {
  const auto at = [&](double share) -> double {
    if (sorted.empty()) return 0;
    return sorted[static_cast<std::size_t>(static_cast<double>(sorted.size() - 1) * share)];
  };
  return {{"median", at(0.5)}, {"p95", at(0.95)}, {"most", at(1)}};
}

std::string hexadecimal(channel::Spi spi) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", static_cast<unsigned>(spi));
  return text;
}

json render(const Tally& tally) {
  return {{"sent", tally.sent},
          {"answered", tally.answered},
          {"lost", tally.lost()},
          {"duplicates", tally.duplicates},
          {"without_sa", tally.without_sa},
          {"unknown_spi", tally.unknown_spi},
          {"icv_wrong", tally.icv_wrong},
          {"malformed", tally.malformed}};
}

bool is_flawless(const Tally& tally) {
  return tally.lost() + tally.duplicates + tally.without_sa + tally.unknown_spi + tally.icv_wrong +
             tally.malformed ==
         0;
}

/// How many tunnels carried packets by their first SAs and by later ones, and those in which
/// anything went wrong.
json render_tunnels(const Ledger& ledger) {
  std::size_t first = 0, later = 0, flawed = 0;
  json told = json::array();
  for (std::size_t peer = 0; peer < ledger.size(); ++peer) {
    const Tally& tally = ledger.of(peer);
    if (tally.by_first_sas != 0) ++first;
    if (tally.by_later_sas != 0) ++later;
    if (is_flawless(tally)) continue;
    if (++flawed > kMostTold) continue;
    told.push_back(render(tally));
    told.back()["peer"] = name_of(peer);
  }
  return {{"by_first_sas", first}, {"by_later_sas", later}, {"flawed", flawed}, {"told", told}};
}

}  // namespace

json render(const Outcome& outcome) {
  return {{"done", outcome.done},
          {"failed", outcome.failed},
          {"seconds", outcome.seconds},
          {"per_second", static_cast<double>(outcome.done) / outcome.seconds},
          {"milliseconds", distribution(outcome.milliseconds)},
          {"retransmits", outcome.retransmits},
          {"refused_by_kernel", outcome.refused_by_kernel},
          {"failures", outcome.failures},
          {"first_failure", outcome.first_failure},
          {"processor_seconds", processor_seconds()}};
}

json render(const Traffic& traffic) {
  const Ledger& ledger = traffic.ledger();
  json answer = render(ledger.total());
  std::vector<double> round_trips = ledger.milliseconds();
  std::ranges::sort(round_trips);
  answer["seconds"] = traffic.seconds();
  answer["milliseconds"] = distribution(round_trips);
  answer["refused_by_kernel"] = traffic.refused_by_kernel();
  answer["overrun_in_kernel"] = traffic.overrun_in_kernel();
  answer["tunnels"] = render_tunnels(ledger);
  answer["losses"] = json::array();
  for (const Unanswered& one : ledger.unanswered()) {
    if (answer["losses"].size() == kMostTold) break;
    const auto after = std::chrono::duration<double>(one.sent_at - traffic.began());
    answer["losses"].push_back({{"peer", name_of(one.peer)},
                                {"number", one.number},
                                {"spi", hexadecimal(one.spi)},
                                {"seconds", after.count()}});
  }
  answer["processor_seconds"] = processor_seconds();
  return answer;
}

}  // namespace culvert::load
