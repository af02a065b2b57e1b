#include "benchmarks/cores.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <system_error>

namespace culvert::benchmarks {

std::vector<unsigned> parse_core_list(std::string_view text) {
  std::vector<unsigned> cores;
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    unsigned first = 0;
    auto read = std::from_chars(at, end, first);
    unsigned last = first;
    if (read.ec == std::errc() && read.ptr != end && *read.ptr == '-') {
      read = std::from_chars(read.ptr + 1, end, last);
    }
    if (read.ec != std::errc()) break;
    for (unsigned core = first; core <= last; ++core) cores.push_back(core);
    if (read.ptr == end) break;
    at = read.ptr + 1;  // behind the comma
  }
  return cores;
}

std::vector<unsigned> cores_to_measure_on(const std::vector<unsigned>& own,
                                          const std::vector<unsigned>& reachable,
                                          const std::vector<unsigned>& isolated) {
  std::vector<unsigned> unchosen, quiet;
  std::ranges::set_difference(reachable, isolated, std::back_inserter(unchosen));
  std::ranges::set_intersection(reachable, isolated, std::back_inserter(quiet));
  if (own != unchosen || own.empty()) return own;
  std::vector<unsigned> cores{own.front()};
  cores.insert(cores.end(), quiet.begin(), quiet.end());
  cores.insert(cores.end(), own.begin() + 1, own.end());
  return cores;
}

}  // namespace culvert::benchmarks
