// The key daemon's end of culvert-fetch: starts it, hands it requests, hears its answers. What
// comes from it is a stranger's: bounded, and never more than bytes.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "channel/mapping.hpp"
#include "ike/fetch/frames.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::ike {

/// Starts culvert-fetch, which lies beside our own program, with one socket and nothing else of
/// ours: before a key is read, as afterwards nothing is started any more. The error is a sentence.
[[nodiscard]] std::expected<channel::Descriptor, std::string> start_fetch_helper();

class Fetcher {
 public:
  using Result = std::expected<std::vector<std::uint8_t>, std::string>;
  using Finished = std::function<void(std::uint64_t id, const Result& result)>;

  Fetcher(runtime::EventLoop& loop, channel::Descriptor socket, Finished finished);
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;
  ~Fetcher();

  /// Every request ends with `finished`, in a later turn of the loop.
  void send(const fetch::Request& request);

 private:
  void on_readable();
  void lost(const std::string& why);

  runtime::EventLoop& loop_;
  channel::Descriptor socket_;
  Finished finished_;
  fetch::Frames frames_{fetch::kMostAnswerBytes};
  std::set<std::uint64_t> under_way_;
};

}  // namespace culvert::ike
