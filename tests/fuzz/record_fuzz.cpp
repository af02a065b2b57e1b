// A checkpoint's record of an IKE SA, as an earlier life, a bug or a stranger may have left it: the
// id in eight octets, then the record. What parses is resumed into a real machine, which runs on,
// and whatever it then records must parse again.
#include <cstdint>
#include <cstdlib>
#include <optional>

#include "ike/machine/record_codec.hpp"
#include "tests/simulator/world.hpp"

using namespace culvert;

namespace {

using std::chrono::seconds;

void require(bool claim) {
  if (!claim) std::abort();
}

/// The gateway that the corpus was recorded at.
simulation::GatewayOptions options() {
  simulation::GatewayOptions gateway;
  gateway.address = "192.0.2.1";
  gateway.remote_address = "192.0.2.2";
  gateway.id = "a.example.org";
  gateway.remote_id = "b.example.org";
  gateway.names_address = false;
  simulation::ChildOptions child;
  child.name = "office";
  child.local_ts = "10.1.0.0/24";
  child.remote_ts = "10.2.0.0/24";
  gateway.children = {child};
  return gateway;
}

void run_on(simulation::Gateway& gateway, ike::Instant now) {
  for (int turn = 0; turn < 20; ++turn) {
    const auto next = gateway.machine->next_deadline();
    // A clock that leaps a century at once makes up for every timer of it.
    if (!next || *next > now + std::chrono::hours(24)) return;
    now = std::max(now, *next);
    std::vector<ike::Action> actions;
    gateway.machine->on_timer(now, actions);
    ike::Records records;
    gateway.machine->take_records(true, records);
    for (const ike::Record& record : records) {
      const bool is_ike_sa = record.name.kind == ike::RecordKind::ike_sa;
      if (is_ike_sa && !record.content.empty()) require(ike::decode_ike_sa(record).has_value());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 8) return 0;
  std::uint64_t id = 0;
  for (std::size_t at = 0; at < 8; ++at) id = id << 8U | data[at];
  ike::Records records;
  records.push_back(
      {{ike::RecordKind::ike_sa, id}, crypto::SecretBytes(crypto::Bytes(data + 8, size - 8))});
  (void)ike::decode_connection({{ike::RecordKind::connection, 0}, records[0].content.clone()});
  const auto recorded = ike::decode_ike_sa(records[0]);
  if (!recorded) return 0;
  simulation::Gateway gateway("a", simulation::Site{options()}, 1, 0xa0000100, ike::Tuning{});
  const ike::Instant now = std::chrono::hours(1);
  std::set<channel::Spi> held;
  for (const channel::Spi spi : ike::spis_of(records)) {
    held.insert(spi);
    gateway.data_plane.leased.insert(spi);
  }
  std::vector<ike::Action> actions;
  const auto report = gateway.machine->resume(records, {}, {}, held, now, actions);
  require(report.resumed + report.refused.size() <= 1);
  require(gateway.machine->ike_sas(now).size() <= 1);
  run_on(gateway, now);
  return 0;
}
