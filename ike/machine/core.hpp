// The machine's inside: its state, and the steps of each exchange. Members are defined in the file
// of their exchange (init, auth, rekey, …) or of their subject (children, transport, status, …).
#pragma once

#include <expected>
#include <map>
#include <set>

#include "ike/machine/bindings.hpp"
#include "ike/machine/child_terms.hpp"
#include "ike/machine/connection_index.hpp"
#include "ike/machine/lost_address.hpp"
#include "ike/machine/payload_access.hpp"
#include "ike/machine/peer_index.hpp"
#include "ike/machine/proposals.hpp"
#include "ike/machine/selectors.hpp"
#include "ike/machine/timers.hpp"

namespace culvert::ike {

using Fields = std::vector<std::pair<std::string, std::string>>;

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
  void take_records(bool all, Records& records) override;
  ResumeReport resume(const Records& records, const std::vector<channel::SnapshotSa>& sas,
                      const std::vector<channel::SnapshotPolicy>& policies,
                      const std::set<channel::Spi>& held, Instant now,
                      std::vector<Action>& actions) override;
  void on_dataplane_lost(Instant now, std::vector<Action>& actions) override;
  void reconfigure(const config::Config& config, const SecretSource& secrets, Instant now,
                   std::vector<Action>& actions) override;
  void recheck_certificates(Instant now, std::vector<Action>& actions) override;
  void on_status(std::string_view name, Instant now, std::vector<Action>& actions) override;
  void shut_down(Instant now, std::vector<Action>& actions) override;
  [[nodiscard]] std::vector<IkeSaStatus> ike_sas(Instant now) const override;
  [[nodiscard]] std::vector<ConnectionStatus> connections(Instant now) const override;
  [[nodiscard]] std::optional<StrangerStatus> last_stranger(Instant now) const override;
  [[nodiscard]] MachineCounters counters() const override;

 private:
  friend class Resumption;  // resume.cpp
  friend class HeldAuth;    // held_auth.cpp
  friend class LostAddresses;
  void begin(Instant now, std::vector<Action>& actions);

  // receive.cpp: opening, reassembly, what is new
  void on_protected(IkeSa& ike, const wire::ike::Message& message, wire::Bytes raw,
                    const wire::Endpoint& local, const wire::Endpoint& remote);
  void on_fragment(IkeSa& ike, const wire::ike::Header& header,
                   const wire::ike::EncryptedFragment& fragment, wire::Bytes raw,
                   const wire::Endpoint& local, const wire::Endpoint& remote);
  void on_opened(IkeSa& ike, const wire::ike::Header& header, wire::ike::PayloadType first,
                 wire::Bytes chain, const wire::Endpoint& local, const wire::Endpoint& remote);
  /// Authentic, but is it new? `repeated`: a request that was answered already.
  enum class Novelty : std::uint8_t { fresh, repeated, ignored };
  [[nodiscard]] Novelty novelty_of(const IkeSa& ike, const wire::ike::Header& header);
  void repeat_answer(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote);

  // machine.cpp: what came is the peer's
  void on_request(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                  const wire::Endpoint& local, const wire::Endpoint& remote);
  void on_response(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads);
  void on_unreadable(const wire::ike::MessageError& error, const wire::Endpoint& local,
                     const wire::Endpoint& remote);
  void peer_seen_at(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote);
  void dispatch(const Timer& timer);

