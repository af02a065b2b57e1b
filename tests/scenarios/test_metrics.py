"""Metrics: the names of the contract, both gateways in agreement, counters that never go back."""

import shutil
import signal
import time

import pytest

from harness.configuration import SIDE_B, TunnelOptions
from harness.gateway import METRICS_SECONDS, CommandError
from harness.shell import run, wait_until
from harness.traffic import ping

DATAPLANE_NAMES = {
    "culvert_worker_packets_total", "culvert_worker_bytes_total",
    "culvert_worker_busy_cycles_total", "culvert_worker_idle_cycles_total",
    "culvert_worker_burst_packets_bucket", "culvert_worker_long_iterations_total",
    "culvert_worker_handed_over_packets_total", "culvert_worker_handed_over_fragments_total",
    "culvert_drops_total",
    "culvert_interface_packets_total", "culvert_interface_bytes_total",
    "culvert_interface_missed_total", "culvert_interface_no_buffer_total",
    "culvert_interface_errors_total", "culvert_interface_up",
    "culvert_child_packets_total", "culvert_child_bytes_total",
    "culvert_child_last_packet_timestamp_seconds", "culvert_child_up", "culvert_sas",
    "culvert_channel_connected", "culvert_config_info", "culvert_build_info",
    "process_start_time_seconds", "process_resident_memory_bytes", "culvert_child_wanted",
    "culvert_child_sa_age_seconds", "culvert_child_sa_remaining_seconds",
    "culvert_config_last_reload_successful",
}
IKE_NAMES = {
    "culvert_ike_sas", "culvert_ike_half_open", "culvert_ike_exchanges_total",
    "culvert_ike_retransmits_total", "culvert_ike_authentication_failures_total",
    "culvert_ike_rekeys_total", "culvert_ike_invalid_messages_total",
    "culvert_ike_dataplane_connected", "culvert_ike_resumed_ike_sas",
    "culvert_ike_refused_records", "culvert_ike_recording", "culvert_ike_child_rekeys_total",
    "culvert_ike_config_info", "culvert_ike_build_info",
    "culvert_ike_config_last_reload_successful", "process_start_time_seconds",
    "process_resident_memory_bytes",
}


def settle():
    """What has passed is in the metrics from now on."""
    time.sleep(METRICS_SECONDS)


def test_every_name_of_the_contract_is_there(tunnel_bed):
    gateway = tunnel_bed.gateways["a"]
    tunnel_bed.ping(count=1)
    settle()
    assert DATAPLANE_NAMES - gateway.dataplane_metrics().names() == set()
    assert IKE_NAMES - gateway.ike_metrics().names() == set()


def test_labels_are_bounded_by_the_configuration(tunnel_bed):
    metrics = tunnel_bed.gateways["a"].dataplane_metrics()
    assert {(labels["connection"], labels["child"], labels["direction"])
            for labels in metrics.labels_of("culvert_child_packets_total")} == {
        ("to-branch", "net", "in"), ("to-branch", "net", "out")}
    assert {labels["interface"] for labels in
            metrics.labels_of("culvert_interface_packets_total")} == {"wan", "lan"}


def test_both_ends_count_the_same_packets(tunnel_bed):
    a, b = tunnel_bed.gateways["a"], tunnel_bed.gateways["b"]
    settle()
    before = {end: a.child_packets(end) for end in ("in", "out")}
    assert tunnel_bed.ping(count=40, interval=0.01).lost() == []
    a.culvert("rekey", "net")
    assert tunnel_bed.ping(count=40, interval=0.01).lost() == []
    settle()
    assert a.child_packets("out") - before["out"] == 80, "totals go on over a rekey"
    assert a.child_packets("out") == b.child_packets("in")
    assert b.child_packets("out") == a.child_packets("in")


def test_bytes_are_those_of_the_inner_packets(tunnel_bed):
    gateway = tunnel_bed.gateways["a"]

    def octets():
        return gateway.dataplane_metrics().total("culvert_child_bytes_total", child="net",
                                                 direction="out")

    settle()
    before = octets()
    ping(tunnel_bed["client-a"], SIDE_B.client_address(), count=10, size=100, interval=0.01)
    settle()
    assert octets() - before == 10 * (100 + 28)


def test_a_child_is_up_while_both_its_sas_live(tunnel_bed):
    gateway = tunnel_bed.gateways["a"]

    def up():
        return gateway.dataplane_metrics().total("culvert_child_up", child="net")

    wait_until(lambda: up() == 1, 3, "culvert_child_up 1")
    wait_until(lambda: gateway.ike_metrics().total("culvert_ike_sas", state="established") == 1, 3,
               "culvert_ike_sas 1")
    gateway.culvert("terminate", "to-branch")
    wait_until(lambda: up() == 0, 3, "what is configured and down to be there as 0")
    gateway.culvert("initiate", "net")
    wait_until(lambda: up() == 1, 3, "culvert_child_up 1")


def test_the_last_packet_has_a_time(tunnel_bed):
    started = time.time()
    assert tunnel_bed.ping(count=2).lost() == []
    settle()
    seen = tunnel_bed.gateways["b"].dataplane_metrics().total(
        "culvert_child_last_packet_timestamp_seconds", child="net", direction="in")
    assert started - 1 <= seen <= time.time() + 1


