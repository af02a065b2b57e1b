#include <algorithm>

#include <catch2/catch.hpp>

#include "config/config.hpp"
#include "config/limits.hpp"
#include "config/next_hop.hpp"
#include "tests/unit/config/valid_configuration.hpp"

namespace culvert::config {
namespace {

using test::kValid;
using test::with;

Config load_valid(std::string_view text) {
  LoadResult result = load_text(text, "etc/hq.yaml");
  for (const Diagnostic& diagnostic : result.diagnostics) UNSCOPED_INFO(diagnostic.to_string());
  REQUIRE(result.ok());
  return *std::move(result.config);
}

}  // namespace

TEST_CASE("load: a link-local router is on the interface that the route names, or the only one") {
  // Of kValid's interfaces only wan has IPv6.
  const auto route = [](std::string_view text) {
    const Config config =
        load_valid(with("  routes:\n", "  routes:\n    - " + std::string(text) + "\n"));
    return std::pair(config.dataplane.routes.at(0),
                     interface_of(config.dataplane, config.dataplane.routes.at(0)));
  };
  const auto [alone, where] = route("{to: \"::/0\", via: \"fe80::1\"}");
  CHECK_FALSE(alone.interface);
  CHECK(where == std::size_t{0});
  const auto [named, there] = route("{to: \"::/0\", via: \"fe80::1\", interface: wan}");
  CHECK(named.interface == "wan");
  CHECK(there == std::size_t{0});
  CHECK(route("{to: 10.7.0.0/16, via: 10.1.0.7, interface: lan}").second == std::size_t{1});
}

TEST_CASE("load: static neighbours, of both families and link-local ones") {
  const Config config = load_valid(
      with("  routes:\n",
           "  neighbors:\n"
           "    - {interface: lan, address: 10.1.0.7, mac: 02:00:00:00:00:07}\n"
           "    - {interface: wan, address: \"2001:db8:ffff::7\", mac: \"0A:bc:00:00:00:08\"}\n"
           "    - {interface: wan, address: \"fe80::7\", mac: \"02:00:00:00:00:09\"}\n"
           "  routes:\n"));
  const auto& neighbors = config.dataplane.neighbors;
  REQUIRE(neighbors.size() == 3);
  CHECK(neighbors[0].interface == "lan");
  CHECK(neighbors[0].address.to_string() == "10.1.0.7");
  CHECK(neighbors[0].mac == wire::MacAddress{2, 0, 0, 0, 0, 7});
  CHECK(neighbors[1].mac == wire::MacAddress{0x0a, 0xbc, 0, 0, 0, 8});
  CHECK(neighbors[2].address.to_string() == "fe80::7");
}

TEST_CASE("load: a valid file has no diagnostics and every value arrives typed") {
  const LoadResult result = load_text(kValid, "hq.yaml");
  REQUIRE(result.diagnostics.empty());
  const Config& config = result.config.value();

  CHECK(config.instance == "hq");
  CHECK(config.user == "culvert");
  CHECK(config.dataplane.cores == std::vector<std::uint32_t>{2, 3});
  CHECK(config.dataplane.workers == 2);
  CHECK(config.dataplane.interfaces.at(0).addresses.at(1).to_string() == "2001:db8:ffff::1/64");
  CHECK(config.dataplane.interfaces.at(1).mtu == 1400);
  CHECK(config.dataplane.routes.at(0).via.to_string() == "198.51.100.254");
  CHECK(config.dataplane.limits.sas == 1024);
  CHECK(config.dataplane.idle == IdleMode::busy);
  CHECK(config.dataplane.memory_mib == 512U);
  CHECK(config.dataplane.huge_pages_required);
  CHECK(config.policies.at(0).source.to_string() == "10.1.0.0/24[icmp]");
  CHECK(config.default_policy == PolicyAction::discard);
  CHECK(config.metrics.listen->to_string() == "127.0.0.1:9464");
  CHECK(config.metrics.ike_listen->to_string() == "127.0.0.1:9465");

  const Connection& branch = config.connections.at(0);
  CHECK(branch.rekey_time == std::chrono::hours{4});
  CHECK(branch.dpd_delay == std::chrono::seconds{30});
  CHECK(branch.encapsulation == Encapsulation::forced);
  CHECK(branch.fragmentation == Fragmentation::accept);
  CHECK(branch.fragment_size == 1400);
  CHECK(branch.mobike == Mobike::yes);
  CHECK(branch.childless == Childless::prefer);
  CHECK(branch.reauth_time == std::chrono::hours{8});
  CHECK(branch.proposals.size() == 2);
  CHECK(branch.location.line == 22);
  const Child& office = branch.children.at(0);
  CHECK(office.remote_ts.at(0).to_string() == "10.2.0.0/24[tcp/443]");
  CHECK(office.life_time == std::chrono::minutes{70});
  CHECK(office.rekey_bytes == std::uint64_t{64} << 30U);
  CHECK(office.rekey_packets == 1000000);
  CHECK(office.replay_window == 4096);
  CHECK(office.start_action == StartAction::start);
}

TEST_CASE("load: who does ESP's cryptography is chosen at the start, or written down") {
  using crypto::esp::EngineWish;
  CHECK(load_valid(kValid).dataplane.engine == EngineWish::automatic);
  const auto written = [](const std::string& word) {
    return load_valid(with("  idle: busy\n", "  idle: busy\n  crypto: " + word + '\n'))
        .dataplane.engine;
  };
  CHECK(written("auto") == EngineWish::automatic);
  CHECK(written("ipsec-mb") == EngineWish::ipsec_mb);
  CHECK(written("openssl") == EngineWish::openssl);
}

TEST_CASE("load: what a child does not say has the documented default") {
  const Config config = load_valid(kValid);
  const Child& hosts = config.connections.at(0).children.at(1);
  CHECK(hosts.mode == Mode::transport);
  CHECK(hosts.local_ts.at(0).to_string() == "198.51.100.1/32");
  CHECK(hosts.remote_ts.at(0).to_string() == "203.0.113.7/32");
  CHECK(hosts.start_action == StartAction::trap);
  CHECK(hosts.rekey_time == std::chrono::seconds{3600});
  CHECK(hosts.life_time == std::chrono::seconds{3960});
  CHECK(hosts.rekey_bytes == 0);
  CHECK(hosts.life_bytes == 0);
  CHECK(hosts.replay_window == 1024);
  CHECK_FALSE(hosts.esp_proposals.empty());
}

TEST_CASE(
    "load: without the peer's address and without remote_ts any address of the peer's is meant") {
  std::string text(kValid);
  const auto without = [&text](std::string_view part, std::string_view instead) {
    text.replace(text.find(part), part.size(), instead);
  };
  without("address: 203.0.113.7,", "");
  without("start_action: start", "start_action: trap");
  const Config config = load_valid(text);
  const Child& hosts = config.connections.at(0).children.at(1);
  CHECK(hosts.local_ts.at(0).to_string() == "198.51.100.1/32");
  CHECK(hosts.remote_ts.empty());
}

TEST_CASE("load: a post-quantum key stands beside the secrets, and is named by a connection") {
  std::string text = with("    reauth_time: 8h\n",
                          "    reauth_time: 8h\n    ppk_id: shared\n    ppk_required: yes\n");
  text.insert(text.find("pki: {"), "  - {ppk_id: shared, ppk_file: shared.ppk}\n");
  const Config config = load_valid(text);
  CHECK(config.connections.at(0).ppk_id == "shared");
  CHECK(config.connections.at(0).ppk_required);
  REQUIRE(config.post_quantum_keys.size() == 1);
  CHECK(config.post_quantum_keys.front().file == "etc/shared.ppk");
  CHECK(config.secrets.size() == 1);
  CHECK_FALSE(load_valid(kValid).connections.at(0).ppk_required);
}

TEST_CASE("load: a post-quantum key that nobody has, or that has no name, is refused") {
  const auto missing = load_text(
      with("    reauth_time: 8h\n", "    reauth_time: 8h\n    ppk_id: lost\n"), "hq.yaml");
  REQUIRE(missing.diagnostics.size() == 1);
  CHECK_THAT(missing.diagnostics.front().to_string(),
             Catch::Contains("connections[0].ppk_id") && Catch::Contains("ppk_file: FILE"));
  const auto nameless = load_text(
      with("    reauth_time: 8h\n", "    reauth_time: 8h\n    ppk_required: yes\n"), "hq.yaml");
  REQUIRE(nameless.diagnostics.size() == 1);
  CHECK_THAT(nameless.diagnostics.front().to_string(), Catch::Contains("ppk_required"));
}

TEST_CASE("load: the first rekey of a child is rehearsed unless the file says no") {
  CHECK(load_valid(kValid).connections.at(0).children.at(0).rehearse_rekey);
  const Config config = load_valid(
      with("replay_window: 4096\n", "replay_window: 4096\n        rehearse_rekey: no\n"));
  CHECK_FALSE(config.connections.at(0).children.at(0).rehearse_rekey);
}

TEST_CASE("load: a child is known by its names, wherever it stands, a manual SA by its own") {
  const Config config = load_valid(kValid);
  const auto& children = config.connections.at(0).children;
  CHECK(children.at(0).id == child_id("branch", "office"));
  CHECK(children.at(1).id == child_id("branch", "hosts"));
  CHECK(config.manual_sas.at(0).id == manual_id(config.manual_sas.at(0).name));
  CHECK(child_id("branch", "office") != child_id("brancho", "ffice"));
  CHECK(child_id("manual", "office") != manual_id("office"));
  // Data planes and key daemons of several releases, and records, mean the same by it.
  CHECK(static_cast<std::uint64_t>(child_id("branch", "office")) == 0x89967cc66fbf4d03ULL);
  CHECK(config.find_connection("branch") != nullptr);
  CHECK(config.find_connection("branc") == nullptr);
}

TEST_CASE("load: a manual SA keeps its SPI, ports and disabled replay window") {
  const ManualSa lab = load_valid(kValid).manual_sas.at(0);
  CHECK(lab.spi == 0x1000);
  CHECK(lab.direction == ManualSa::Direction::out);
  CHECK(lab.suite.name() == "aes128-sha256");
  CHECK(lab.esn);
  CHECK(lab.replay_window == 0);
  CHECK(lab.udp_encap_local_port == 4500);
  CHECK(lab.udp_encap_remote_port == 4501);
  const ManualSa udp =
      load_valid(with("{local_port: 4500, remote_port: 4501}", "udp")).manual_sas.at(0);
  CHECK(udp.udp_encap_remote_port == 4500);
}

TEST_CASE("load: relative paths are meant from the configuration's folder, absolute ones stay") {
  const Config config = load_valid(kValid);
  CHECK(config.secrets.at(0).psk_file == "etc/branch.psk");
  CHECK(config.manual_sas.at(0).key_file == "etc/lab.key");
  const Config absolute = load_valid(with("branch.psk", "/etc/culvert/branch.psk"));
  CHECK(absolute.secrets.at(0).psk_file == "/etc/culvert/branch.psk");
}

TEST_CASE("load: durations and sizes take their units, and overflow is refused") {
  CHECK(load_valid(with("life_time: 70m", "life_time: 1d"))
            .connections.at(0)
            .children.at(0)
            .life_time == std::chrono::hours{24});
  CHECK(load_valid(with("64GiB", "500MB")).connections.at(0).children.at(0).rekey_bytes ==
        500000000);
  CHECK(load_valid(with("64GiB", "0")).connections.at(0).children.at(0).rekey_bytes == 0);
  CHECK_FALSE(load_text(with("64GiB", "99999999999TiB"), "f").ok());
  CHECK_FALSE(load_text(with("64GiB", "99999999999999999999999"), "f").ok());
  CHECK_FALSE(load_text(with("64GiB", "-1"), "f").ok());
  CHECK_FALSE(load_text(with("life_time: 70m", "life_time: 366d"), "f").ok());
}

TEST_CASE("load: rekey_time 0 means never and has no hard lifetime") {
  const Config config = load_valid(with("rekey_time: 1h\n        life_time: 70m", "rekey_time: 0"));
  CHECK(config.connections.at(0).children.at(0).rekey_time.count() == 0);
  CHECK(config.connections.at(0).children.at(0).life_time.count() == 0);
}

TEST_CASE("load: a policy without addresses counts for both families") {
  const Config config = load_valid(
      with("{action: bypass, protocol: icmp, source: 10.1.0.0/24, destination: 198.51.100.0/24}",
           "{action: discard, protocol: sctp}"));
  REQUIRE(config.policies.size() == 2);
  CHECK(config.policies[0].source.first.is_v4());
  CHECK_FALSE(config.policies[1].source.first.is_v4());
  CHECK(config.policies[1].destination.protocol == wire::protocol::kSctp);
}

TEST_CASE("load: metrics can be turned off, and the key daemon's follows") {
  const Config config = load_valid(with("{listen: 127.0.0.1:9464}", "{listen: off}"));
  CHECK_FALSE(config.metrics.listen);
  CHECK_FALSE(config.metrics.ike_listen);
  CHECK_FALSE(load_text(with("127.0.0.1:9464", "127.0.0.1:65535"), "f").ok());
}

TEST_CASE("load: the secret that names both peers wins over one that names the peer or nobody") {
  const Config config = load_valid(with("secrets:\n",
                                        "secrets:\n  - {psk_file: any.psk}\n"
                                        "  - {ids: [branch.example.org], psk_file: peer.psk}\n"));
  const auto id = [](std::string_view text) { return parse_identity(text).value(); };
  const auto file = [&](std::string_view ours, std::string_view theirs) {
    return config.find_secret(id(ours), id(theirs))->psk_file;
  };
  CHECK(file("hq.example.org", "branch.example.org") == "etc/branch.psk");
  CHECK(file("lab.example.org", "branch.example.org") == "etc/peer.psk");
  CHECK(file("lab.example.org", "else.example.org") == "etc/any.psk");
}

TEST_CASE("load: all problems of a file are reported at once, in file order") {
  const LoadResult result = load_text(
      "dataplane: {workers: none, interfaces: []}\nconnections: 7\nuser: [x]\nmetrics: 1\n", "f");
  REQUIRE(result.diagnostics.size() >= 4);
  for (std::size_t index = 1; index < result.diagnostics.size(); ++index) {
    CHECK(result.diagnostics[index - 1].location.line <= result.diagnostics[index].location.line);
  }
}

TEST_CASE("load: a file with thousands of mistakes is answered with a bounded list") {
  std::string text = "dataplane: {interfaces: []}\n";
  for (int index = 0; index < 5000; ++index) text += "wrong" + std::to_string(index) + ": 1\n";
  const LoadResult result = load_text(text, "f");
  REQUIRE(result.diagnostics.size() == limits::kDiagnostics + 1);
  CHECK(result.diagnostics.back().found == "4801 problems more");
}

TEST_CASE("load: what is left out of the list is an error only where an error is among it") {
  std::string text(kValid);
  for (int index = 0; index < 250; ++index) {
    text.insert(text.find("pki: {"), "  - {ids: [n" + std::to_string(index) + "], psk_file: n}\n");
  }
  const LoadResult result = load_text(text, "f");
  CHECK(result.ok());
  CHECK(result.diagnostics.back().found == "50 problems more");
  CHECK(result.diagnostics.back().severity == Severity::warning);
}

TEST_CASE("load: a file that is missing or a folder is a diagnostic, not an exception") {
  CHECK_FALSE(load_file("/nonexistent/hq.yaml").ok());
  CHECK_FALSE(load_file("/").ok());
  CHECK(load_file("/nonexistent/hq.yaml").diagnostics.size() == 1);
}

TEST_CASE("load: how headers and sizes are treated, of children and of manual SAs") {
  const HeaderOptions plain;
  const Config config = load_valid(kValid);
  CHECK(config.connections.at(0).children.at(0).headers == plain);
  CHECK(plain.mss_clamp);
  CHECK(plain.icmp_errors == IcmpErrors::header);

  const Config set = load_valid(
      with("replay_window: 4096",
           "copy_dscp: in\n        dscp: 46\n        copy_ecn: no\n        copy_flow_label: yes\n"
           "        df: clear\n        hop_limit: 255\n        mss_clamp: no\n"
           "        fragmentation: after\n        icmp_errors: check\n        tfc_padding: mtu\n"
           "        path_mtu: 1400"));
  const HeaderOptions& headers = set.connections.at(0).children.at(0).headers;
  CHECK(headers.copy_dscp == CopyDscp::in);
  CHECK(headers.dscp == 46);
  CHECK_FALSE(headers.copy_ecn);
  CHECK(headers.copy_flow_label);
  CHECK(headers.df == DontFragment::clear);
  CHECK(headers.hop_limit == 255);
  CHECK_FALSE(headers.mss_clamp);
  CHECK(headers.fragmentation == FragmentationOrder::after);
  CHECK(headers.icmp_errors == IcmpErrors::check);
  CHECK(headers.tfc_padding == HeaderOptions::kPadToPath);
  CHECK(plain.path_mtu == HeaderOptions::kAnyPath);
  CHECK(headers.path_mtu == 1400);

  const ManualSa manual =
      load_valid(with("esn: true", "esn: true\n    first_sequence: 0xfffffff0\n    dscp: 8"))
          .manual_sas.at(0);
  CHECK(manual.first_sequence == 0xfffffff0);
  CHECK(manual.headers.dscp == 8);
  CHECK(manual.headers.copy_dscp == CopyDscp::none);
}

TEST_CASE("load: the least path MTU is that of the outer family, of a peer anywhere IPv4's") {
  const auto loads = [](std::string_view remote, std::string_view path_mtu) {
    std::string text = with("replay_window: 4096", "path_mtu: " + std::string(path_mtu));
    const std::string_view first = "198.51.100.1, id", second = "203.0.113.7,  id";
    text.replace(text.find(second), second.size(), std::string(remote) + ", id");
    const std::string local = remote == "\"2001:db8:ffff::7\"" ? "\"2001:db8:ffff::1\", id"
                              : remote == "%any"               ? "%any, id"
                                                               : std::string(first);
    text.replace(text.find(first), first.size(), local);
    const auto result = load_text(text, "f");
    for (const auto& one : result.diagnostics) {
      if (one.to_string().find("path_mtu") != std::string::npos) return false;
    }
    return true;
  };
  CHECK(loads("203.0.113.7", "576"));
  CHECK_FALSE(loads("203.0.113.7", "575"));
  CHECK(loads("\"2001:db8:ffff::7\"", "1280"));
  CHECK_FALSE(loads("\"2001:db8:ffff::7\"", "1279"));
  CHECK(loads("%any", "576"));
  CHECK_FALSE(loads("203.0.113.7", "9001"));
}

TEST_CASE("load: what transport mode does anyhow may be said there") {
  CHECK(load_text(with("mode: transport",
                       "mode: transport\n        copy_dscp: out\n        copy_ecn: yes\n"
                       "        df: copy\n        fragmentation: after\n        mss_clamp: no\n"
                       "        tfc_padding: 0\n        path_mtu: 1400\n        hop_limit: 64\n"
                       "        copy_flow_label: no"),
                  "f")
            .diagnostics.empty());
}

TEST_CASE("load: a counter mode under a manual key is a warning where it makes IVs") {
  const auto warns = [](std::string_view suite, std::string_view direction) {
    std::string text = with("suite: aes128-sha256", "suite: " + std::string(suite));
    const std::string_view out = "direction: out";
    text.replace(text.find(out), out.size(), "direction: " + std::string(direction));
    const LoadResult result = load_text(text, "f");
    REQUIRE(result.ok());
    return std::ranges::any_of(result.diagnostics, [](const Diagnostic& one) {
      return one.found.ends_with(" with a manual key");
    });
  };
  for (const char* suite :
       {"aes128gcm16", "aes256ccm16", "aes128ctr-sha256", "aes128gmac", "chacha20poly1305"}) {
    INFO(suite);
    CHECK(warns(suite, "out"));
    CHECK_FALSE(warns(suite, "in"));
  }
  CHECK_FALSE(warns("aes256-sha512", "out"));
  CHECK_FALSE(warns("null-sha256", "out"));
}

TEST_CASE("load: dummy packets, of children and outbound manual SAs, in both modes") {
  const auto dummies = [](std::string_view words) {
    const Config config =
        load_valid(with("replay_window: 4096", "dummy_packets: " + std::string(words)));
    return config.connections.at(0).children.at(0).headers.dummy_packets;
  };
  CHECK(load_valid(kValid).connections.at(0).children.at(0).headers.dummy_packets ==
        DummyPackets{0, 0});
  CHECK(dummies("{per_second: 50}") == DummyPackets{50, 0});
  CHECK(dummies("{per_second: 1000, bytes: 9000}") == DummyPackets{1000, 9000});
  CHECK(dummies("{per_second: 1, bytes: 40}") == DummyPackets{1, 40});
  CHECK(load_valid(with("esn: true", "dummy_packets: {per_second: 7}"))
            .manual_sas.at(0)
            .headers.dummy_packets.per_second == 7);
  CHECK(load_text(
            with("mode: transport", "mode: transport\n        dummy_packets: {per_second: 5}"), "f")
            .ok());
}

TEST_CASE("load: all dummy packets together are bounded, and the one beyond is named") {
  const auto with_children = [](int count) {
    std::string more;
    for (int n = 0; n < count; ++n) {
      more += "\n      - {name: n" + std::to_string(n) +
              ", local_ts: [10.1.0.0/24], remote_ts: [10.77." + std::to_string(n) +
              ".0/24], dummy_packets: {per_second: 1000}}";
    }
    return load_text(with("replay_window: 4096", "replay_window: 4096" + more), "f");
  };
  CHECK(with_children(20).ok());
  const LoadResult beyond = with_children(22);
  CHECK_FALSE(beyond.ok());
  int told = 0;
  for (const Diagnostic& diagnostic : beyond.diagnostics) {
    if (diagnostic.severity != Severity::error) continue;
    ++told;
    CHECK(diagnostic.path == "connections[0].children[21].dummy_packets.per_second");
    CHECK(diagnostic.found == "21000 dummy packets a second, with those before");
    CHECK(diagnostic.expected == "at most 20000 of all children and manual SAs together");
  }
  CHECK(told == 1);
}

TEST_CASE("load: why there is no configuration is its first error, with its place") {
  CHECK(load_text(kValid, "f").why_not().empty());
  const LoadResult result = load_text(with("esn: true", "first_sequence: 0"), "gateway.yaml");
  REQUIRE_FALSE(result.ok());
  const std::string why = result.why_not();
  CAPTURE(why);
  CHECK(why.starts_with("the file has errors: gateway.yaml:"));
  CHECK(why.find(": error: manual_sas[0].first_sequence: found \"0\"") != std::string::npos);
}

TEST_CASE("load: padding is for tunnels, and without ESN a number has 32 bits") {
  CHECK_FALSE(
      load_text(with("mode: transport", "mode: transport\n        tfc_padding: 100"), "f").ok());
  CHECK_FALSE(load_text(with("esn: true", "first_sequence: 4294967296"), "f").ok());
  CHECK_FALSE(load_text(with("esn: true", "first_sequence: 0"), "f").ok());
}

}  // namespace culvert::config