  // transport.cpp: sealing, sending, retransmission, keepalives
  void send(const wire::Endpoint& local, const wire::Endpoint& remote, Octets bytes);
  void send(const IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote,
            const Messages& messages);
  [[nodiscard]] Messages seal(IkeSa& ike, wire::ike::Header header, const Payloads& payloads);
  [[nodiscard]] Octets seal_whole(IkeSa& ike, const wire::ike::Header& header,
                                  wire::ike::PayloadType first, const Octets& chain);
  [[nodiscard]] Messages seal_fragments(IkeSa& ike, const wire::ike::Header& header,
                                        wire::ike::PayloadType first, const Octets& chain);
  [[nodiscard]] bool seal_into(IkeSa& ike, Octets& message, crypto::Bytes plain,
                               std::size_t sealed_bytes);
  /// Octets of UDP payload that one of our datagrams may have, the non-ESP marker aside.
  [[nodiscard]] static std::size_t datagram_limit(const IkeSa& ike);
  [[nodiscard]] wire::ike::Header header_for(const IkeSa& ike, wire::ike::ExchangeType exchange,
                                             bool response, std::uint32_t message_id) const;
  void send_request(IkeSa& ike, wire::ike::ExchangeType exchange, const Payloads& payloads);
  void await_answer(IkeSa& ike, std::uint32_t message_id, Messages messages);
  void respond(IkeSa& ike, const wire::ike::Header& request, const Payloads& payloads,
               const wire::Endpoint& local, const wire::Endpoint& remote);
  void retransmit(IkeSa& ike, Instant when);
  void keepalive(IkeSa& ike);
  [[nodiscard]] Octets draw(std::size_t bytes);
  [[nodiscard]] std::uint64_t draw_number();
  [[nodiscard]] Instant jittered(Instant span, double fraction);  ///< span × (1 − fraction × [0,1))

  // init.cpp: IKE_SA_INIT
  bool initiate(ConnectionState& state, std::vector<config::ChildId> wanted);
  void send_init(IkeSa& ike);
  void on_init_request(const wire::ike::Message& message, wire::Bytes raw,
                       const wire::Endpoint& local, const wire::Endpoint& remote);
  bool repeat_init_answer(const wire::ike::Message& message, wire::Bytes raw,
                          const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] bool adds_cookie(const IkeSa& ike, const wire::ike::Message& message,
                                 const wire::Endpoint& remote);
  [[nodiscard]] bool init_is_readable(const wire::ike::Message& message,
                                      const wire::Endpoint& local, const wire::Endpoint& remote);
  void refuse_stranger(const wire::ike::Header& header, const wire::Endpoint& local,
                       const wire::Endpoint& remote);
  [[nodiscard]] std::optional<ChosenIke> choose_init_suite(
      const wire::ike::Message& message, std::vector<const config::Connection*>& candidates,
      const wire::Endpoint& local, const wire::Endpoint& remote);
  void open_half(IkeSa& ike, const ChosenIke& suite, const wire::ike::Message& in, wire::Bytes raw);
  [[nodiscard]] bool answer_init(IkeSa& ike, const ChosenIke& chosen,
                                 const wire::ike::Message& message);
  void add_init_notifies(Payloads& payloads, const IkeSa& ike);
  void learn_init_notifies(IkeSa& ike, const Payloads& payloads);
  void on_init_response(IkeSa& ike, const wire::ike::Message& message, wire::Bytes raw);
  void finish_init(IkeSa& ike, const Payloads& payloads, wire::Bytes raw);
  [[nodiscard]] bool restart_init(IkeSa& ike, const Payloads& payloads);
  void refuse_init(const wire::ike::Header& request, const Refusal& refusal,
                   const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] bool cookie_satisfied(const wire::ike::Message& message,
                                      const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] bool cookie_is_ours(const wire::ike::Message& message, const wire::Endpoint& from);
  [[nodiscard]] Octets cookie_for(std::uint32_t version, crypto::Bytes secret,
                                  const wire::ike::Message& message, const wire::Endpoint& remote);
  void add_nat_detection(Payloads& payloads, const IkeSa& ike, std::uint64_t responder_spi,
                         const wire::Endpoint& local, const wire::Endpoint& remote);
  void detect_nat(IkeSa& ike, const Payloads& payloads, std::uint64_t initiator_spi,
                  std::uint64_t responder_spi);
  void add_nat_detection(Payloads& payloads, const IkeSa& ike, std::uint64_t responder_spi);

