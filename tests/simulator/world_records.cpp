// What the world knows of records: committed before anything leaves, torn when a key daemon is
// killed in the middle, read by the next one; and that nobody ever says two things under one
// message ID or with one IV.
#include <algorithm>

#include "ike/machine/record_codec.hpp"
#include "tests/simulator/world.hpp"

namespace culvert::simulation {

bool World::survives(Gateway& gateway) {
  if (!gateway.dies_in || (*gateway.dies_in)-- > 0) return true;
  gateway.dead = true;
  note(gateway.name + ": killed");
  return false;
}

/// The memory as it is when the process ends at some octet of its writes.
void World::tear_commit(Gateway& gateway, const ike::Records& changes) {
  RecordMemory memory = gateway.memory;
  std::vector<ike::Checkpoint::Write> writes;
  gateway.checkpoint->observe(&writes);
  (void)gateway.checkpoint->commit(changes);
  std::size_t octets = 0;
  for (const auto& write : writes) octets += write.whole ? 1 : write.bytes.size();
  auto left = static_cast<std::size_t>(gateway.tear * static_cast<double>(octets));
  for (const auto& write : writes) {
    const std::size_t cost = write.whole ? 1 : write.bytes.size();
    const std::size_t done = left >= cost ? write.bytes.size() : write.whole ? 0 : left;
    memory.write(write.offset, crypto::Bytes(write.bytes).first(done));
    left -= std::min(left, cost);
  }
  gateway.memory = std::move(memory);
}

bool World::record(Gateway& gateway) {
  ike::Records changes;
  if (gateway.checkpoint == nullptr) {
    gateway.open_memory();
    gateway.checkpoint->format();
    gateway.recorded.clear();
    gateway.machine->take_records(true, changes);
  } else {
    gateway.machine->take_records(false, changes);
  }
  if (changes.empty()) return true;
  if (!survives(gateway)) {
    tear_commit(gateway, changes);
    return false;
  }
  if (!gateway.checkpoint->commit(changes)) {
    wire_violations_.push_back(gateway.name + ": no room for the records");
  }
  for (const ike::Record& change : changes) {
    if (change.content.empty()) {
      gateway.recorded.erase(change.name);
    } else {
      const auto octets = change.content.view();
      gateway.recorded[change.name].assign(octets.begin(), octets.end());
    }
  }
  constexpr unsigned kEvery = 4;  // it costs as much as what it checks
  if (++commits_ % kEvery == 0) check_recorded(gateway);
  return true;
}

/// Whatever the machine holds is on record as it is.
void World::check_recorded(Gateway& gateway) {
  ike::Records all;
  gateway.machine->take_records(true, all);
  std::size_t there = 0;
  for (const ike::Record& record : all) {
    const auto found = gateway.recorded.find(record.name);
    const crypto::Bytes seen =
        found == gateway.recorded.end() ? crypto::Bytes{} : crypto::Bytes(found->second);
    there += record.content.empty() ? 0 : 1;
    if (std::ranges::equal(seen, record.content.view())) continue;
    const std::string what = gateway.name + ": a change is not on record";
    if (std::ranges::find(wire_violations_, what) != wire_violations_.end()) continue;
    note("NOT ON RECORD");
    wire_violations_.push_back(what);
  }
  if (there != gateway.recorded.size()) {
    wire_violations_.push_back(gateway.name + ": a record of something that has ended");
  }
}

/// A retransmission is the same octets; no IV is used twice under a key.
void World::check_unique(const Flying& datagram) {
  const auto message = wire::ike::parse_message(datagram.bytes);
  if (!message || message->header.exchange == wire::ike::ExchangeType::ike_sa_init) return;
  const auto& header = message->header;
  std::uint16_t number = 0, total = 0;
  wire::Bytes sealed;
  for (const auto& payload : message->payloads) {
    if (const auto* piece = std::get_if<wire::ike::EncryptedFragment>(&payload)) {
      number = piece->number;
      total = piece->total;
      sealed = piece->sealed;
    } else if (const auto* whole = std::get_if<wire::ike::Encrypted>(&payload)) {
      sealed = whole->sealed;
    }
  }
  // What is said in clear is outside of any IKE SA: an answer to what could not be read.
  if (sealed.empty()) return;
  const auto [said, is_new] =
      said_.try_emplace({datagram.from, header.initiator_spi, header.responder_spi, header.response,
                         header.message_id, number, total},
                        datagram.bytes);
  if (!is_new && said->second != datagram.bytes) {
    wire_violations_.push_back("message ID " + std::to_string(header.message_id) +
                               " is used for something else: " + describe(datagram));
  }
  constexpr std::size_t kIvBytes = 8;  // AES-GCM's
  if (sealed.size() < kIvBytes) return;
  const auto [used, is_fresh] =
      ivs_.try_emplace({datagram.from, header.initiator_spi, header.responder_spi,
                        std::vector<std::uint8_t>(sealed.begin(), sealed.begin() + kIvBytes)},
                       datagram.bytes);
  if (!is_fresh && used->second != datagram.bytes) {
    wire_violations_.push_back("an IV is used twice: " + describe(datagram));
  }
}

void World::leave(int side, ike::SendDatagram& datagram) {
  Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  if (datagram.keepalive) {
    ++gateway.keepalives;
    return;
  }
  Flying flying{side, datagram.local, datagram.remote, std::move(datagram.bytes),
                {},   false,          datagram.ike_spi};
  check_unique(flying);
  send(std::move(flying));
}

void World::kill(int side) {
  Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  gateway.dead = true;
  note(gateway.name + ": killed");
}

void World::resume(int side) {
  Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  note(gateway.name + ": started again");
  gateway.boot();
  gateway.open_memory();
  ike::Records records;
  const auto refused = gateway.checkpoint->recover(records);
  if (refused && *refused != ike::NotResumed::none_recorded) {
    wire_violations_.push_back(
        gateway.name + ": the records are refused: " + std::string(ike::info(*refused).name));
  }
  gateway.recorded.clear();
  for (const ike::Record& record : records) {
    const auto octets = record.content.view();
    gateway.recorded[record.name].assign(octets.begin(), octets.end());
  }
  std::set<channel::Spi> held;
  for (const channel::Spi spi : ike::spis_of(records)) {
    // What was given back in the step that was cut short is still leased in truth.
    if (!lose_held_spis && gateway.data_plane.inbound(spi) == nullptr) held.insert(spi);
  }
  gateway.data_plane.leased = held;
  gateway.data_plane.announce_again();
  std::vector<ike::Action> actions;
  if (refused) {
    gateway.machine->adopt(gateway.data_plane.snapshot_sas(),
                           gateway.data_plane.snapshot_policies(), now, actions);
    gateway.machine->start(now, actions);
    carry_out(side, std::move(actions));
    return;
  }
  gateway.resumed =
      gateway.machine->resume(records, gateway.data_plane.snapshot_sas(),
                              gateway.data_plane.snapshot_policies(), held, now, actions);
  for (const auto& [reason, count] : gateway.resumed.refused) {
    if (reason == expect_refusal) continue;
    wire_violations_.push_back(gateway.name +
                               ": a record is refused: " + std::string(ike::info(reason).name));
  }
  carry_out(side, std::move(actions));
}

}  // namespace culvert::simulation
