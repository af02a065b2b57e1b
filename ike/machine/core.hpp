// The machine's inside: its state, and the steps of each exchange. The members are defined in the
// file of their exchange: init, auth, create_child, rekey, informational; and events, commands,
// children, transport, status.
#pragma once

#include <deque>
#include <expected>
#include <map>
#include <set>

#include "ike/machine/child_sa.hpp"
#include "ike/machine/ike_sa.hpp"
#include "ike/machine/machine.hpp"
#include "ike/machine/proposals.hpp"
#include "ike/machine/timers.hpp"

namespace culvert::ike {

using Payloads = std::vector<wire::ike::Payload>;
using Fields = std::vector<std::pair<std::string, std::string>>;

/// Why we say no: what the peer gets to hear, and what our operator does.
struct Refusal {
  wire::ike::NotifyType notify{};
  Failure failure{};
  std::string detail;
  Octets data;
};

/// What a connection remembers between its IKE SAs.
struct ConnectionState {
  const config::Connection* connection = nullptr;
  std::optional<Failure> last_failure;
  std::string last_failure_detail;
  Instant retry_at{};  ///< 0: not planned
  std::chrono::seconds backoff{};
  bool held_down = false;  ///< the operator terminated it
  std::set<std::uint32_t> held_children;
  std::set<std::uint32_t> keep;  ///< were up and shall be again
};
/// A command that waits for children to come up.
struct WaitingCommand {
  CommandId id{};
  std::set<std::uint32_t> children;
};

class Core final : public Machine {
 public:
  Core(const Environment& environment, const Tuning& tuning);

  void start(Instant now, std::vector<Action>& actions) override;
  void on_datagram(const wire::Endpoint& local, const wire::Endpoint& remote, wire::Bytes message,
                   Instant now, std::vector<Action>& actions) override;
  void on_command(const Command& command, Instant now, std::vector<Action>& actions) override;
  void on_event(const channel::Event& event, Instant now, std::vector<Action>& actions) override;
  void on_completion(const channel::Completion& completion, Instant now,
                     std::vector<Action>& actions) override;
  void on_timer(Instant now, std::vector<Action>& actions) override;
  [[nodiscard]] std::optional<Instant> next_deadline() const override { return timers_.next(); }
  void adopt(const std::vector<channel::SnapshotSa>& sas,
             const std::vector<channel::SnapshotPolicy>& policies, Instant now,
             std::vector<Action>& actions) override;
  void on_dataplane_lost(Instant now, std::vector<Action>& actions) override;
  void shut_down(Instant now, std::vector<Action>& actions) override;
  [[nodiscard]] std::vector<IkeSaStatus> ike_sas(Instant now) const override;
  [[nodiscard]] std::vector<ConnectionStatus> connections(Instant now) const override;
  [[nodiscard]] MachineCounters counters() const override;

 private:
  // machine.cpp: entry and dispatch
  void begin(Instant now, std::vector<Action>& actions);
  void on_protected(IkeSa& ike, const wire::ike::Message& message, wire::Bytes raw,
                    const wire::Endpoint& local, const wire::Endpoint& remote);
  void on_request(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                  const wire::Endpoint& local, const wire::Endpoint& remote);
  void on_response(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads);
  void on_unreadable(const wire::ike::MessageError& error, const wire::Endpoint& local,
                     const wire::Endpoint& remote);
  void peer_seen_at(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote);
  void dispatch(const Timer& timer);

  // transport.cpp: sealing, sending, retransmission, keepalives
  void send(const wire::Endpoint& local, const wire::Endpoint& remote, Octets bytes,
            bool keepalive = false);
  [[nodiscard]] Octets seal(IkeSa& ike, wire::ike::Header header, const Payloads& payloads);
  [[nodiscard]] wire::ike::Header header_for(const IkeSa& ike, wire::ike::ExchangeType exchange,
                                             bool response, std::uint32_t message_id) const;
  void send_request(IkeSa& ike, wire::ike::ExchangeType exchange, const Payloads& payloads);
  void await_answer(IkeSa& ike, std::uint32_t message_id, Octets bytes);
  void respond(IkeSa& ike, const wire::ike::Header& request, const Payloads& payloads,
               const wire::Endpoint& local, const wire::Endpoint& remote);
  void retransmit(IkeSa& ike, Instant when);
  void keepalive(IkeSa& ike);
  [[nodiscard]] Octets draw(std::size_t bytes);
  [[nodiscard]] std::uint64_t draw_number();
  [[nodiscard]] Instant jittered(Instant span, double fraction);  ///< span × (1 − fraction × [0,1))