  // auth.cpp: IKE_AUTH
  void send_auth(IkeSa& ike);
  void answer_auth(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                   const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] std::expected<void, Refusal> authenticate_peer(IkeSa& ike,
                                                               const Payloads& payloads);
  void count_refusal(Failure reason);
  void finish_auth(IkeSa& ike, const Payloads& payloads);
  void tell_responder(IkeSa& ike, Payloads why = {});
  [[nodiscard]] std::expected<void, Refusal> authenticate_responder(
      IkeSa& ike, const wire::ike::Identification& id, const Payloads& payloads);
  void first_child_answered(IkeSa& ike, Exchange& exchange, const Payloads& payloads);
  void set_established(IkeSa& ike);
  void arm_established(IkeSa& ike);
  void arm_lifetime(IkeSa& ike);
  void settle_with_others(IkeSa& ike, bool initial_contact);
  void settle_between(IkeSa& ike, IkeSa& other, bool initial_contact);
  void supersede(IkeSa& ike, const std::string& why);
  void mark_redundant(IkeSa& loser, const IkeSa& winner);
  void lose_to(IkeSa& loser, std::uint64_t winner);
  void ask_for_proof(IkeSa& winner, Instant when);
  void delete_duplicate(IkeSa& ike);
  [[nodiscard]] static Instant duplicate_delay(const IkeSa& loser);
  void revive_losers(const IkeSa& winner);
  [[nodiscard]] bool only_one(const IkeSa& ike) const;

  // proof.cpp: AUTH by a shared key or by a signature
  [[nodiscard]] std::expected<Payloads, Refusal> our_proof(IkeSa& ike);
  [[nodiscard]] std::expected<void, Refusal> verify_proof(IkeSa& ike,
                                                          const wire::ike::Identification& id,
                                                          const Payloads& payloads);
  [[nodiscard]] std::expected<void, Refusal> verify_shared_key(
      IkeSa& ike, const wire::ike::Authentication& proof, crypto::Bytes octets);
  [[nodiscard]] std::expected<void, Refusal> verify_signature(
      IkeSa& ike, const Payloads& payloads, const wire::ike::Authentication& proof,
      crypto::Bytes octets);
  void offer_signatures(Payloads& payloads,
                        const std::vector<const config::Connection*>& connections) const;
  void request_certificates(Payloads& payloads,
                            const std::vector<const config::Connection*>& connections) const;

  // certificate_watch.cpp: an IKE SA lives no longer than what proved its peer
  void watch_certificates(IkeSa& ike);
  void recheck(IkeSa& ike);

  // post_quantum.cpp: RFC 8784
  [[nodiscard]] bool can_mix(const config::Connection& connection) const;
  [[nodiscard]] std::expected<void, Refusal> mix_keys(IkeSa& ike);
  static void unmix_keys(IkeSa& ike);
  [[nodiscard]] std::expected<Payloads, Refusal> initiators_proof(IkeSa& ike);
  [[nodiscard]] std::expected<Payloads, Refusal> settle_post_quantum(IkeSa& ike, Payloads payloads);
  [[nodiscard]] std::expected<void, Refusal> learn_post_quantum(IkeSa& ike, const Payloads& theirs);

  // mobike.cpp: RFC 4555
  [[nodiscard]] static bool may_offer_mobike(const IkeSa& ike);
  void add_mobike(Payloads& payloads, const IkeSa& ike);
  void add_other_addresses(Payloads& payloads, const IkeSa& ike);
  static void learn_mobike(IkeSa& ike, const Payloads& payloads);
  void endpoints_changed(IkeSa& ike);
  void update_children(const IkeSa& ike);
  std::optional<channel::RequestId> update_endpoints(channel::SaId half);
  void move_ike(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote);
  void cookie_differs(IkeSa& ike, const std::string& detail);
  void start_update_addresses(IkeSa& ike, Task task);
  void finish_update_addresses(IkeSa& ike, const Exchange& exchange, const Payloads& payloads);
  void start_check_route(IkeSa& ike, Task task);
  void finish_check_route(IkeSa& ike, const Exchange& exchange, const Payloads& payloads);
  void try_other_path(IkeSa& ike);
  void answered_over(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote);
  void answer_mobike(IkeSa& ike, const Payloads& payloads, const wire::Endpoint& local,
                     const wire::Endpoint& remote, Payloads& answer);
  void follow_peer(IkeSa& ike, const Payloads& payloads, const wire::Endpoint& local,
                   const wire::Endpoint& remote, Payloads& answer);
  void nat_seen_anew(IkeSa& ike, const Payloads& payloads);
  void mapping_seen(IkeSa& ike, const Payloads& payloads);
  void arm_keepalive(IkeSa& ike);

