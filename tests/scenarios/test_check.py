"""`culvert check` on broken configurations: where, what was found, what was expected; no crash."""

import json
import re

import pytest

from harness.configuration import write_secret
from harness.shell import run
from harness.testbed import build_directory

GOOD = """\
instance: hq
dataplane:
  workers: 2
  interfaces:
    - name: wan
      device: "0000:03:00.0"
      addresses: [198.51.100.1/24]
    - name: lan
      device: "0000:03:00.1"
      addresses: [10.1.0.1/24]
  routes:
    - {to: 0.0.0.0/0, via: 198.51.100.254}
  limits: {sas: 65536, policies: 16384}
  idle: adaptive
policies:
  - {action: bypass, protocol: icmp, source: 10.1.0.0/24, destination: 198.51.100.0/24}
default_policy: discard
connections:
  - name: branch
    local: {address: 198.51.100.1, id: hq.example.org, auth: psk}
    remote: {address: 203.0.113.7, id: branch.example.org, auth: psk}
    proposals: [aes256gcm16-prfsha384-ecp384, aes128gcm16-prfsha256-x25519]
    rekey_time: 4h
    dpd_delay: 30s
    children:
      - name: office
        mode: tunnel
        local_ts: [10.1.0.0/24]
        remote_ts: ["10.2.0.0/24[tcp/443]", 10.3.0.0/16]
        esp_proposals: [aes256gcm16-ecp384]
        start_action: start
        rekey_time: 1h
        rekey_bytes: 64GiB
        replay_window: 4096
secrets:
  - {ids: [hq.example.org, branch.example.org], psk_file: branch.psk}
metrics: {listen: 127.0.0.1:9464}
"""

