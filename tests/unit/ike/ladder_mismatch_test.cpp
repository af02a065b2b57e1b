// What two operators may configure differently: each mismatch is one line in the log and one place
// in the text of `culvert status`, on every side that can see it, with the cause, what we have,
// what the peer has, and what to change. docs/troubleshooting.md lists the same.
#include "tests/unit/ike/certificate_pair.hpp"
#include "tests/unit/ike/operator.hpp"

namespace culvert::ladder {
namespace {

using config::Encapsulation;
using ike::Level;
using wire::ike::Notify;
using wire::ike::NotifyType;

/// What one operator reads.
struct Reads {
  Failure failure{};
  std::string ours, theirs;
};
struct Mismatch {
  const char* name;
  std::function<void(GatewayOptions& a, GatewayOptions& b)> differ;
  std::optional<Reads> a, b;  ///< nullopt: this side cannot see it, and reads nothing
  std::function<void(Ladder&)> play = [](Ladder& ladder) {
    ladder.initiate(kA);
    ladder.run();
  };
};

std::string field(const ike::Report& report, const std::string& name) {
  for (const auto& [key, value] : report.fields) {
    if (key == name) return value;
  }
  return {};
}

/// What a mismatch may be told by: every warning, and the two events that tell one below that.
std::vector<ike::Report> told(const Gateway& gateway) {
  std::vector<ike::Report> events;
  for (const ike::Report& report : gateway.reports) {
    if (report.level >= Level::warning || report.event == "child_narrowed" ||
        report.event == "negotiation_failed") {
      events.push_back(report);
    }
  }
  return events;
}

/// Places of a text that name a failure, whichever: the line, and what to do on the line below.
std::vector<std::string> places(const std::vector<std::string>& lines) {
  std::vector<std::string> found;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    for (const ike::FailureInfo& row : ike::all_failures()) {
      const std::string name(row.name);
      for (auto at = lines[i].find(name); at != std::string::npos;
           at = lines[i].find(name, at + name.size())) {
        const bool remedied = i + 1 < lines.size() && contains(lines[i + 1], " what to do: ");
        found.push_back(lines[i] + (remedied ? '\n' + lines[i + 1] : ""));
      }
    }
  }
  return found;
}

/// The cause, what we have, what the peer has, and what to change.
void check_text(const std::string& text, const Reads& expected) {
  INFO(text);
  CHECK(contains(text, std::string(info(expected.failure).name)));
  CHECK(contains(text, "ours: "));
  CHECK(contains(text, expected.ours));
  CHECK(contains(text, expected.theirs));
  CHECK(contains(text, std::string(info(expected.failure).remedy)));
}

void check(Ladder& ladder, int side, const std::optional<Reads>& expected) {
  INFO((side == kA ? "a, who initiates" : "b, who responds"));
  const Gateway& gateway = ladder.gateway(side);
  const auto events = told(gateway);
  const auto lines = status_lines(gateway, ladder.world.now);
  const auto named = places(lines);
  for (const auto& event : events) UNSCOPED_INFO("log: " << log_line(event));
  for (const auto& line : lines) UNSCOPED_INFO("status: " << line);
  CHECK(events.size() == (expected ? 1 : 0));
  CHECK(named.size() == (expected ? 1 : 0));
  if (!expected || events.size() != 1 || named.size() != 1) return;
  const std::string logged = log_line(events.front());
  CHECK_FALSE(contains(logged, "\n"));
  CHECK(logged.starts_with(events.front().event == "child_narrowed"
                               ? "info child_narrowed connection=branch child=office failure="
                           : events.front().level == Level::info ? "info negotiation_failed "
                                                                 : "warning negotiation_failed "));
  check_text(logged, *expected);
  check_text(named.front(), *expected);
  CHECK(contains(named.front(), field(events.front(), "detail")));
}

void check_both(Ladder& ladder, const Mismatch& mismatch) {
  check(ladder, kA, mismatch.a);
  check(ladder, kB, mismatch.b);
}

GatewayOptions& transport_selectors(GatewayOptions& options) {
  options.children[0].local_ts = options.address + "/32";
  options.children[0].remote_ts = options.remote_address + "/32";
  return options;
}

/// Answers a's IKE_SA_INIT with one notify, as anybody may.
void answer_init(Ladder& ladder, NotifyType type, std::vector<std::uint8_t> data = {}) {
  ladder.initiate(kA);
  Flying datagram = ladder.wire.front();
  ladder.wire.clear();
  auto header = simulation::header_of(datagram);
  header.response = true;
  header.from_initiator = false;
  datagram.from = kB;
  std::swap(datagram.local, datagram.remote);
  datagram.bytes = wire::ike::encode_message(
      header, {Notify{wire::ike::Protocol::none, type, {}, std::move(data)}});
  ladder.world.deliver(datagram);
}

/// a's IKE_SA_INIT as a peer of another version would send it.
void knock(Ladder& ladder, std::uint8_t version, std::uint8_t exchange) {
  ladder.initiate(kA);
  Flying datagram = ladder.wire.front();
  ladder.wire.clear();
  datagram.bytes[17] = version;
  datagram.bytes[18] = exchange;
  ladder.world.deliver(datagram);
}

void lose_everything(Ladder& ladder) {
  for (int i = 0; i < 120; ++i) {
    ladder.wire.clear();
    ladder.pass(seconds(1));
  }
}

void connect_and_rekey(Ladder& ladder, int side) {
  ladder.connect();
  ladder.rekey(side);
  ladder.run();
}

/// A NAT in front of a: b sees another address.
void with_nat(Ladder& ladder) {
  const auto inner = *wire::IpAddress::parse("192.0.2.1");
  const auto outer = *wire::IpAddress::parse("203.0.113.9");
  ladder.world.send = [&ladder, inner, outer](Flying datagram) {
    if (datagram.from == kA) datagram.local.address = outer;
    if (datagram.from == kB && datagram.remote.address == outer) datagram.remote.address = inner;
    ladder.wire.push_back(std::move(datagram));
  };
  ladder.initiate(kA);
  ladder.run();
}

const std::string kNoProposal = "the peer answers NO_PROPOSAL_CHOSEN";
const std::string kAuthFailed = "the peer answers AUTHENTICATION_FAILED";

/// IKE proposals that differ in one kind of transform.
Mismatch ike_proposals(const char* name, const char* ours, const char* theirs, const char* kind) {
  return {
      name,
      [=](GatewayOptions& a, GatewayOptions& b) {
        a.ike_proposal = ours;
        b.ike_proposal = theirs;
      },
      Reads{Failure::no_ike_proposal_chosen, ours, kNoProposal},
      Reads{Failure::no_ike_proposal_chosen, theirs, std::string("nothing in common: ") + kind}};
}
Mismatch esp_proposals(const char* name, const char* ours, const char* theirs, const char* kind) {
  return {
      name,
      [=](GatewayOptions& a, GatewayOptions& b) {
        a.children[0].esp_proposal = ours;
        b.children[0].esp_proposal = theirs;
      },
      Reads{Failure::no_child_proposal_chosen, ours, kNoProposal},
      Reads{Failure::no_child_proposal_chosen, theirs, std::string("nothing in common: ") + kind}};
}
Mismatch pfs(const char* name, const char* ours, const char* theirs, int who_rekeys, Reads a,
             Reads b) {
  return {name,
          [=](GatewayOptions& left, GatewayOptions& right) {
            left.children[0].esp_proposal = ours;
            right.children[0].esp_proposal = theirs;
          },
          std::move(a), std::move(b),
          [=](Ladder& ladder) { connect_and_rekey(ladder, who_rekeys); }};
}

std::vector<Mismatch> proposal_mismatches() {
  using enum Failure;
  return {
      ike_proposals("IKE encryption", "aes256gcm16-prfsha256-x25519", "aes256-sha256-x25519",
                    "encryption, integrity"),
      ike_proposals("IKE key length", "aes256gcm16-prfsha256-x25519",
                    "aes128gcm16-prfsha256-x25519", "key length"),
      ike_proposals("IKE integrity", "aes256-sha256-x25519", "aes256-sha384-prfsha256-x25519",
                    "integrity"),
      ike_proposals("IKE PRF", "aes256gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-x25519",
                    "PRF"),
      ike_proposals("IKE group", "aes256gcm16-prfsha256-x25519", "aes256gcm16-prfsha256-ecp384",
                    "key exchange group"),
      {"IKE group demanded by the peer",
       [](auto&, auto&) {},
       Reads{invalid_ke_group, "x25519", "the peer wants group 16 (modp4096)"},
       {},
       [](Ladder& ladder) { answer_init(ladder, NotifyType::invalid_ke_payload, {0, 16}); }},
      esp_proposals("ESP encryption", "aes256gcm16", "aes256-sha256", "encryption, integrity"),
      esp_proposals("ESP key length", "aes256gcm16", "aes128gcm16", "key length"),
      esp_proposals("ESP integrity", "aes256-sha256", "aes256-sha512", "integrity"),
      esp_proposals("ESP sequence numbers", "aes256gcm16-esn", "aes256gcm16-noesn",
                    "extended sequence numbers"),
      pfs("PFS here, none there", "aes256gcm16-x25519", "aes256gcm16", kA,
          {pfs_mismatch, "PFS: ours: x25519", kNoProposal},
          {pfs_mismatch, "ours: aes256gcm16;", "x25519"}),
      pfs("PFS there, none here", "aes256gcm16", "aes256gcm16-x25519", kA,
          {pfs_mismatch, "PFS: ours: none", kNoProposal},
          {pfs_mismatch, "ours: aes256gcm16-x25519", "nothing in common: key exchange group"}),
      pfs("PFS groups differ", "aes256gcm16-x25519", "aes256gcm16-ecp384", kA,
          {pfs_mismatch, "PFS: ours: x25519", kNoProposal}, {pfs_mismatch, "ecp384", "x25519"}),
      pfs("PFS, and the responder rekeys first", "aes256gcm16", "aes256gcm16-ecp384", kB,
          {pfs_mismatch, "ours: aes256gcm16;", "ecp384"},
          {pfs_mismatch, "PFS: ours: ecp384", kNoProposal}),
  };
}

std::vector<Mismatch> identity_mismatches() {
  using enum Failure;
  return {
      {"wrong pre-shared key", [](auto&, GatewayOptions& b) { b.psk = "something else"; },
       Reads{authentication_failed_remote, "a.example.org", kAuthFailed},
       Reads{authentication_failed_local, "b.example.org", "a.example.org"}},
      {"the peer's pre-shared key is missing", [](auto&, auto&) {},
       Reads{authentication_failed_remote, "auth psk", kAuthFailed},
       Reads{no_shared_secret, "b.example.org", "a.example.org"},
       [](Ladder& ladder) {
         ladder.gateway(kB).secrets.present = false;
         ladder.initiate(kA);
         ladder.run();
       }},
      {"our pre-shared key is missing",
       [](auto&, auto&) {},
       Reads{no_shared_secret, "a.example.org", "b.example.org"},
       {},
       [](Ladder& ladder) {
         ladder.gateway(kA).secrets.present = false;
         ladder.initiate(kA);
         ladder.run();
       }},
      {"remote id", [](auto&, GatewayOptions& b) { b.remote_id = "other.example.org"; },
       Reads{authentication_failed_remote, "local.id a.example.org (FQDN)", kAuthFailed},
       Reads{identity_mismatch, "remote.id other.example.org", "the peer's: a.example.org"}},
      {"an identity that is not one of many",
       [](auto&, GatewayOptions& b) { b.remote_id = "*.example.net"; },
       Reads{authentication_failed_remote, "local.id a.example.org (FQDN)", kAuthFailed},
       Reads{identity_mismatch, "remote.id *.example.net", "the peer's: a.example.org"}},
      {"local id", [](GatewayOptions& a, auto&) { a.remote_id = "other.example.org"; },
       Reads{authentication_failed_remote, "remote.id other.example.org", kAuthFailed},
       Reads{identity_mismatch, "local.id b.example.org", "asking for other.example.org"}},
      {"no id where the address is expected", [](GatewayOptions& a, auto&) { a.remote_id = ""; },
       Reads{identity_mismatch, "remote.id 192.0.2.2", "the peer's: b.example.org (FQDN)"},
       Reads{authentication_failed_remote, "local.id b.example.org", "the peer a.example.org"}},
      {"type of an id", [](GatewayOptions& a, auto&) { a.id = "@#612e6578616d706c652e6f7267"; },
       Reads{authentication_failed_remote, "@#612e6578616d706c652e6f7267 (key-id)", kAuthFailed},
       Reads{identity_mismatch, "a.example.org (FQDN)", "@#612e6578616d706c652e6f7267 (key-id)"}},
      {"a name and an e-mail address", [](GatewayOptions& a, auto&) { a.id = "ops@example.org"; },
       Reads{authentication_failed_remote, "ops@example.org (e-mail)", kAuthFailed},
       Reads{identity_mismatch, "a.example.org (FQDN)", "ops@example.org (e-mail)"}},
      {"unknown connection", [](auto&, GatewayOptions& b) { b.remote_address = "198.51.100.77"; },
       Reads{no_ike_proposal_chosen, "aes256gcm16", kNoProposal},
       Reads{unknown_peer_address, "branch: 192.0.2.2 with 198.51.100.77", "192.0.2.1"}},
      {"no address of ours leads there",
       [](auto&, auto&) {},
       Reads{no_local_address, "ours: none", "192.0.2.2"},
       {},
       [](Ladder& ladder) {
         ladder.gateway(kA).config->connections.front().local.address.reset();
         ladder.initiate(kA);
       }},
  };
}

std::vector<Mismatch> child_mismatches() {
  using enum Failure;
  const std::string no_selectors = "the peer answers TS_UNACCEPTABLE";
  return {
      {"selectors without anything in common",
       [](auto&, GatewayOptions& b) { b.children[0].local_ts = "10.9.0.0/24"; },
       Reads{traffic_selectors_unacceptable, "10.1.0.0/24 === 10.2.0.0/24", no_selectors},
       Reads{traffic_selectors_unacceptable, "10.9.0.0/24", "the peer's: 10.2.0.0/24"}},
      {"the peer has a part of our selectors",
       [](GatewayOptions& a, auto&) { a.children[0].remote_ts = "10.2.0.0/16"; },
       Reads{selectors_narrowed, "10.2.0.0/16", "10.2.0.0/24"},
       {}},
      {"we have a part of the peer's selectors",
       [](GatewayOptions& a, auto&) { a.children[0].local_ts = "10.1.0.0/25"; },
       {},
       Reads{selectors_narrowed, "10.1.0.0/24", "10.1.0.0/25"}},
      {"a port on one side only",
       [](auto&, GatewayOptions& b) { b.children[0].local_ts = "10.2.0.0/24[tcp/443]"; },
       Reads{selectors_narrowed, "10.2.0.0/24;", "10.2.0.0/24[tcp/443]"},
       {}},
      {"protocols of the selectors",
       [](GatewayOptions& a, GatewayOptions& b) {
         a.children[0].remote_ts = "10.2.0.0/24[udp]";
         b.children[0].local_ts = "10.2.0.0/24[tcp]";
       },
       Reads{traffic_selectors_unacceptable, "10.2.0.0/24[udp]", no_selectors},
       Reads{traffic_selectors_unacceptable, "10.2.0.0/24[tcp]", "10.2.0.0/24[udp]"}},
      {"address family of the selectors",
       [](auto&, GatewayOptions& b) {
         b.children[0].local_ts = "2001:db8:2::/64";
         b.children[0].remote_ts = "2001:db8:1::/64";
       },
       Reads{traffic_selectors_unacceptable, "10.1.0.0/24", no_selectors},
       Reads{traffic_selectors_unacceptable, "2001:db8:2::/64", "10.2.0.0/24"}},
      {"transport here, tunnel there",
       [](GatewayOptions& a, GatewayOptions& b) {
         transport_selectors(a).children[0].mode = config::Mode::transport;
         transport_selectors(b);
       },
       Reads{mode_mismatch, "ours: transport", "the peer's: tunnel"},
       Reads{mode_mismatch, "ours: tunnel", "the peer's: transport"}},
      {"tunnel here, transport there",
       [](GatewayOptions& a, GatewayOptions& b) {
         transport_selectors(a);
         transport_selectors(b).children[0].mode = config::Mode::transport;
       },
       Reads{no_child_proposal_chosen, "tunnel", kNoProposal},
       Reads{mode_mismatch, "ours: transport", "the peer's: tunnel"}},
      {"the peer insists on a first child",
       [](GatewayOptions& a, GatewayOptions& b) {
         a.childless = config::Childless::force;
         b.childless = config::Childless::never;
       },
       Reads{no_additional_sas, "ours: childless: force", "the peer's: it does not offer"},
       {}},
      {"the peer has no room for a child", [](auto&, auto&) {},
       Reads{no_additional_sas, "aes256gcm16", "the peer answers NO_ADDITIONAL_SAS"},
       Reads{no_spi_available, "office", "the peer's: 10.2.0.0/24"},
       [](Ladder& ladder) {
         ladder.gateway(kB).data_plane.spis_exhausted = true;
         ladder.initiate(kA);
         ladder.run();
       }},
  };
}

std::vector<Mismatch> path_mismatches() {
  using enum Failure;
  return {
      {"NAT traversal off behind a NAT",
       [](auto&, GatewayOptions& b) {
         b.remote_address = "";
         b.encapsulation = Encapsulation::never;
       },
       {},
       Reads{nat_traversal_mismatch, "encap: no", "show a NAT"},
       with_nat},
      {"encapsulation forced, and the peer does none",
       [](GatewayOptions& a, GatewayOptions& b) {
         a.encapsulation = Encapsulation::forced;
         b.encapsulation = Encapsulation::never;
       },
       Reads{nat_traversal_mismatch, "encap: yes", "no NAT traversal"},
       Reads{nat_traversal_mismatch, "encap: no", "or it forces encapsulation"}},
      {"UDP 4500 or large datagrams do not pass",
       [](auto&, GatewayOptions& b) { b.fragmentation = config::Fragmentation::no; },
       Reads{peer_unreachable, "fragmentation not agreed upon", "IKE_AUTH was not"},
       Reads{no_auth_request, "192.0.2.1", "no IKE_AUTH within 30 s"},
       [](Ladder& ladder) {
         ladder.initiate(kA);
         ladder("a --> b  IKE_SA_INIT request");
         ladder("b --> a  IKE_SA_INIT response");
         lose_everything(ladder);
       }},
      {"the peer is silent",
       [](auto&, auto&) {},
       Reads{peer_unreachable, "ours: 192.0.2.1", "no answer from 192.0.2.2"},
       {},
       [](Ladder& ladder) {
         ladder.initiate(kA);
         lose_everything(ladder);
       }},
      {"a peer that begins in IKEv1",
       [](auto&, auto&) {},
       {},
       Reads{unsupported_version, "ours: IKEv2", "IKEv1 (main mode)"},
       [](Ladder& ladder) { knock(ladder, 0x10, 2); }},
      {"a peer that answers in IKEv1",
       [](auto&, auto&) {},
       Reads{unsupported_version, "ours: IKEv2", "answers in IKEv1"},
       {},
       [](Ladder& ladder) {
         ladder.initiate(kA);
         Flying datagram = ladder.wire.front();
         ladder.wire.clear();
         datagram.from = kB;
         std::swap(datagram.local, datagram.remote);
         datagram.bytes[17] = 0x10;
         datagram.bytes[18] = 5;
         ladder.world.deliver(datagram);
         lose_everything(ladder);
       }},
      {"a peer of version 3",
       [](auto&, auto&) {},
       {},
       Reads{unsupported_version, "ours: IKEv2", "speaks version 3"},
       [](Ladder& ladder) { knock(ladder, 0x30, 34); }},
      {"a peer that refuses version 2",
       [](auto&, auto&) {},
       Reads{unsupported_version, "ours: IKEv2", "INVALID_MAJOR_VERSION"},
       {},
       [](Ladder& ladder) { answer_init(ladder, NotifyType::invalid_major_version); }},
  };
}

void try_all(const std::vector<Mismatch>& mismatches) {
  for (const Mismatch& mismatch : mismatches) {
    INFO(mismatch.name);
    GatewayOptions a = gateway_a(), b = mirrored(a);
    mismatch.differ(a, b);
    Ladder ladder(a, b);
    mismatch.play(ladder);
    ladder.wire.clear();
    check_both(ladder, mismatch);
  }
}

/// How b's certificate, or what a trusts, differs; a reads what it refuses.
struct CertificateMismatch {
  const char* name;
  Reads a;
  std::function<void(Pair&)> differ;
  RevocationPolicy revocation = RevocationPolicy::off;
};
void b_with(Pair& pair, const std::function<void(CertificateOptions&)>& change) {
  CertificateOptions options = named("b.example.org");
  change(options);
  pair.replace_b(pair.authority.issue(options));
}

/// An RSA peer without RFC 7427 that knows SHA-1 only, as strongSwan is then.
struct Sha1Peer final : ike::SignatureSource {
  explicit Sha1Peer(const Issued& issued) : issued_(issued) {}
  std::expected<Proof, Problem> sign(const config::Connection&,
                                     std::optional<std::span<const std::uint16_t>>,
                                     wire::Bytes octets) const override {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    std::size_t size = 256;
    std::vector<std::uint8_t> signature(size);
    test::must(
        EVP_DigestSignInit(context, nullptr, EVP_sha1(), nullptr, issued_.key()) == 1 &&
            EVP_DigestSign(context, signature.data(), &size, octets.data(), octets.size()) == 1,
        "signing with SHA-1");
    EVP_MD_CTX_free(context);
    return Proof{1, std::move(signature), {issued_.certificate().der()}, "RSA with SHA-1"};
  }
  std::expected<Verified, Problem> verify(const Claim&) const override {
    return std::unexpected(Problem{Failure::signature_hash_mismatch, "no signature with SHA-1"});
  }
  std::vector<std::uint8_t> authority_hashes() const override { return {}; }
  const Issued& issued_;
};

/// The datagrams on the wire no longer negotiate hashes: as if the sender knew no RFC 7427.
void hide_signature_hashes(Ladder& ladder) {
  constexpr std::array<std::uint8_t, 4> kNotify{0, 0, 0x40, 0x2F};
  constexpr std::uint8_t kUnknownStatus = 0xA0;
  for (Flying& datagram : ladder.wire) {
    const auto found = std::ranges::search(datagram.bytes, kNotify);
    REQUIRE(!found.empty());
    found[2] = kUnknownStatus;
  }
}

}  // namespace

