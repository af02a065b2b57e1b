// A configuration that uses every section, for tests that change one thing.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace culvert::config::test {

inline constexpr std::string_view kValid = R"(instance: hq
dataplane:
  workers: [2, 3]
  interfaces:
    - name: wan
      device: "0000:03:00.0"
      addresses: [198.51.100.1/24, "2001:db8:ffff::1/64"]
    - name: lan
      device: net_af_packet0,iface=veth-lan
      addresses: [10.1.0.1/24]
      mtu: 1400
  routes:
    - {to: 0.0.0.0/0, via: 198.51.100.254}
  limits: {sas: 1024, policies: 256}
  idle: busy
  memory_mib: 512
  huge_pages_required: true
policies:
  - {action: bypass, protocol: icmp, source: 10.1.0.0/24, destination: 198.51.100.0/24}
default_policy: discard
connections:
  - name: branch
    local:  {address: 198.51.100.1, id: hq.example.org,     auth: psk}
    remote: {address: 203.0.113.7,  id: branch.example.org, auth: psk}
    proposals: [aes256gcm16-prfsha384-ecp384, aes128gcm16-prfsha256-x25519]
    rekey_time: 4h
    dpd_delay: 30s
    encap: yes
    fragmentation: accept
    mobike: yes
    childless: prefer
    reauth_time: 8h
    fragment_size: 1400
    children:
      - name: office
        mode: tunnel
        local_ts:  [10.1.0.0/24]
        remote_ts: ["10.2.0.0/24[tcp/443]", 10.3.0.0/16]
        esp_proposals: [aes256gcm16-ecp384]
        start_action: start
        rekey_time: 1h
        life_time: 70m
        rekey_bytes: 64GiB
        rekey_packets: 1000000
        replay_window: 4096
      - name: hosts
        mode: transport
manual_sas:
  - name: lab
    direction: out
    spi: 0x1000
    local: 198.51.100.1
    remote: 203.0.113.9
    local_ts: [10.1.0.0/24]
    remote_ts: [10.9.0.0/24]
    suite: aes128-sha256
    key_file: lab.key
    esn: true
    replay_window: 0
    encap: {local_port: 4500, remote_port: 4501}
secrets:
  - {ids: [hq.example.org, branch.example.org], psk_file: branch.psk}
pki: {authorities: [ca.pem], private_keys: [hq.key], crls: []}
metrics: {listen: 127.0.0.1:9464}
)";

/// The valid text with the first `old_part` replaced.
inline std::string with(std::string_view old_part, std::string_view new_part) {
  std::string text(kValid);
  const std::size_t at = text.find(old_part);
  if (at == std::string::npos) throw std::invalid_argument(std::string(old_part));
  return text.replace(at, old_part.size(), new_part);
}

}  // namespace culvert::config::test
