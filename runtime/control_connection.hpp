// One client of a control socket: bytes to lines, lines to answers. Private to control_server.cpp.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "runtime/control_server.hpp"
#include "runtime/event_loop.hpp"

namespace culvert::runtime {

class ControlConnection {
 public:
  /// `wake` is called when an answer given outside of the server's poll leaves something to do
  /// there.
  ControlConnection(int descriptor, std::size_t answer_bytes, std::function<void()> wake);
  ControlConnection(const ControlConnection&) = delete;
  ControlConnection& operator=(const ControlConnection&) = delete;
  ~ControlConnection();

  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] Instant last_progress() const { return last_progress_; }
  /// A request was taken and has no answer yet.
  [[nodiscard]] bool waits_for_answer() const { return waits_for_answer_; }
  [[nodiscard]] bool wants_input() const;
  [[nodiscard]] bool wants_output() const { return sent_ < output_.size(); }
  /// Nothing more will come of it: close it.
  [[nodiscard]] bool is_done() const;

  /// Reads what is there, at most about `line_bytes`.
  void read_some(std::size_t line_bytes);
  void write_some();
  /// The next request when the one before has been answered and the answer read; marks it taken.
  [[nodiscard]] std::optional<std::string> take_line();
  /// The buffered input is over the limit without a line's end.
  [[nodiscard]] bool line_too_long(std::size_t line_bytes) const;

  /// The answer is made in slices, and the next can be made.
  [[nodiscard]] bool wants_slice() const { return slices_ != nullptr && !wants_output(); }
  void make_slice();

  /// Answers the request that was taken.
  void answer(const nlohmann::json& message);
  void answer_in_slices(std::unique_ptr<SlicedResult> result);
  /// Answers, and closes once the answer is written.
  void refuse(const nlohmann::json& message);

 private:
  int descriptor_;
  std::size_t answer_bytes_;
  std::function<void()> wake_;
  std::string input_, output_;
  std::size_t sent_ = 0;      ///< bytes of output_ that are written
  std::size_t searched_ = 0;  ///< bytes of input_ known to hold no newline
  bool waits_for_answer_ = false;
  std::unique_ptr<SlicedResult> slices_;  ///< of an answer that has begun
  bool peer_finished_ = false;            ///< no more requests will come
  bool refused_ = false;                  ///< close after the output
  bool broken_ = false;                   ///< nobody is there
  Instant last_progress_;
};

/// The two shapes of an answer (docs/reference/control-protocol.md).
nlohmann::json control_error(std::string_view code, std::string_view message);
nlohmann::json control_result(const nlohmann::json& result);

/// What a Responder holds.
struct Responder::Pending {
  std::weak_ptr<ControlConnection> connection;
  bool answered = false;

  explicit Pending(std::weak_ptr<ControlConnection> asker) : connection(std::move(asker)) {}
  // One request, one answer: a copy that ended would answer too.
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending();

  void answer(const nlohmann::json& message);
  void answer_in_slices(std::unique_ptr<SlicedResult> result);
};

}  // namespace culvert::runtime