  // init.cpp: IKE_SA_INIT
  bool initiate(ConnectionState& state, std::vector<std::uint32_t> wanted);
  void send_init(IkeSa& ike);
  void on_init_request(const wire::ike::Message& message, wire::Bytes raw,
                       const wire::Endpoint& local, const wire::Endpoint& remote);
  void on_init_response(IkeSa& ike, const wire::ike::Message& message, wire::Bytes raw);
  void finish_init(IkeSa& ike, const Payloads& payloads, wire::Bytes raw);
  [[nodiscard]] bool restart_init(IkeSa& ike, const Payloads& payloads);
  void refuse_init(const wire::ike::Header& request, const Refusal& refusal,
                   const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] std::vector<const config::Connection*> connections_between(
      const wire::Endpoint& local, const wire::Endpoint& remote) const;
  [[nodiscard]] bool cookie_satisfied(const wire::ike::Message& message,
                                      const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] Octets cookie_for(std::uint32_t version, crypto::Bytes secret,
                                  const wire::ike::Message& message, const wire::Endpoint& remote);
  void detect_nat(IkeSa& ike, const Payloads& payloads, std::uint64_t initiator_spi,
                  std::uint64_t responder_spi);
  void add_nat_detection(Payloads& payloads, const IkeSa& ike, std::uint64_t responder_spi);
  [[nodiscard]] std::size_t half_open() const;

  // auth.cpp: IKE_AUTH
  void send_auth(IkeSa& ike);
  void answer_auth(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                   const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] std::expected<void, Refusal> authenticate_peer(IkeSa& ike,
                                                               const Payloads& payloads);
  [[nodiscard]] std::expected<Octets, Refusal> our_proof(IkeSa& ike);
  [[nodiscard]] std::expected<void, Refusal> verify_proof(IkeSa& ike,
                                                          const wire::ike::Identification& id,
                                                          const wire::ike::Authentication& proof);
  void finish_auth(IkeSa& ike, const Payloads& payloads);
  void set_established(IkeSa& ike);
  void arm_established(IkeSa& ike);
  void settle_with_others(IkeSa& ike, bool initial_contact);
  void supersede(IkeSa& ike);
  void mark_redundant(IkeSa& loser, const IkeSa& winner);
  void delete_duplicate(IkeSa& ike);
  [[nodiscard]] bool only_one(const IkeSa& ike) const;

  // create_child.cpp: CREATE_CHILD_SA for children, and the child part of IKE_AUTH
  [[nodiscard]] std::expected<Payloads, Refusal> offer_child(IkeSa& ike, Exchange& exchange,
                                                             bool in_auth);
  struct Answer {
    Payloads payloads;
    ChildSa* child = nullptr;
  };
  struct ChildNonces {
    crypto::Bytes initiator, responder;
  };
  [[nodiscard]] std::expected<Answer, Refusal> answer_child(IkeSa& ike, const Payloads& payloads,
                                                            const ChildSa* rekeyed,
                                                            crypto::Bytes initiator_nonce,
                                                            Octets& responder_nonce, bool in_auth);
  [[nodiscard]] std::expected<ChildSa*, Refusal> accept_child(IkeSa& ike, Exchange& exchange,
                                                              const Payloads& payloads,
                                                              ChildNonces nonces, bool in_auth);
  struct Narrowed {
    const config::Child* child = nullptr;
    std::vector<wire::TrafficSelector> local, remote;
  };
  [[nodiscard]] std::expected<Narrowed, Refusal> choose_child(const IkeSa& ike,
                                                              const Payloads& payloads,
                                                              const ChildSa* rekeyed) const;
  void start_create_child(IkeSa& ike, Task task);
  void answer_create_child(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                           const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] std::expected<const ChildSa*, Refusal> may_create(IkeSa& ike,
                                                                  const Payloads& payloads);
  void finish_create_child(IkeSa& ike, Exchange exchange, const Payloads& payloads);
  void child_failed(IkeSa& ike, Exchange& exchange, const Refusal& refusal);
  void retry_task(IkeSa& ike, Task task);

