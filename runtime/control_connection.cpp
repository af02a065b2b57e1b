#include "runtime/control_connection.hpp"

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include <sys/socket.h>
#include <unistd.h>

namespace culvert::runtime {
namespace {

constexpr std::size_t kReadBytes = 16U << 10U;
/// Per call of read_some: a client that writes without pause gets its turn, not the whole loop.
constexpr int kReadsPerCall = 4;
/// An answer in slices, before and behind its result: as `control_result` has it.
constexpr std::string_view kBeforeResult = R"({"ok":true,"result":)", kBehindResult = "}\n";

}  // namespace

ControlConnection::ControlConnection(int descriptor, std::size_t answer_bytes,
                                     std::function<void()> wake)
    : descriptor_(descriptor),
      answer_bytes_(answer_bytes),
      wake_(std::move(wake)),
      last_progress_(now()) {}

ControlConnection::~ControlConnection() { ::close(descriptor_); }

bool ControlConnection::wants_input() const {
  // One request at a time: what a client sends ahead waits in the socket, not in our memory.
  return !waits_for_answer_ && slices_ == nullptr && !wants_output() && !peer_finished_ &&
         !refused_ && !broken_ && input_.find('\n', searched_) == std::string::npos;
}

bool ControlConnection::is_done() const {
  if (broken_) return true;
  if (waits_for_answer_ || slices_ != nullptr || wants_output()) return false;
  return refused_ || (peer_finished_ && input_.find('\n', searched_) == std::string::npos);
}

void ControlConnection::read_some(std::size_t line_bytes) {
  std::array<char, kReadBytes> buffer;
  for (int reads = 0; reads < kReadsPerCall && wants_input() && !line_too_long(line_bytes);
       ++reads) {
    const ssize_t count = ::recv(descriptor_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count < 0) {
      broken_ = errno != EAGAIN && errno != EINTR;
      return;
    }
    if (count == 0) {
      peer_finished_ = true;
      return;
    }
    last_progress_ = now();
    input_.append(buffer.data(), static_cast<std::size_t>(count));
    const std::size_t end = input_.find('\n', searched_);
    searched_ = end == std::string::npos ? input_.size() : end;
  }
}

void ControlConnection::write_some() {
  while (wants_output()) {
    const ssize_t count = ::send(descriptor_, output_.data() + sent_, output_.size() - sent_,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0) {
      broken_ = errno != EAGAIN && errno != EINTR;
      return;
    }
    last_progress_ = now();
    sent_ += static_cast<std::size_t>(count);
  }
  std::string().swap(output_);  // a large answer's memory goes back at once
  sent_ = 0;
}

std::optional<std::string> ControlConnection::take_line() {
  if (waits_for_answer_ || slices_ != nullptr || wants_output() || refused_ || broken_) {
    return std::nullopt;
  }
  const std::size_t end = input_.find('\n', searched_);
  if (end == std::string::npos) return std::nullopt;
  std::string line = input_.substr(0, end);
  input_.erase(0, end + 1);
  searched_ = 0;
  waits_for_answer_ = true;
  return line;
}

bool ControlConnection::line_too_long(std::size_t line_bytes) const {
  const std::size_t end = input_.find('\n', searched_);
  return (end == std::string::npos ? input_.size() : end) > line_bytes;
}

void ControlConnection::answer(const nlohmann::json& message) {
  if (broken_) return;
  std::string line = control_text(message);
  if (line.size() > answer_bytes_) {
    line = control_error("too_large", "the answer is larger than a control socket carries").dump();
  }
  output_ = std::move(line);
  output_ += '\n';
  sent_ = 0;
  waits_for_answer_ = false;
  write_some();
  wake_();
}

void ControlConnection::answer_in_slices(std::unique_ptr<SlicedResult> result) {
  if (broken_) return;
  slices_ = std::move(result);
  output_ = kBeforeResult;
  sent_ = 0;
  waits_for_answer_ = false;
  write_some();
  wake_();
}

void ControlConnection::make_slice() {
  const bool was_last = slices_->make_slice(output_);
  last_progress_ = now();
  if (was_last) {
    output_ += kBehindResult;
    slices_.reset();
  }
  write_some();
}

void ControlConnection::refuse(const nlohmann::json& message) {
  answer(message);
  input_.clear();
  searched_ = 0;
  refused_ = true;
}

std::string control_text(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

nlohmann::json control_error(std::string_view code, std::string_view message) {
  return {{"ok", false}, {"error", {{"code", code}, {"message", message}}}};
}

nlohmann::json control_result(const nlohmann::json& result) {
  return {{"ok", true}, {"result", result}};
}

void Responder::Pending::answer(const nlohmann::json& message) {
  if (std::exchange(answered, true)) return;
  if (const auto alive = connection.lock()) alive->answer(message);
}

void Responder::Pending::answer_in_slices(std::unique_ptr<SlicedResult> result) {
  if (std::exchange(answered, true)) return;
  if (const auto alive = connection.lock()) alive->answer_in_slices(std::move(result));
}

Responder::Pending::~Pending() {
  if (!answered) answer(control_error("unanswered", "the daemon dropped the request"));
}

void Responder::ok(const nlohmann::json& result) const { pending_->answer(control_result(result)); }

void Responder::ok_in_slices(std::unique_ptr<SlicedResult> result) const {
  pending_->answer_in_slices(std::move(result));
}

void Responder::fail(std::string_view code, std::string_view message) const {
  pending_->answer(control_error(code, message));
}

bool Responder::wanted() const { return !pending_->answered && !pending_->connection.expired(); }

}  // namespace culvert::runtime