  // version_1.cpp: peers that speak IKEv1
  void on_version_1(const wire::ike::Header& header, const wire::Endpoint& local,
                    const wire::Endpoint& remote);

  // reconfigure.cpp: another configuration
  void take_connections(const config::Config& config);
  void retire_orphans();
  void make_ghost(ConnectionState state);
  void take_connection(IkeSa& ike);
  void reconfigure_ike(IkeSa& ike);
  void end_removed(IkeSa& ike);
  void remove_unfinished(IkeSa& ike);
  void reconfigure_children(IkeSa& ike, const config::Connection& before);
  void keep_what_was_asked(Exchange& exchange, const config::Connection& before);
  void outdate(ChildSa& child);
  void renew_suite(IkeSa& ike);
  void renew_outdated(IkeSa& ike);
  void retire_outdated(config::ChildId child_id);
  void keep_outdated(config::ChildId child_id);

  // rehearsal.cpp, reauthentication.cpp
  void arm_rehearsal(ChildSa& child);
  void rehearse(channel::SaId inbound);
  void rehearsal_refused(const IkeSa& ike, const ChildSa& child, const Refusal& refusal);
  void arm_reauthentication(IkeSa& ike);
  void reauthenticate(IkeSa& ike);

  // create_child.cpp: CREATE_CHILD_SA for children, and the child part of IKE_AUTH
  [[nodiscard]] std::expected<Payloads, Refusal> offer_child(IkeSa& ike, Exchange& exchange,
                                                             bool in_auth);
  struct Answer {
    Payloads payloads;
    ChildSa* child = nullptr;
  };
  [[nodiscard]] std::expected<Answer, Refusal> answer_child(IkeSa& ike, const Payloads& payloads,
                                                            const ChildSa* rekeyed,
                                                            crypto::Bytes initiator_nonce,
                                                            Octets& responder_nonce, bool in_auth);
  [[nodiscard]] static std::expected<Answer, Refusal> answer_childless(const IkeSa& ike);
  [[nodiscard]] std::expected<ChildSa*, Refusal> accept_child(IkeSa& ike, Exchange& exchange,
                                                              const Payloads& payloads,
                                                              ChildNonces nonces, bool in_auth);
  [[nodiscard]] std::expected<ChildTerms, Refusal> choose_terms(const config::Child& config,
                                                                const Payloads& payloads,
                                                                bool in_auth);
  [[nodiscard]] static std::expected<ChildTerms, Refusal> check_answer(const config::Child& config,
                                                                       const IkeSa& ike,
                                                                       const Exchange& exchange,
                                                                       const Payloads& payloads,
                                                                       bool in_auth);
  [[nodiscard]] std::expected<Narrowed, Refusal> choose_child(const IkeSa& ike,
                                                              const Payloads& payloads,
                                                              const ChildSa* rekeyed) const;
  [[nodiscard]] SelectorPair selectors_to_offer(const IkeSa& ike, const Task& task) const;
  [[nodiscard]] bool wants_another_pair(config::ChildId child_id) const;
  void start_create_child(IkeSa& ike, Task task);
  void answer_create_child(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                           const wire::Endpoint& local, const wire::Endpoint& remote);
  [[nodiscard]] std::expected<const ChildSa*, Refusal> may_create(IkeSa& ike,
                                                                  const Payloads& payloads);
  void finish_create_child(IkeSa& ike, Exchange exchange, const Payloads& payloads);
  bool asked_for_pair(IkeSa& ike, Exchange& exchange, wire::ike::NotifyType error);
  void child_failed(IkeSa& ike, Exchange& exchange, const Refusal& refusal);
  void retry_task(IkeSa& ike, Task task);

