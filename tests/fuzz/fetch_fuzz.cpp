// What culvert-fetch and the key daemon read from each other, in any pieces: the first octet of an
// input says in which.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "ike/fetch/frames.hpp"

namespace fetch = culvert::ike::fetch;

namespace {

void require(bool claim) {
  if (!claim) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = data[0] + std::size_t{1};
  fetch::Frames frames(fetch::kMostRequestBytes);
  for (std::size_t at = 1; at < size; at += piece) {
    if (!frames.add({data + at, std::min(piece, size - at)})) break;
    while (const auto frame = frames.next()) {
      require(frame->size() <= fetch::kMostRequestBytes);
      if (const auto request = fetch::parse_request(*frame)) {
        const auto again = fetch::encode(*request);
        require(std::equal(frame->begin(), frame->end(), again.begin() + 4, again.end()));
      }
      if (const auto answer = fetch::parse_answer(*frame)) {
        const auto again = fetch::encode(*answer);
        require(std::equal(frame->begin(), frame->end(), again.begin() + 4, again.end()));
      }
    }
  }
  return 0;
}
