#include "ike/identity/expiry_watch.hpp"

namespace culvert::ike {
namespace {

constexpr std::int64_t kDay = 24 * 3600;

int stage_of(std::int64_t seconds_left) {
  if (seconds_left < 0) return 4;
  if (seconds_left < kDay) return 3;
  if (seconds_left < 7 * kDay) return 2;
  return seconds_left < 30 * kDay ? 1 : 0;
}

}  // namespace

std::vector<ExpiryWatch::Notice> ExpiryWatch::due(const std::vector<Certificates::Loaded>& loaded,
                                                  std::int64_t now) {
  std::vector<Notice> notices;
  for (const Certificates::Loaded& one : loaded) {
    const std::int64_t left = one.not_after - now;
    const int stage = stage_of(left);
    int& last = stages_[one.file + '\n' + one.subject + '\n' + std::to_string(one.not_after)];
    if (stage > last) notices.push_back({one, left < 0 ? (left + 1) / kDay - 1 : left / kDay});
    last = stage;
  }
  return notices;
}

}  // namespace culvert::ike