TEST_CASE("mismatch: proposals, each kind of transform, and PFS") {
  try_all(proposal_mismatches());
}
TEST_CASE("mismatch: keys, identities and addresses") { try_all(identity_mismatches()); }
TEST_CASE("mismatch: selectors, modes and first children") { try_all(child_mismatches()); }
TEST_CASE("mismatch: NAT traversal, paths and versions") { try_all(path_mismatches()); }

TEST_CASE("mismatch: certificates") {
  using enum Failure;
  const std::vector<CertificateMismatch> mismatches{
      {"unknown authority",
       {certificate_untrusted, "Test CA", "Foreign CA"},
       [](Pair& pair) {
         pair.replace_b(Issued::authority("Foreign CA").issue(named("b.example.org")));
       }},
      {"expired",
       {certificate_not_valid, "ours: ", "has expired"},
       [](Pair& pair) { b_with(pair, [](auto& options) { options.not_after = kNow - 60; }); }},
      {"not yet valid",
       {certificate_not_valid, "ours: ", "not valid"},
       [](Pair& pair) { b_with(pair, [](auto& options) { options.not_before = kNow + 60; }); }},
      {"revoked",
       {certificate_revoked, "ours: ", "revoked"},
       [](Pair& pair) {
         pair.b.certificates.trust().add_revocation_list(pair.authority.revocation_list({}));
         pair.a.certificates.trust().add_revocation_list(
             pair.authority.revocation_list({*pair.b_end}));
       },
       RevocationPolicy::strict},
      {"strict, and no revocation list",
       {revocation_unknown, "ours: ", "b.example.org"},
       [](Pair& pair) {
         pair.b.certificates.trust().add_revocation_list(pair.authority.revocation_list({}));
       },
       RevocationPolicy::strict},
      {"subjectAltName",
       {identity_not_certified, "remote.id b.example.org", "mallory"},
       [](Pair& pair) { pair.replace_b(pair.authority.issue(named("mallory.example.org"))); }},
      {"extended key usage",
       {certificate_unsuitable, "ours: ", "b.example.org"},
       [](Pair& pair) {
         b_with(pair, [](auto& options) { options.extended_key_usage = "codeSigning"; });
       }},
      {"missing intermediate",
       {certificate_untrusted, "Test CA", "Intermediate"},
       [](Pair& pair) {
         CertificateOptions options;
         options.name = "Intermediate";
         options.alternative_names.clear();
         options.authority = true;
         pair.replace_b(pair.authority.issue(options).issue(named("b.example.org")));
       }},
  };
  for (const CertificateMismatch& mismatch : mismatches) {
    INFO(mismatch.name);
    Pair pair(KeyKind::p256, mismatch.revocation);
    mismatch.differ(pair);
    Ladder ladder = pair.ladder();
    ladder.initiate(kA);
    ladder.run();
    check(ladder, kA, mismatch.a);
    check(ladder, kB,
          Reads{certificate_refused_remote, "local.id b.example.org", "the peer a.example.org"});
  }
}