  // rekey.cpp: replacing children and IKE SAs, and what happens when both sides do it at once
  void child_rekey_answered(IkeSa& ike, channel::SaId old_child, ChildSa& successor,
                            crypto::Bytes lower_nonce);
  void child_rekey_finished(IkeSa& ike, Exchange& exchange, ChildSa& successor,
                            crypto::Bytes lower_nonce);
  void child_rekey_refused(IkeSa& ike, Exchange& exchange, const Refusal& refusal);
  void start_rekey_ike(IkeSa& ike, Task task);
  void answer_rekey_ike(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                        const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] std::expected<Payloads, Refusal> accept_rekey_ike(IkeSa& ike,
                                                                  const Payloads& payloads);
  void finish_rekey_ike(IkeSa& ike, Exchange exchange, const Payloads& payloads);
  [[nodiscard]] std::expected<IkeSa*, Refusal> make_rekeyed(IkeSa& ike, Exchange& exchange,
                                                            const Payloads& payloads);
  IkeSa& successor_of(const IkeSa& old, std::uint64_t local_spi, std::uint64_t remote_spi,
                      bool initiator);
  void move_to_successor(IkeSa& old, IkeSa& successor);
  void settle_rival_ike(IkeSa& old);

  // informational.cpp: Delete, liveness, errors
  void start_delete_child(IkeSa& ike, Task task);
  void start_delete_ike(IkeSa& ike, Task task);
  void start_liveness(IkeSa& ike, Task task);
  void answer_informational(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                            const wire::Endpoint& local, const wire::Endpoint& remote);
  void peer_deletes_child(IkeSa& ike, ChildSa& child, std::vector<std::uint32_t>& answer);
  void peer_deletes_ike(IkeSa& ike);
  void finish_informational(IkeSa& ike, Exchange exchange, const Payloads& payloads);
  void check_liveness(IkeSa& ike);

  // tasks.cpp: the queue of an IKE SA, retries of a connection, waiting commands
  void enqueue(IkeSa& ike, Task task, bool first = false);
  void pump(IkeSa& ike);
  bool ensure(std::uint32_t child_index);
  void retry_connection(ConnectionState& state);
  void plan_retry(ConnectionState& state);
  void ensure_soon(ConnectionState& state);
  void finish_commands(const std::vector<CommandId>& commands, bool ok, const std::string& message);
  void child_is_up(std::uint32_t child_index);
  void child_is_not_coming(std::uint32_t child_index, const std::string& why);
  void connection_is_not_coming(const config::Connection& connection, const std::string& why);
  void fail(const config::Connection* connection, Failure failure, const std::string& detail,
            Level level = Level::warning);
  void report(Level level, std::string event, Fields fields);
  void give_up_initiation(IkeSa& ike, Failure failure, const std::string& detail);
  void vanish(IkeSa& ike);

  // children.cpp: the data plane's side of children
  channel::RequestId request(channel::Request& request);
  ChildSa& add_child(IkeSa& ike, ChildSa child);
  [[nodiscard]] std::expected<void, Refusal> install(IkeSa& ike, ChildSa& child,
                                                     const ChildKeys& keys, bool we_initiated);
  void install_half(const IkeSa& ike, const ChildSa& child, channel::Direction direction,
                    crypto::Bytes key);
  void activate(ChildSa& child);
  void put_in_use(ChildSa& child, bool we_initiated);
  void release_outbound(const ChildSa& child);
  void retire(channel::SaId child, bool with_grace);
  void delete_sa(channel::SaId sa);
  void delete_policy(channel::PolicyId policy);
  void delete_sa_later(channel::SaId sa, Instant when);
  void retire_adopted(std::uint32_t child_index, Instant when);
  [[nodiscard]] ChildSa* find_child(channel::SaId inbound);
  [[nodiscard]] ChildSa* find_child_by_outbound(const IkeSa& ike, std::uint32_t spi);
  [[nodiscard]] ChildSa* child_of_sa(channel::SaId either_half);
  [[nodiscard]] const ChildSa* live_child(std::uint32_t child_index) const;
  [[nodiscard]] bool is_live(const ChildSa& child) const;
  PolicyBinding* binding_for(const ChildSa& child);
  void endpoints_changed(IkeSa& ike);
  void installation_failed(channel::SaId sa, channel::Outcome outcome);

