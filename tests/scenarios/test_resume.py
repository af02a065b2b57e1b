"""A key daemon that is killed goes on from its record: the peer sees a retransmission at most."""

import time

import pytest

from harness.configuration import SIDE_B, TunnelOptions
from harness.gateway import METRICS_SECONDS
from harness.kills import initiator_spis, rampage, spare_networks
from harness.pair import Pair, quick
from harness.shell import wait_until
from harness.traffic import SteadyPing


@pytest.fixture
def pair(bed):
    for letter in ("a", "b"):
        bed.add_gateway(letter, spare_networks(bed.configuration(letter, TunnelOptions()), letter))
    bed.gateways["a"].culvert("initiate", "net")
    bed.gateways["b"].wait_for_child()
    return bed


def judge(outcome):
    assert outcome.lost == [], f"{len(outcome.lost)} of {outcome.pings} packets lost"
    assert outcome.broken == []
    assert outcome.clear == {} and outcome.inner_seen == 0
    assert outcome.authentications == 1, "somebody began anew"
    assert outcome.exchanges["child_rekeyed"] and outcome.exchanges["ike_sa_rekeyed"]


def test_killed_at_rest_it_says_nothing(pair):
    a, b = pair.gateways["a"], pair.gateways["b"]
    spis = initiator_spis(a)
    time.sleep(METRICS_SECONDS)
    before = b.ike_metrics().total("culvert_ike_exchanges_total")
    a.kill_ike()
    a.start_ike()
    wait_until(lambda: a.children(), 5, "control of the tunnel again")
    recovery = a.ike_status()["recovery"]
    assert recovery["resumed_ike_sas"] == 1 and recovery["recording"]
    assert recovery["refused_records"] == {} and recovery["not_resumed"] is None
    assert initiator_spis(a) == initiator_spis(b) == spis
    time.sleep(METRICS_SECONDS)
    assert b.ike_metrics().total("culvert_ike_exchanges_total") == before
    assert a.ike_metrics().total("culvert_ike_resumed_ike_sas") == 1
    assert "resumed" in a.text("status")


@pytest.mark.long
def test_kills_at_random_points_of_a_script_of_exchanges(pair):
    judge(rampage(pair, pair.gateways, kills=15, seed=20261128))


@pytest.mark.long
def test_kills_beside_strongswan(bed):
    both = Pair(bed, *quick()).up()
    judge(rampage(bed, {"a": both.gateway}, kills=8, seed=7, peer=both.peer))


@pytest.mark.long
def test_a_changed_configuration_is_established_anew_beside(pair):
    a = pair.gateways["a"]
    steady = SteadyPing(pair["client-a"], SIDE_B.client_address(), pair.directory)
    a.kill_ike()
    configuration = a.configuration
    configuration["connections"][0]["dpd_delay"] = "45s"
    configuration["connections"][0]["children"][0]["start_action"] = "start"
    a.configure(configuration)
    a.start_ike()
    wait_until(lambda: a.children(), 10, "a child again")
    recovery = a.ike_status()["recovery"]
    assert recovery["refused_records"] == {"configuration_changed": 1}
    steady.wait_for_replies(700, timeout=20)
    assert steady.stop().lost_packets == []


def test_a_clean_stop_is_resumed_too(pair):
    a = pair.gateways["a"]
    steady = SteadyPing(pair["client-a"], SIDE_B.client_address(), pair.directory)
    spis = initiator_spis(a)
    assert a.ike.stop() == 0
    a.start_ike()
    wait_until(lambda: a.children(), 5, "control of the tunnel again")
    assert initiator_spis(a) == spis
    assert steady.stop().lost_packets == []
