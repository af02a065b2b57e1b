#include "channel/server.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <sys/socket.h>
#include <unistd.h>

#include "channel/handshake.hpp"
#include "channel/held_memory.hpp"
#include "channel/mapping.hpp"
#include "channel/ring.hpp"

namespace culvert::channel {
namespace {

constexpr int kAcceptsPerPoll = 8;

/// One connected key daemon: its own memory, never used by another.
struct Session {
  Session(Descriptor connection_, Descriptor bell_, Mapping mapping_)
      : connection(std::move(connection_)), bell(std::move(bell_)), mapping(std::move(mapping_)) {}
  ~Session() { crypto::wipe(&mapping.memory().requests, sizeof(Memory::requests)); }

  Descriptor connection;
  Descriptor bell;
  Mapping mapping;
  RingConsumer<Request, kRequestSlots> requests{mapping.memory().requests};
  RingProducer<Event, kEventSlots> events{mapping.memory().events};
  RingConsumer<Datagram, kDatagramSlots> to_network{mapping.memory().to_network};
  RingProducer<Datagram, kDatagramSlots> to_ike{mapping.memory().to_ike};
  std::size_t unanswered = 0;  ///< requests taken whose completion was not sent yet
  bool bell_is_due = false;    ///< something was sent since the last flush
};

class MemfdServer final : public Server {
 public:
  MemfdServer(Options options, Descriptor listener)
      : options_(std::move(options)), listener_(std::move(listener)) {
    if (options_.held_bytes != 0) {
      auto held = HeldMemory::create(options_.held_bytes);
      if (held) {
        held_.emplace(std::move(*held));
      } else {
        held_problem_ = held.error();
      }
    }
    list_descriptors();
  }
  MemfdServer(const MemfdServer&) = delete;
  MemfdServer& operator=(const MemfdServer&) = delete;
  ~MemfdServer() override { ::unlink(options_.socket.c_str()); }

  [[nodiscard]] std::span<const int> descriptors() const override {
    return {descriptors_.data(), descriptor_count_};
  }
  [[nodiscard]] bool connected() const override { return session_ != nullptr; }
  [[nodiscard]] const ServerStatistics& statistics() const override { return statistics_; }
  [[nodiscard]] const std::string& held_problem() const override { return held_problem_; }

