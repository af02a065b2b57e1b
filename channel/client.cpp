#include "channel/client.hpp"

#include <utility>

#include "channel/handshake.hpp"
#include "channel/mapping.hpp"
#include "channel/ring.hpp"

namespace culvert::channel {
namespace {

class MemfdClient final : public Client {
 public:
  MemfdClient(Admission admission, Mapping mapping)
      : connection_(std::move(admission.connection)),
        bell_(std::move(admission.bell)),
        held_(std::move(admission.held)),
        mapping_(std::move(mapping)) {}

  [[nodiscard]] const Descriptor& held() const override { return held_; }
  [[nodiscard]] int socket_descriptor() const override { return connection_.number(); }
  [[nodiscard]] int event_descriptor() const override { return bell_.number(); }
  [[nodiscard]] const ClientStatistics& statistics() const override { return statistics_; }

  void acknowledge() override { hear_bell(bell_.number()); }

  [[nodiscard]] bool alive() override {
    if (!gone_ && is_over(connection_.number())) gone_ = true;
    return !gone_;
  }

  [[nodiscard]] std::optional<Event> next_event() override {
    for (std::size_t taken = 0; taken < kEventSlots; ++taken) {
      Event event;
      if (!took(events_.pop(event))) return std::nullopt;
      if (const auto valid = validate(event); valid) {
        ++statistics_.events;
        return event;
      }
      ++statistics_.invalid_events;
    }
    return std::nullopt;
  }

  [[nodiscard]] std::optional<Datagram> next_datagram() override {
    for (std::size_t taken = 0; taken < kDatagramSlots; ++taken) {
      Datagram datagram;
      if (!took(to_ike_.pop(datagram))) return std::nullopt;
      if (const auto valid = validate(datagram); valid) {
        ++statistics_.datagrams_in;
        return datagram;
      }
      ++statistics_.invalid_events;
    }
    return std::nullopt;
  }

  [[nodiscard]] bool send(const Request& request) override {
    if (!took(requests_.push(request, meaningful_bytes(request)))) return false;
    ++statistics_.requests;
    bell_is_due_ = true;
    return true;
  }

  bool send(const Datagram& datagram) override {
    if (!took(to_network_.push(datagram, meaningful_bytes(datagram)))) {
      ++statistics_.datagrams_lost;
      return false;
    }
    ++statistics_.datagrams_out;
    bell_is_due_ = true;
    return true;
  }

  void flush() override {
    if (std::exchange(bell_is_due_, false)) ring_bell(bell_.number());
  }

 private:
  /// Whether the ring did it. A torn index ends the connection: reconnecting gives fresh rings.
  bool took(RingState state) {
    if (state == RingState::torn && !std::exchange(gone_, true)) ++statistics_.torn_indices;
    return state == RingState::ok;
  }

  Descriptor connection_;
  Descriptor bell_;
  Descriptor held_;
  Mapping mapping_;
  RingProducer<Request, kRequestSlots> requests_{mapping_.memory().requests};
  RingConsumer<Event, kEventSlots> events_{mapping_.memory().events};
  RingProducer<Datagram, kDatagramSlots> to_network_{mapping_.memory().to_network};
  RingConsumer<Datagram, kDatagramSlots> to_ike_{mapping_.memory().to_ike};
  bool bell_is_due_ = false;
  bool gone_ = false;
  ClientStatistics statistics_;
};

std::expected<std::unique_ptr<Client>, std::string> admitted(
    std::expected<Admission, std::string> admission) {
  if (!admission) return std::unexpected(std::move(admission.error()));
  auto mapping = Mapping::open(std::move(admission->memory));
  if (!mapping) return std::unexpected(std::move(mapping.error()));
  return std::make_unique<MemfdClient>(std::move(*admission), std::move(*mapping));
}

}  // namespace

std::expected<std::unique_ptr<Client>, std::string> Client::connect(
    const std::filesystem::path& socket) {
  return admitted(enter(socket));
}

std::expected<Descriptor, std::string> Client::begin(const std::filesystem::path& socket) {
  return knock(socket);
}

std::expected<std::unique_ptr<Client>, std::string> Client::finish(
    const std::filesystem::path& socket, Descriptor connection) {
  return admitted(take_greeting(socket, std::move(connection)));
}

}  // namespace culvert::channel