# (name, what stands in GOOD, what stands there instead, words that the diagnostic must contain)
BROKEN = [
    ("unknown-key", "default_policy: discard", "defualt_policy: discard", ["default_policy"]),
    ("unknown-nested-key", "dpd_delay: 30s", "dpd_dealy: 30s", ["dpd_delay"]),
    ("mode-mistyped", "mode: tunnel", "mode: tunel", ["tunel", "tunnel", "transport"]),
    ("start-action", "start_action: start", "start_action: begin", ["begin", "trap"]),
    ("idle-mode", "idle: adaptive", "idle: sometimes", ["sometimes", "adaptive"]),
    ("workers-word", "workers: 2", "workers: many", ["many"]),
    ("workers-zero", "workers: 2", "workers: 0", ["0"]),
    ("workers-too-many", "workers: 2", "workers: 4096", ["4096"]),
    ("device-kernel-name", '"0000:03:00.0"', "eth0", ["eth0", "net_af_packet"]),
    ("interface-address-no-length", "[198.51.100.1/24]", "[198.51.100.1]", ["198.51.100.1"]),
    ("interface-address-octet", "[198.51.100.1/24]", "[198.51.300.1/24]", ["198.51.300.1"]),
    ("interface-address-length", "[198.51.100.1/24]", "[198.51.100.1/33]", ["/33"]),
    ("duplicate-interface", "- name: lan", "- name: wan", ["wan"]),
    ("route-unreachable", "via: 198.51.100.254", "via: 192.0.2.254", ["192.0.2.254"]),
    ("route-family", "via: 198.51.100.254", 'via: "2001:db8::1"', ["2001:db8::1"]),
    ("limit-word", "sas: 65536", "sas: lots", ["lots"]),
    ("limit-too-large", "sas: 65536", "sas: 99999999", ["99999999"]),
    ("policy-action", "action: bypass", "action: permit", ["permit", "bypass"]),
    ("policy-protect", "action: bypass", "action: protect", ["protect", "connection"]),
    ("policy-protocol", "protocol: icmp", "protocol: icpm", ["icpm"]),
    ("policy-families", "source: 10.1.0.0/24", 'source: "2001:db8::/32"', ["family"]),
    ("default-policy", "default_policy: discard", "default_policy: drop", ["drop", "discard"]),
    ("local-address-not-ours", "local: {address: 198.51.100.1", "local: {address: 198.51.100.9",
     ["198.51.100.9"]),
    ("remote-address-word", "address: 203.0.113.7", "address: branch", ["branch"]),
    ("auth-method", "id: hq.example.org, auth: psk", "id: hq.example.org, auth: password",
     ["password", "psk"]),
    ("ike-unknown-algorithm", "aes256gcm16-prfsha384-ecp384", "aes256gmc16-prfsha384-ecp384",
     ["aes256gmc16"]),
    ("ike-weak-cipher", "aes256gcm16-prfsha384-ecp384", "3des-sha256-modp2048", ["3des"]),
    ("ike-weak-group", "aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384-modp1024",
     ["modp1024"]),
    ("ike-no-group", "aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384", ["group"]),
    ("ike-aead-with-integrity", "aes256gcm16-prfsha384-ecp384", "aes256gcm16-sha384-aes128-ecp384",
     ["aes256gcm16"]),
    ("esp-unknown-algorithm", "[aes256gcm16-ecp384]", "[rot13]", ["rot13"]),
    ("esp-empty", "[aes256gcm16-ecp384]", "[]", ["proposal"]),
    ("selector-text", "[10.1.0.0/24]\n        remote", "[office]\n        remote", ["office"]),
    ("selector-port", "tcp/443", "tcp/99999", ["99999"]),
    ("selector-host-bits", "local_ts: [10.1.0.0/24]", "local_ts: [10.1.0.7/24]", ["10.1.0.7"]),
    ("rekey-time-unit", "rekey_time: 1h", "rekey_time: 1fortnight", ["1fortnight"]),
    ("rekey-time-negative", "rekey_time: 1h", "rekey_time: -5s", ["-5s"]),
    ("rekey-bytes", "rekey_bytes: 64GiB", "rekey_bytes: 64Gib", ["64Gib"]),
    ("replay-window", "replay_window: 4096", "replay_window: 1000", ["1000", "power of two"]),
    ("replay-window-huge", "replay_window: 4096", "replay_window: 131072", ["131072"]),
    ("secret-missing-file", "psk_file: branch.psk", "psk_file: nowhere.psk", ["psk_file", "No such file"]),
    ("metrics-port", "127.0.0.1:9464", "127.0.0.1:99464", ["99464"]),
    ("instance-path", "instance: hq", "instance: ../hq", ["../hq"]),
    ("list-for-map", "metrics: {listen: 127.0.0.1:9464}", "metrics: [127.0.0.1]", ["map"]),
    ("map-for-list", "  routes:\n    - {to: 0.0.0.0/0, via: 198.51.100.254}",
     "  routes: {to: 0.0.0.0/0, via: 198.51.100.254}", ["list"]),
    ("yaml-indentation", "default_policy: discard", "default_policy: discard\n  what: now", []),
    ("yaml-unclosed", "metrics: {listen: 127.0.0.1:9464}", "metrics: {listen: 127.0.0.1:9464", []),
    ("yaml-tab", "  workers: 2", "\tworkers: 2", []),
    ("duplicate-key", "default_policy: discard", "default_policy: discard\ndefault_policy: bypass",
     ["default_policy"]),
]


def check(tmp_path, text):
    write_secret(tmp_path / "branch.psk", "a pre-shared key of decent length")
    file = tmp_path / "hq.yaml"
    file.write_text(text)
    words = [build_directory() / "cli/culvert", "check", file]
    plain = run(*words, check=False)
    machine = run(*words, "--json", check=False)
    assert plain.returncode == machine.returncode >= 0, "a negative status is a crash"
    return plain, json.loads(machine.stdout)


def line_of_difference(broken):
    pairs = enumerate(zip(GOOD.splitlines(), broken.splitlines()), start=1)
    return next(number for number, (good, bad) in pairs if good != bad)