  // rekey_child.cpp, rekey.cpp: replacing children and IKE SAs, and both sides doing it at once
  void child_rekey_answered(IkeSa& ike, channel::SaId old_child, ChildSa& successor,
                            crypto::Bytes lower_nonce);
  void child_rekey_finished(IkeSa& ike, Exchange& exchange, ChildSa& successor,
                            crypto::Bytes lower_nonce);
  void child_rekey_refused(IkeSa& ike, Exchange& exchange, const Refusal& refusal);
  void start_rekey_ike(IkeSa& ike, Task task);
  void answer_rekey_ike(IkeSa& ike, const wire::ike::Header& header, const Payloads& payloads,
                        const wire::Endpoint& local, const wire::Endpoint& remote);
  void take_rival_ike(IkeSa& ike, const Exchange& exchange, IkeSa& rival);
  void ike_rekey_refused(IkeSa& ike, Exchange& exchange, IkeSa* rival, const Refusal& refusal);
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
  void take_back_replaced(const ChildSa& successor);
  void peer_deletes_child(IkeSa& ike, ChildSa& child, std::vector<std::uint32_t>& answer);
  [[nodiscard]] bool takes_down(config::ChildId child, bool was_live, const IkeSa* with = {}) const;
  void peer_deletes_ike(IkeSa& ike);
  void finish_informational(IkeSa& ike, Exchange exchange, const Payloads& payloads);
  void check_liveness(IkeSa& ike);
  void ask_for_traffic(IkeSa& ike);

  // tasks.cpp: the queue of an IKE SA, retries of a connection, waiting commands
  void enqueue(IkeSa& ike, Task task, bool first = false);
  void pump(IkeSa& ike);
  bool ensure(config::ChildId child_id);
  void retry_connection(ConnectionState& state);
  void plan_retry(ConnectionState& state, bool holds_traps = false);
  void ensure_soon(ConnectionState& state);
  void finish_commands(const std::vector<CommandId>& commands, bool ok, const std::string& message);
  void child_is_up(config::ChildId child_id);
  void child_is_not_coming(config::ChildId child_id, const std::string& why);
  void connection_is_not_coming(const config::Connection& connection, const std::string& why);
  void give_up_initiation(IkeSa& ike, Failure failure, const std::string& detail);
  void vanish(IkeSa& ike, bool silent);

  // mismatch.cpp: one line in the log and one in status for what does not fit
  void report(Level level, std::string event, Fields fields);
  void fail(const config::Connection* connection, Failure failure, const std::string& detail,
            Level level = Level::warning, Concern concern = {});
  void remember(ConnectionState& state, Failure failure, std::string detail, Concern concern);
  void succeeded(const IkeSa& ike, Attempt attempt);
  [[nodiscard]] bool fails_while_up(const ConnectionState& state, Instant now) const;
  void fail_stranger(Failure failure, const std::string& detail, const wire::Endpoint& local,
                     const wire::Endpoint& remote);
  void never_authenticated(const IkeSa& ike);
  void note_nat_traversal(const IkeSa& ike);
  void note_narrowing(const IkeSa& ike, ChildSa& child);
  [[nodiscard]] std::string known_pairs() const;

  // children.cpp: the data plane's side of children
  channel::RequestId request(channel::Request& request);
  ChildSa& add_child(IkeSa& ike, ChildSa child);
  [[nodiscard]] std::expected<void, Refusal> install(IkeSa& ike, ChildSa& child,
                                                     const ChildKeys& keys, bool we_initiated);
  void install_half(const IkeSa& ike, const ChildSa& child, channel::Direction direction,
                    crypto::Bytes key);
  void retire(channel::SaId child, bool with_grace);
  void delete_sa(channel::SaId sa);
  void delete_policy(channel::PolicyId policy);
  void delete_sa_later(channel::SaId sa, config::ChildId child_id, Instant when);
  void end_graces(const config::Connection& connection);
  void retire_adopted(config::ChildId child_id, Instant when);
  [[nodiscard]] ChildSa* find_child(channel::SaId inbound);
  [[nodiscard]] ChildSa* find_child_by_outbound(const IkeSa& ike, std::uint32_t spi);
  [[nodiscard]] ChildSa* child_of_sa(channel::SaId either_half);
  [[nodiscard]] const ChildSa* live_child(config::ChildId child_id) const;
  [[nodiscard]] const ChildSa* standing_on(const IkeSa& ike, config::ChildId child_id) const;
  [[nodiscard]] bool is_live(const ChildSa& child) const;
  [[nodiscard]] bool has_new_form(const ChildSa& child) const;
  void installation_failed(const Installation& half, channel::Outcome outcome);
  void not_installed(ChildSa& child, const std::string& why);

