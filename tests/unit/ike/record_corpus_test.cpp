// The seeds of fuzz_record are of the layout that is in use: a decoder that refuses all of them at
// once tries nothing. `test_record_corpus '[write]'` writes them anew.
#include <filesystem>
#include <fstream>

#include "tests/unit/ike/keyed_peer.hpp"

namespace culvert::ladder {
namespace {

using std::chrono::hours;

const std::filesystem::path kCorpus = CULVERT_RECORD_CORPUS;
/// What was found with them is that they must not be taken.
const std::set<std::string> kRefused{"child-of-a-million-years", "esp_only_cipher"};

std::vector<std::uint8_t> read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
std::optional<ike::RecordedIkeSa> decode(const std::vector<std::uint8_t>& seed) {
  REQUIRE(seed.size() > 8);
  std::uint64_t id = 0;
  for (std::size_t at = 0; at < 8; ++at) id = id << 8U | seed[at];
  return ike::decode_ike_sa(
      {{ike::RecordKind::ike_sa, id}, crypto::SecretBytes(crypto::Bytes(seed).subspan(8))});
}

TEST_CASE("record: every seed of the fuzzer is read, but what is refused on purpose") {
  std::size_t seeds = 0;
  bool awaits = false, is_unchecked = false;
  for (const auto& entry : std::filesystem::directory_iterator(kCorpus)) {
    const std::string name = entry.path().filename().string();
    INFO(name);
    const auto recorded = decode(read(entry.path()));
    CHECK(recorded.has_value() == !kRefused.contains(name));
    ++seeds;
    if (!recorded) continue;
    is_unchecked |= recorded->ike->checked_remote.has_value();
    awaits |= std::ranges::any_of(recorded->ike->queue, [](const ike::Task& task) {
      return task.kind == ike::TaskKind::await_move;
    });
  }
  CHECK(seeds >= 15);
  CHECK(awaits);
  CHECK(is_unchecked);
}

void write(const std::string& name, std::uint64_t id, crypto::Bytes record) {
  std::ofstream file(kCorpus / name, std::ios::binary);
  for (int shift = 56; shift >= 0; shift -= 8) file.put(static_cast<char>(id >> shift & 0xffU));
  for (const std::uint8_t octet : record) file.put(static_cast<char>(octet));
}
/// All IKE SAs of a.
void write_all(Ladder& ladder, const std::string& name) {
  int number = 0;
  for (const auto& [record, octets] : ladder.gateway(kA).recorded) {
    if (record.kind != ike::RecordKind::ike_sa) continue;
    write(number == 0 ? name : name + std::to_string(number), record.id, octets);
    ++number;
  }
}
/// One of a that stands, changed.
template <typename Change>
void write_changed(Ladder& ladder, const std::string& name, Change change) {
  ike::RecordedIkeSa recorded = on_record(ladder, kA);
  config::Connection connection;
  connection.name = recorded.connection;
  recorded.ike->connection = &connection;
  change(*recorded.ike, recorded.children);
  std::vector<const ike::ChildSa*> children;
  for (const ike::ChildSa& child : recorded.children) children.push_back(&child);
  write(name, recorded.ike->local_spi,
        ike::encode(*recorded.ike, recorded.connection_is, children).view());
}

/// As record_fuzz.cpp has it.
GatewayOptions recorded_gateway() {
  GatewayOptions a = gateway_a();
  a.names_address = false;
  return a;
}

TEST_CASE("record: the seeds are written", "[.][write]") {
  const GatewayOptions a = recorded_gateway();
  {
    Ladder ladder(a, mirrored(gateway_a()));
    ladder.initiate(kA);
    write_all(ladder, "init_sent");
    ladder("a --> b  IKE_SA_INIT request");
    ladder("b --> a  IKE_SA_INIT response");
    write_all(ladder, "auth_sent");
    ladder.run();
    write_all(ladder, "established");
    using Children = std::vector<ike::ChildSa>;
    write_changed(ladder, "liveness-without-delay",
                  [](ike::IkeSa& ike, Children&) { ike.liveness_at = hours(1); });
    write_changed(ladder, "esp_only_cipher", [](ike::IkeSa& ike, Children&) {
      ike.suite.encryption = crypto::Encryption::null_aes_gmac;
    });
    write_changed(ladder, "child-of-a-million-years", [](ike::IkeSa&, Children& children) {
      children.front().hard_seconds = 31'557'600'000'000;
    });
    ladder.rekey(kA);
    write_all(ladder, "rekeying_child");
    ladder("a --> b  CREATE_CHILD_SA request");
    ladder("b --> a  CREATE_CHILD_SA response");
    write_all(ladder, "deleting_child");
    ladder.run();
    write_all(ladder, "child_rekeyed");
    ladder.rekey_ike(kA);
    write_all(ladder, "rekeying_ike");
    ladder("a --> b  CREATE_CHILD_SA request");
    ladder("b --> a  CREATE_CHILD_SA response");
    write_all(ladder, "ike_rekeyed");
    ladder.run();
    write_all(ladder, "closed");
  }
  GatewayOptions b = mirrored(gateway_a());
  b.mobike = config::Mobike::yes;
  b.names_address = false;
  Ladder ladder(a, b);
  ladder.initiate(kB);
  ladder("b --> a  IKE_SA_INIT request");
  write_all(ladder, "half_open");
  ladder.run();
  GatewayOptions moved = a;
  moved.address = "192.0.2.9";
  ladder.world.reconfigure(kA, moved);
  for (int i = 0; i < 2; ++i) {
    Flying datagram = ladder.wire.front();
    ladder.wire.clear();
    if (datagram.from == kA) datagram.local.address = *wire::IpAddress::parse("192.0.2.1");
    ladder.world.deliver(datagram);
  }
  moved = b;
  moved.address = "192.0.2.8";
  ladder.world.reconfigure(kB, moved);
  ladder("b --> a  INFORMATIONAL request");
  write_all(ladder, "unchecked_awaits_move");
}

}  // namespace
}  // namespace culvert::ladder
