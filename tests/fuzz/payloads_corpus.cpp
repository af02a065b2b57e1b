// Writes the corpus of fuzz_payloads: what an honest peer says from each stage on.
//
// usage: payloads_corpus FOLDER
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/fuzz/payloads_input.hpp"
#include "tests/fuzz/payloads_stage.hpp"

using namespace culvert;
using namespace culvert::payloads;

namespace {

/// Listens to what reaches one side, with its keys.
class Listener {
 public:
  Listener(Stage& stage, std::size_t place)
      : stage_(stage), info_(kStages.at(place)), side_(info_.side) {
    input.push_back(static_cast<std::uint8_t>(place));
    own_ = first_of_branch();
    stage.before_delivery = [this](const Flying& datagram) {
      if (datagram.from != side_) hear(datagram);
    };
  }
  void note(StepKind kind, std::uint8_t how) {
    Step step;
    step.kind = kind;
    step.how = how;
    append(input, step);
  }

  std::vector<std::uint8_t> input;

 private:
  std::optional<ike::RecordedIkeSa> recorded(std::uint64_t spi) {
    const auto& all = stage_.gateway(side_).recorded;
    const auto found = all.find({ike::RecordKind::ike_sa, spi});
    if (found == all.end()) return std::nullopt;
    return ike::decode_ike_sa({found->first, crypto::SecretBytes(crypto::Bytes(found->second))});
  }
  std::uint64_t first_of_branch() {
    std::uint64_t first = 0, rank = ~0ULL;
    for (const auto& [name, octets] : stage_.gateway(side_).recorded) {
      const auto one = recorded(name.id);
      if (!one || one->connection == "visitor" || one->ike->created_rank >= rank) continue;
      rank = one->ike->created_rank;
      first = name.id;
    }
    return first;
  }

  void hear(const Flying& datagram) {
    const auto message = wire::ike::parse_message(datagram.bytes);
    if (!message || message->payloads.empty()) return;
    const auto& header = message->header;
    const std::uint64_t spi = header.from_initiator ? header.responder_spi : header.initiator_spi;
    Step step;
    step.exchange = static_cast<std::uint8_t>(header.exchange);
    step.response = header.response;
    // A signature stays as it is.
    step.proven = header.exchange == wire::ike::ExchangeType::ike_auth &&
                  std::string_view(info_.name).find("signature") == std::string_view::npos;
    step.ike_sa = spi == own_ ? 0 : 1;
    const auto to = recorded(spi);
    if (header.exchange == wire::ike::ExchangeType::ike_sa_init) {
      step.in_clear = true;
      step.first_payload = static_cast<std::uint8_t>(header.next_payload);
      step.chain.assign(datagram.bytes.begin() + wire::ike::kHeaderBytes, datagram.bytes.end());
      append(input, step);
      return;
    }
    if (!to || to->connection == "visitor" || to->ike->keys.inbound == nullptr) return;
    const bool again = !header.response && header.message_id < to->ike->window.expected_request();
    if (again) step.id = MessageId::last;
    const wire::Bytes raw(datagram.bytes);
    const auto& key = *to->ike->keys.inbound;
    if (const auto* whole = std::get_if<wire::ike::Encrypted>(&message->payloads.back())) {
      const auto chain = key.open(raw.first(whole->associated_bytes), whole->sealed);
      if (!chain) return;
      step.first_payload = static_cast<std::uint8_t>(whole->first_inner);
      step.chain.assign(chain->view().begin(), chain->view().end());
      append(input, step);
    } else if (const auto* piece =
                   std::get_if<wire::ike::EncryptedFragment>(&message->payloads.back())) {
      const auto part = key.open(raw.first(piece->associated_bytes), piece->sealed);
      if (!part) return;
      if (piece->number == 1) {
        pieces_ = step;
        pieces_.kind = StepKind::fragments;
        pieces_.first_payload = static_cast<std::uint8_t>(piece->first_inner);
        pieces_.cut = static_cast<std::uint8_t>(piece->total - 1U);
      }
      pieces_.chain.insert(pieces_.chain.end(), part->view().begin(), part->view().end());
      if (piece->number == piece->total) append(input, pieces_);
    }
  }

  Stage& stage_;
  const StageInfo& info_;
  int side_;
  std::uint64_t own_ = 0;
  Step pieces_;
};

struct Script {
  const char* name;
  CommandVerb verb;
  const char* what;
};
constexpr std::array kScripts = std::to_array<Script>({
    {"", CommandVerb::initiate, nullptr},  // goes on from where they are
    {"_rekey", CommandVerb::rekey_child, "office"},
    {"_rekey_ike", CommandVerb::rekey_ike, "branch"},
    {"_lab", CommandVerb::initiate, "lab"},
    {"_delete", CommandVerb::terminate, "office"},
    {"_delete_ike", CommandVerb::terminate, "branch"},
});

void write(const std::filesystem::path& folder, std::size_t place, const Script& script) {
  const StageInfo& info = kStages.at(place);
  Stage stage(info.ends());
  info.play(stage);
  Listener listener(stage, place);
  if (script.what != nullptr) stage.command(1 - info.side, script.verb, script.what);
  for (const auto& [span, how] : {std::pair(milliseconds(1'000), 2), {milliseconds(6'000), 3}}) {
    stage.run();
    listener.note(StepKind::time, static_cast<std::uint8_t>(how));
    stage.pass(span);
  }
  stage.run();
  std::ofstream file(folder / (std::string(info.name) + script.name), std::ios::binary);
  file.write(reinterpret_cast<const char*>(listener.input.data()),
             static_cast<std::streamsize>(listener.input.size()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  for (std::size_t place = 0; place < kStages.size(); ++place) {
    write(argv[1], place, kScripts.front());
    if (place > 1 && std::string_view(kStages.at(place).name) != "transport") continue;
    for (const Script& script : kScripts) {
      if (script.what != nullptr) write(argv[1], place, script);
    }
  }
  return 0;
}