def test_the_good_one_is_good(tmp_path):
    plain, report = check(tmp_path, GOOD)
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert report["ok"] is True
    assert report["schema"] == "culvert.check.v1"
    assert report["instance"] == "hq"
    assert not [entry for entry in report["diagnostics"] if entry["severity"] == "error"]


@pytest.mark.parametrize("good, bad, words", [case[1:] for case in BROKEN],
                         ids=[case[0] for case in BROKEN])
def test_broken(tmp_path, good, bad, words):
    assert GOOD.count(good) >= 1
    text = GOOD.replace(good, bad, 1)
    plain, report = check(tmp_path, text)
    assert plain.returncode != 0
    assert report["ok"] is False
    errors = [entry for entry in report["diagnostics"] if entry["severity"] == "error"]
    assert errors
    output = plain.stdout + plain.stderr
    assert re.search(r"hq\.yaml:\d+:\d+: error: ", output), output
    for word in words:
        assert word in output, output
    for error in errors:
        assert error["line"] >= 1 and error["column"] >= 1
        assert error["found"] and error["expected"]
    if words:  # a place that only YAML's grammar knows may be further down
        wrong = line_of_difference(text)
        assert min(abs(error["line"] - wrong) for error in errors) <= 1, output


def test_a_connection_without_its_secret(tmp_path):
    """A secret for another pair is none for this one; the connection is what is at fault."""
    text = GOOD.replace("ids: [hq.example.org, branch.example.org]",
                        "ids: [hq.example.org, other.example.org]")
    plain, _ = check(tmp_path, text)
    assert plain.returncode != 0
    line = GOOD.splitlines().index("  - name: branch") + 1
    output = plain.stdout + plain.stderr
    assert f"hq.yaml:{line}:5: error: connections[0]" in output
    assert "hq.example.org and branch.example.org" in output


def test_an_unreachable_policy_is_a_warning(tmp_path):
    text = GOOD.replace("policies:\n  -", "policies:\n"
                        "  - {action: discard, source: 10.1.0.0/16, destination: 0.0.0.0/0}\n  -", 1)
    _, report = check(tmp_path, text)
    assert [entry for entry in report["diagnostics"] if entry["line"] in (17, 18)]


def test_a_secret_that_everybody_can_read_is_refused(tmp_path):
    check(tmp_path, GOOD)
    (tmp_path / "branch.psk").chmod(0o644)
    completed = run(build_directory() / "cli/culvert", "check", tmp_path / "hq.yaml", check=False)
    assert completed.returncode != 0
    assert "branch.psk" in completed.stdout + completed.stderr


def test_a_file_that_is_not_there(tmp_path):
    completed = run(build_directory() / "cli/culvert", "check", tmp_path / "none.yaml", check=False)
    assert completed.returncode > 0
    assert "none.yaml" in completed.stdout + completed.stderr


@pytest.mark.parametrize("daemon", ["dataplane/culvert-dataplane", "ike/culvert-ike"])
def test_the_daemons_check_too(tmp_path, daemon):
    check(tmp_path, GOOD)
    file = tmp_path / "hq.yaml"
    assert run(build_directory() / daemon, "--config", file, "--check",
               check=False).returncode == 0
    file.write_text(GOOD.replace("mode: tunnel", "mode: tunel"))
    completed = run(build_directory() / daemon, "--config", file, "--check", check=False)
    assert completed.returncode > 0
    line = GOOD.splitlines().index("        mode: tunnel") + 1
    assert f"hq.yaml:{line}:15: error" in completed.stdout + completed.stderr


def test_every_prefix_of_a_configuration_is_judged_without_a_crash(tmp_path):
    write_secret(tmp_path / "branch.psk", "a pre-shared key of decent length")
    file = tmp_path / "hq.yaml"
    for length in range(0, len(GOOD), 23):
        file.write_text(GOOD[:length])
        completed = run(build_directory() / "cli/culvert", "check", file, check=False)
        assert completed.returncode in (0, 1, 2), (length, completed.returncode, completed.stderr)