TEST_CASE("mismatch: RSA with a peer that knows only SHA-1 for it (RFC 8247 §4.3)") {
  using enum Failure;
  Pair pair(KeyKind::rsa2048);
  const Sha1Peer peer(*pair.b_end);
  GatewayOptions a = gateway_a();
  a.auth = a.remote_auth = AuthMethod::pubkey;
  a.certificate = "own.pem";
  GatewayOptions b = mirrored(a);
  a.signatures = &pair.a.certificates;
  b.signatures = &peer;
  Ladder ladder(a, b);
  SECTION("the peer refuses ours") {
    ladder.initiate(kA);
    ladder("a --> b  IKE_SA_INIT request");
    hide_signature_hashes(ladder);
    ladder.run();
    check(ladder, kA,
          Reads{signature_hash_mismatch, "auth RSASSA-PKCS1-v1_5 with SHA-256",
                kAuthFailed + ", and negotiates no hash for it (RFC 7427)"});
  }
  SECTION("we refuse the peer's") {
    ladder.initiate(kB);
    ladder.run();
    check(ladder, kA,
          Reads{signature_hash_mismatch, "remote.id b.example.org", "SHA-1 is not accepted"});
  }
}

TEST_CASE("mismatch: a shared key here and a certificate there") {
  using enum Failure;
  Pair pair;
  pair.b.own(*pair.b_end);
  GatewayOptions a = gateway_a(), b = mirrored(a);
  SECTION("the responder expects a certificate") {
    b.remote_auth = AuthMethod::pubkey;
    b.signatures = &pair.b.certificates;
    Ladder ladder(a, b);
    ladder.initiate(kA);
    ladder.run();
    check(ladder, kA, Reads{authentication_failed_remote, "auth psk", kAuthFailed});
    check(ladder, kB, Reads{auth_method_mismatch, "remote.auth pubkey", "pre-shared key"});
  }
  SECTION("the initiator expects a shared key") {
    b.auth = AuthMethod::pubkey;
    b.certificate = "own.pem";
    b.signatures = &pair.b.certificates;
    Ladder ladder(a, b);
    ladder.initiate(kA);
    ladder.run();
    check(ladder, kA, Reads{auth_method_mismatch, "remote.auth psk", "b.example.org"});
    check(ladder, kB, Reads{certificate_refused_remote, "local.id b.example.org", "refuses"});
  }
  SECTION("we have no private key") {
    Holder keyless;
    keyless.certificates.add_own("own.pem", {pair.b_end->certificate()});
    a.auth = AuthMethod::pubkey;
    a.certificate = "own.pem";
    a.signatures = &keyless.certificates;
    b.remote_auth = AuthMethod::pubkey;
    b.signatures = &pair.b.certificates;
    Ladder ladder(a, b);
    ladder.initiate(kA);
    ladder.run();
    check(ladder, kA, Reads{signature_failed, "no private key", "b.example.org"});
    check(ladder, kB, std::nullopt);
  }
}

}  // namespace culvert::ladder