  bool poll() override {
    if (session_) {
      hear_bell(session_->bell.number());
      drop_if_dead();
    }
    for (int accepted = 0; accepted < kAcceptsPerPoll; ++accepted) {
      Descriptor newcomer(
          ::accept4(listener_.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!newcomer.valid()) break;
      admit(std::move(newcomer));
    }
    return std::exchange(changed_, false);
  }

  [[nodiscard]] std::optional<Request> next_request() override {
    // Made where the caller has it, and returned by each return: a copy's key would not be wiped.
    std::optional<Request> request;
    // At most what a ring holds: a peer that writes as fast as we read gets no more of this call.
    for (std::size_t taken = 0; taken < kRequestSlots && session_; ++taken) {
      // A request is taken only when its completion has a place.
      if (event_room() == 0) break;
      const RingState state = session_->requests.pop_and_wipe(request.emplace());
      if (state == RingState::torn) drop_torn();
      if (state != RingState::ok) break;
      ++session_->unanswered;
      if (const auto valid = validate(*request); valid) {
        ++statistics_.requests;
        return request;
      }
      refuse(*request);
    }
    request.reset();
    return request;
  }

  [[nodiscard]] std::optional<Datagram> next_datagram() override {
    for (std::size_t taken = 0; taken < kDatagramSlots && session_; ++taken) {
      Datagram datagram;
      switch (session_->to_network.pop(datagram)) {
        case RingState::ok:
          break;
        case RingState::stuck:
          return std::nullopt;
        case RingState::torn:
          drop_torn();
          return std::nullopt;
      }
      if (const auto valid = validate(datagram); valid) {
        ++statistics_.datagrams_in;
        return datagram;
      }
      ++statistics_.invalid_datagrams;
    }
    return std::nullopt;
  }

  bool send(const Event& event) override {
    const bool is_completion = event.type == EventType::completion;
    if (session_ && is_completion && session_->unanswered > 0) --session_->unanswered;
    // What is not a completion leaves the places of those that are still owed.
    if (event_room() == 0 || !push(session_->events, event)) {
      ++statistics_.events_lost;
      return false;
    }
    return true;
  }

  /// Beside the places owed to requests already taken.
  std::size_t event_room() override {
    std::size_t slots = 0;
    if (!session_) return 0;
    if (session_->events.free(slots) == RingState::torn) {
      drop_torn();
      return 0;
    }
    return slots - std::min(slots, session_->unanswered);
  }

  bool send(const Datagram& datagram) override {
    if (!session_ || !push(session_->to_ike, datagram)) {
      ++statistics_.datagrams_lost;
      return false;
    }
    ++statistics_.datagrams_out;
    return true;
  }

  std::size_t datagram_room() override {
    std::size_t room = 0;
    if (!session_ || session_->to_ike.free(room) != RingState::ok) return 0;
    return room;
  }

  void flush() override {
    if (session_ && std::exchange(session_->bell_is_due, false)) {
      ring_bell(session_->bell.number());
    }
  }

 private:
  template <typename Ring, typename Message>
  bool push(Ring& ring, const Message& message) {
    switch (ring.push(message, meaningful_bytes(message))) {
      case RingState::ok:
        session_->bell_is_due = true;
        return true;
      case RingState::stuck:
        return false;
      case RingState::torn:
        drop_torn();
        return false;
    }
    return false;
  }

  /// Counts an invalid request and answers it where it says whom.
  void refuse(Request& request) {
    ++statistics_.invalid_requests;
    Event answer;
    answer.type = EventType::completion;
    answer.body.completion = Completion{};
    answer.body.completion.request = request.id;
    const bool known = request.type != RequestType::none && to_string(request.type) != "unknown";
    answer.body.completion.outcome = known ? Outcome::invalid_field : Outcome::unknown_request;
    crypto::wipe(&request, sizeof(request));  // it may hold a key all the same
    if (answer.body.completion.request == RequestId{}) {
      --session_->unanswered;
      return;
    }
    (void)send(answer);
  }

  void admit(Descriptor newcomer) {
    const uid_t uid = peer_uid(newcomer.number());
    if (uid != 0 && uid != options_.allowed_uid) {
      ++statistics_.refused_uid;
      (void)greet(newcomer.number(), Welcome::uid_refused);
      return;
    }
    // One at a time. A newcomer replaces the old one only if that is dead: it may have died after
    // this poll looked at it.
    if (session_) drop_if_dead();
    if (session_) {
      ++statistics_.refused_busy;
      (void)greet(newcomer.number(), Welcome::busy);
      return;
    }
    auto mapping = Mapping::create();
    std::array<int, 2> bells{-1, -1};
    if (!mapping ||
        ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, bells.data()) != 0) {
      (void)greet(newcomer.number(), Welcome::no_memory);
      return;
    }
    Descriptor our_bell(bells[0]);
    const Descriptor their_bell(bells[1]);
    if (!greet(newcomer.number(), Welcome::ok, mapping->file(), their_bell.number(),
               held_ ? held_->file() : -1)) {
      return;
    }
    session_ =
        std::make_unique<Session>(std::move(newcomer), std::move(our_bell), std::move(*mapping));
    ++statistics_.connects;
    connection_changed();
  }

  void drop_if_dead() {
    if (is_over(session_->connection.number())) drop();
  }

  /// An impossible index: the peer's memory is broken or hostile, and every later message would be
  /// guesswork. It is sent away; a sound key daemon reconnects to fresh rings and a snapshot.
  void drop_torn() {
    ++statistics_.torn_indices;
    drop();
  }

  void drop() {
    session_.reset();
    if (held_) held_->lock();
    connection_changed();
  }

  void connection_changed() {
    changed_ = true;
    list_descriptors();
  }

  void list_descriptors() {
    descriptors_[0] = listener_.number();
    descriptor_count_ = 1;
    if (!session_) return;
    descriptors_[1] = session_->connection.number();
    descriptors_[2] = session_->bell.number();
    descriptor_count_ = 3;
  }

  Options options_;
  Descriptor listener_;
  std::unique_ptr<Session> session_;
  std::optional<HeldMemory> held_;
  std::string held_problem_;
  bool changed_ = false;  ///< since the last poll
  std::array<int, 3> descriptors_{};
  std::size_t descriptor_count_ = 0;
  ServerStatistics statistics_;
};

}  // namespace

std::expected<std::unique_ptr<Server>, std::string> Server::create(const Options& options) {
  auto listener = listen_at(options.socket, options.allowed_uid);
  if (!listener) return std::unexpected(std::move(listener.error()));
  return std::make_unique<MemfdServer>(options, std::move(*listener));
}

}  // namespace culvert::channel