  // switching.cpp: which child the traffic goes by
  void put_in_use(ChildSa& child, bool we_initiated);
  [[nodiscard]] const ChildSa* sends_instead(const ChildSa& child, channel::SaId leaving = {});
  [[nodiscard]] std::chrono::milliseconds switch_delay(const ChildSa& child);
  void answers_arrived(const IkeSa& ike, bool by_request);
  void switch_outbound_now(ChildSa& child, bool proven);
  [[nodiscard]] bool stays_behind(const ChildSa& child);
  [[nodiscard]] bool gives_way(const ChildSa& child) const;
  [[nodiscard]] bool holds_traffic(const ChildSa& sending) const;
  void activate(ChildSa& child);
  void install_policy(const ChildSa& child);
  void switch_outbound(const ChildSa& child);
  void release_outbound(const ChildSa& child);
  void activate_waiting(const ChildSa& leaving);
  void policy_answered(const Installation& asked, channel::Outcome outcome);
  void make_room(const ChildSa& child);

  // commands.cpp: the verbs
  void initiate_target(ConnectionState& state, const config::Child* only, CommandId id);
  void terminate_target(ConnectionState& state, const config::Child* only, CommandId id);
  void rekey_target(ConnectionState& state, const config::Child* only, const Command& command);

  // machine.cpp: the IKE SAs
  [[nodiscard]] IkeSa* find_ike(std::uint64_t local_spi);
  [[nodiscard]] const IkeSa* find_ike(std::uint64_t local_spi) const;
  void touch(const IkeSa& ike) { touched_.insert(ike.local_spi); }
  void touch(const ConnectionState& state);
  IkeSa& add_ike();
  void close(IkeSa& ike, bool children_with_grace, const std::string& why);
  void remove(std::uint64_t local_spi);
  [[nodiscard]] ConnectionState& state_of(const config::Connection& connection);
  [[nodiscard]] bool is_ghost(const config::Connection& c) const;  ///< not configured any more
  [[nodiscard]] IkeSa* usable_ike(const config::Connection& connection);
  [[nodiscard]] bool has_usable_ike(const config::Connection& connection) const;
  [[nodiscard]] bool is_contested(const IkeSa& ike) const;
  [[nodiscard]] const config::Child& child_config(config::ChildId child_id) const;
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
  PeerIndex peers_;
  ChildTable children_;
  std::map<channel::SaId, channel::SaId> inbound_of_outbound_;
  Bindings bindings_;
  std::map<channel::SaId, channel::SnapshotSa> adopted_;
  std::map<channel::SaId, config::ChildId> retired_;  ///< wait for their grace to end
  std::map<std::pair<wire::Endpoint, std::uint64_t>, std::uint64_t> init_requests_;
  std::set<std::uint64_t> half_open_;  ///< IKE SAs in that state, by our SPI
  std::map<channel::RequestId, std::uint64_t> liveness_requests_;  ///< to our SPI of the IKE SA
  std::map<channel::RequestId, Installation> installations_;
  LostAddresses lost_addresses_{*this};
  std::vector<ConnectionState> connections_;
  ConnectionIndex connection_index_;
  std::vector<WaitingCommand> waiting_;
  std::set<std::uint64_t> touched_;  ///< IKE SAs that may not be on record as they are, by our SPI
  std::set<config::ConnectionId> touched_connections_;              ///< the same
  std::map<std::string, config::Connection> previous_connections_;  ///< while a new one is taken
  std::map<config::ChildId, config::Child> ghost_children_;  ///< gone from the configuration only
  std::map<config::ChildId, channel::Acquire> trapped_;      ///< the packet that asked

  std::uint64_t next_request_ = 1, next_sa_ = 0, next_policy_ = 0, next_rank_ = 1;
  crypto::SecretBytes cookie_secret_, previous_cookie_secret_;
  std::uint32_t cookie_version_ = 0;
  Instant cookie_made_{}, last_stranger_report_{}, last_stranger_at_{};
  std::optional<StrangerStatus> last_stranger_;
  std::map<wire::IpAddress, Instant> version_1_peers_;  ///< answered, and when
  bool shutting_down_ = false;
};

}  // namespace culvert::ike