  // commands.cpp: the verbs
  void initiate_target(ConnectionState& state, const config::Child* only, CommandId id);
  void terminate_target(ConnectionState& state, const config::Child* only, CommandId id);
  void rekey_target(ConnectionState& state, const config::Child* only, const Command& command);

  // machine.cpp: the IKE SAs
  [[nodiscard]] IkeSa* find_ike(std::uint64_t local_spi);
  [[nodiscard]] const IkeSa* find_ike(std::uint64_t local_spi) const;
  IkeSa& add_ike();
  /// Ends an IKE SA: children retired, tasks' commands told. It lingers to repeat its last answer.
  void close(IkeSa& ike, bool children_with_grace, const std::string& why);
  void remove(std::uint64_t local_spi);
  [[nodiscard]] ConnectionState& state_of(const config::Connection& connection);
  [[nodiscard]] IkeSa* usable_ike(const config::Connection& connection);
  [[nodiscard]] const config::Child& child_config(std::uint32_t index) const;
  [[nodiscard]] std::optional<wire::IpAddress> address_of_peer(const config::Connection& c) const;
  [[nodiscard]] bool wants_up(const ConnectionState& state, const config::Child& child) const;
  void count(wire::ike::ExchangeType exchange, bool answered, bool failed);

  Environment environment_;
  Tuning tuning_;
  Instant now_{};
  std::vector<Action>* actions_ = nullptr;
  Timers timers_;
  MachineCounters counters_;

  std::map<std::uint64_t, std::unique_ptr<IkeSa>> ike_sas_;  ///< by our SPI
  std::map<channel::SaId, ChildSa> children_;                ///< by inbound SaId
  std::map<channel::SaId, channel::SaId> inbound_of_outbound_;
  std::vector<PolicyBinding> bindings_;
  std::map<channel::SaId, channel::SnapshotSa> adopted_;
  std::set<channel::SaId> retired_;  ///< wait for their grace to end
  std::map<std::pair<wire::Endpoint, std::uint64_t>, std::uint64_t> init_requests_;
  std::map<channel::RequestId, std::uint64_t> liveness_requests_;  ///< to our SPI of the IKE SA
  std::map<channel::RequestId, channel::SaId> installations_;
  std::vector<ConnectionState> connections_;
  std::vector<WaitingCommand> waiting_;

  std::uint64_t next_request_ = 1, next_sa_ = 0, next_policy_ = 0, next_rank_ = 1;
  crypto::SecretBytes cookie_secret_, previous_cookie_secret_;
  std::uint32_t cookie_version_ = 0;
  Instant cookie_made_{};
  Instant last_stranger_report_{};
  bool shutting_down_ = false;
};

/// The first payload of a type; nullptr when there is none.
template <typename T>
[[nodiscard]] const T* find_payload(const Payloads& payloads) {
  for (const auto& payload : payloads) {
    if (const T* found = std::get_if<T>(&payload)) return found;
  }
  return nullptr;
}
[[nodiscard]] const wire::ike::Notify* find_notify(const Payloads& payloads,
                                                   wire::ike::NotifyType type);
[[nodiscard]] const wire::ike::Notify* find_error(const Payloads& payloads);
[[nodiscard]] const wire::ike::TrafficSelectors* find_selectors(const Payloads& payloads,
                                                                bool initiator);
[[nodiscard]] wire::ike::Notify make_notify(wire::ike::NotifyType type, Octets data = {});
[[nodiscard]] config::Identity identity_of(const config::Peer& peer,
                                           const wire::IpAddress& address);
[[nodiscard]] std::string spi_text(std::uint64_t spi);
[[nodiscard]] std::string spi_text(channel::Spi spi);
/// RFC 7296 §2.8.1: nonces compare octet by octet.
[[nodiscard]] Octets lower_of(crypto::Bytes a, crypto::Bytes b);
/// The group of an INVALID_KE_PAYLOAD notify.
[[nodiscard]] std::optional<crypto::Group> demanded_group(const Payloads& payloads);
[[nodiscard]] std::string text_of(const std::vector<wire::TrafficSelector>& selectors);
/// What a peer's error notify means for our operator.
[[nodiscard]] Failure failure_of(wire::ike::NotifyType type, bool about_child);

}  // namespace culvert::ike