def test_command_and_metrics_tell_the_same(tunnel_bed):
    gateway = tunnel_bed.gateways["a"]
    settle()
    child = gateway.status()["connections"][0]["children"][0]
    assert child["up"] is True and child["state"] in ("up", "idle")
    assert child["in"]["packets"] == gateway.child_packets("in")
    assert child["out"]["packets"] == gateway.child_packets("out")


def test_a_link_that_goes_down_is_in_the_log_the_metrics_and_the_status(bed):
    """Of a packet socket, whose driver says up whatever the kernel knows."""
    gateway, client = bed.add_gateway("a", bed.configuration("a"), start=False), bed["client-a"]
    bed.topology.wait_until_up()
    gateway.start_dataplane()

    def is_up():
        return gateway.dataplane_metrics().total("culvert_interface_up", interface="lan")

    def told(link):
        return sum("link_changed" in line and "lan" in line and link in line
                   for line in gateway.dataplane.text().splitlines())

    assert is_up() == 1
    client.ip("link", "set", "eth0", "down")
    wait_until(lambda: is_up() == 0, 5, "culvert_interface_up 0")
    wait_until(lambda: told("down") == 1, 3, "link_changed in the log")
    assert "lan has no link" in gateway.text("status").splitlines()[0]
    assert gateway.dataplane_metrics().total("culvert_interface_up", interface="wan") == 1
    client.ip("link", "set", "eth0", "up")
    wait_until(lambda: is_up() == 1, 5, "culvert_interface_up 1")
    wait_until(lambda: told("up") == 1, 3, "link_changed in the log")
    assert "has no link" not in gateway.text("status")


def test_status_names_the_next_hop_that_does_not_answer(bed):
    """Beside a connection that is down, before anybody looks at the peer's firewall."""
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()))
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net", "--timeout", "1")
    silent = f"the next hop {SIDE_B.wan_address} on wan does not answer ARP"
    wait_until(lambda: silent in gateway.text("status").splitlines()[0], 15, "the next hop by name")
    wait_until(lambda: any(neighbor["state"] == "failed" for neighbor
                           in gateway.culvert("neighbors")["neighbors"]), 15, "it to have failed")
    assert silent in gateway.text("status").splitlines()[0]


def test_an_ordinary_user_is_not_told_that_nothing_runs(bed):
    gateway = bed.add_gateway("a", bed.configuration("a"), start=False)
    gateway.start_dataplane()
    program = shutil.copy(gateway.build / "cli/culvert", bed.directory)  # a home may be closed to him
    asked = run("setpriv", "--reuid", "65534", "--clear-groups", program, "status", "--instance",
                gateway.instance, check=False, environment=gateway.environment)
    assert asked.returncode == 1
    assert "the daemons may not be asked: no permission to open" in asked.stdout.splitlines()[0]
    assert "start culvert-dataplane" not in asked.stdout and "not running" not in asked.stdout


def test_status_for_people_names_the_connection_and_its_state(tunnel_bed):
    text = tunnel_bed.gateways["a"].text("status")
    assert "to-branch" in text and "net" in text and "up" in text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="package prometheus is not installed")
def test_both_endpoints_are_as_prometheus_wants_them(tunnel_bed):
    """Names, units, help and types by promtool's rules."""
    settle()
    gateway = tunnel_bed.gateways["a"]
    for samples in (gateway.dataplane_metrics(), gateway.ike_metrics()):
        checked = run("promtool", "check", "metrics", input_text=samples.text, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_child_that_nobody_has_asked_for_waits_and_is_no_problem(bed):
    """The default: a trap. What comes for it and finds no SA says that it should be up."""
    gateway = bed.add_gateway("a", bed.configuration("a", TunnelOptions()))  # nobody answers

    def wanted():
        return gateway.dataplane_metrics().total("culvert_child_wanted", child="net")

    status = gateway.status()
    assert status["connections"][0]["children"][0]["state"] == "waiting", status["problems"]
    assert not [problem for problem in status["problems"] if "net" in problem["what"]]
    settle()
    assert wanted() == 0
    bed.ping(count=1)
    wait_until(lambda: wanted() == 1, 3, "culvert_child_wanted 1")
    assert gateway.dataplane_metrics().total("culvert_child_up", child="net") == 0
    child = gateway.status()["connections"][0]["children"][0]
    assert child["state"] == "down" and child["wanted"] is True


def test_a_refused_reload_is_in_both_daemons_metrics(tunnel_bed):
    gateway = tunnel_bed.gateways["a"]

    def successful():
        return (gateway.dataplane_metrics().total("culvert_config_last_reload_successful"),
                gateway.ike_metrics().total("culvert_ike_config_last_reload_successful"))

    def hang_up():
        for daemon in gateway.processes():
            daemon.send_signal(signal.SIGHUP)

    settle()
    assert successful() == (1, 1)
    before = gateway.ike_metrics().labels_of("culvert_ike_config_info")
    assert before == gateway.dataplane_metrics().labels_of("culvert_config_info")
    text = gateway.file.read_text()
    gateway.file.write_text(text + "\nno_such_key: 1\n")
    hang_up()
    wait_until(lambda: successful() == (0, 0), 5, "both to refuse")
    assert gateway.ike_metrics().labels_of("culvert_ike_config_info") == before
    gateway.file.write_text(text)
    hang_up()
    wait_until(lambda: successful() == (1, 1), 5, "both to take it")
