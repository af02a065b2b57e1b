// The daemon's end of a control socket: one line of JSON in, one line of JSON out
// (docs/reference/control-protocol.md). Single-threaded and non-blocking: a slow, silent or hostile
// client costs its own connection, never the daemon's time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>
#include <sys/types.h>

namespace culvert::runtime {

/// Limits of a control socket, in one place.
struct ControlLimits {
  std::size_t connections = 32;
  std::size_t line_bytes = 1U << 20;  ///< a request (1 MiB)
  /// A larger answer is an error, but where it is made in slices: of those none is kept.
  std::size_t answer_bytes = 256U << 20;
  /// A connection that neither asked nor read for so long gives its place to a new one when all
  /// are taken.
  std::chrono::milliseconds stalled{10'000};
};

/// A result that is too much for one turn of the daemon, as text in slices. Each is made when the
/// client has read those before: a slow one costs a slice of memory, and one that leaves ends it.
class SlicedResult {
 public:
  virtual ~SlicedResult() = default;
  /// Appends the next part of the result's JSON, as `control_text` has it, or nothing yet: bounded
  /// work. True: it was the last.
  virtual bool make_slice(std::string& text) = 0;
};

/// JSON as answers have it: on one line; what is not UTF-8 (a peer's bytes may stand in a result)
/// is replaced rather than thrown over.
[[nodiscard]] std::string control_text(const nlohmann::json& json);

/// Answers one request, now or later (on the server's thread). Copies share the one answer: the
/// first `ok…` or `fail` counts, later ones are ignored. If the last copy goes away unanswered, the
/// client gets the error "unanswered". A client that left meanwhile is no error.
class Responder {
 public:
  struct Pending;  ///< the connection's side, private to the server
  explicit Responder(std::shared_ptr<Pending> pending) : pending_(std::move(pending)) {}

  void ok(const nlohmann::json& result) const;
  /// Slices are made by the server's `poll`, one a call for all clients together.
  void ok_in_slices(std::unique_ptr<SlicedResult> result) const;
  /// `code`: snake_case, stable; `message`: a sentence for the operator.
  void fail(std::string_view code, std::string_view message) const;
  /// Whether the client is still there to be answered.
  [[nodiscard]] bool wanted() const;

 private:
  std::shared_ptr<Pending> pending_;
};

struct ControlStatistics {
  std::uint64_t connections = 0, refused_connections = 0, requests = 0;
  std::uint64_t bad_lines = 0;        ///< not JSON, not a request, or too long
  std::uint64_t dropped_stalled = 0;  ///< gave their place to a new connection
};

class ControlServer {
 public:
  /// `args` is an object (empty when the request had none). May throw nlohmann's exceptions on
  /// fields of the wrong type: the client gets "bad_request".
  using Handler = std::function<void(const nlohmann::json& args, Responder responder)>;

  /// Binds `socket` (a stale file is replaced, one with a living server behind it is an error) with
  /// `mode`, owned by `owner`. The folder must exist.
  static std::expected<std::unique_ptr<ControlServer>, std::string> create(
      const std::filesystem::path& socket, mode_t mode, uid_t owner, ControlLimits limits = {});
  virtual ~ControlServer() = default;

  /// What answers `verb`. Requests are answered in order within a connection.
  virtual void handle(std::string verb, Handler handler) = 0;

  /// Readable when `poll` has something to do: one descriptor for any loop.
  [[nodiscard]] virtual int descriptor() const = 0;
  /// Does what can be done without waiting; bounded work per call.
  virtual void poll() = 0;
  [[nodiscard]] virtual const ControlStatistics& statistics() const = 0;
};

}  // namespace culvert::runtime
