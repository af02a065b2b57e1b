"""Where keys are while they are needed, and that nothing of them stays in memory afterwards.
strongSwan's log says what to look for; /proc/PID/mem of both daemons is where."""

import re
import secrets
from pathlib import Path

import pytest

from harness.configuration import write_secret
from harness.key_memory import LOG_KEYS, esp_keys, find_keys, ike_keys
from harness.pair import Pair, quick
from harness.reloads import reload
from harness.shell import wait_until


@pytest.fixture
def pair(bed):
    pair = Pair(bed, *quick({"log": LOG_KEYS})).up()
    pair.wait_until_mirrored()
    return pair


def found(daemon, keys):
    """{name: where} as text, for a failure's report."""
    return {name: [str(place) for place in places]
            for name, places in find_keys(daemon.pid, keys).items()}


def wait_until_gone(daemon, keys, seconds, what):
    wait_until(lambda: not find_keys(daemon.pid, keys), seconds, f"{what} to be wiped", 0.5)
    assert found(daemon, keys) == {}


def test_keys_are_left_out_of_dumps_and_locked(pair):
    gateway, log = pair.gateway, pair.strongswan.log()
    ike, esp = ike_keys(log), esp_keys(log)
    # the data plane has the keys of ESP alone, in pages of their own; no ring keeps one
    places = find_keys(gateway.dataplane.pid, {**ike, **esp})
    assert set(places) == set(esp)
    for place in sum(places.values(), []):
        assert "memfd" not in place.name and locked(gateway.dataplane, place), place
    # the key daemon has given them away, and has the IKE SA's in pages for keys and, for a restart,
    # in the record
    assert found(gateway.ike, esp) == {}
    places = find_keys(gateway.ike.pid, ike)
    assert set(places) == {"SK_d", "SK_ei", "SK_er", "SK_pi", "SK_pr"}, "what led to them is gone"
    for name, where in places.items():
        assert any("memfd:culvert-checkpoint" in place.name for place in where), name
        assert any("memfd" not in place.name for place in where), name
        for place in where:
            assert locked(gateway.ike, place), (name, place)
    for daemon in gateway.processes():
        limits = Path(f"/proc/{daemon.pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.M)


def locked(daemon, place):
    """Left out of dumps; and locked, where the daemon has not said that it may not, or in huge pages,
    which are never swapped out."""
    if "ht" in place.flags:
        return "dd" in place.flags
    warning = "checkpoint_not_locked" if "memfd" in place.name else "keys_not_locked"
    return place.flags >= ({"dd"} if warning in daemon.text() else {"dd", "lo"})


def test_a_rekeyed_child_leaves_no_key(pair):
    dataplane = pair.gateway.dataplane
    old = esp_keys(pair.strongswan.log())
    assert set(found(dataplane, old)) == set(old)
    pair.gateway.culvert("rekey", "net")
    wait_until(lambda: not esp_keys(pair.strongswan.log()).items() & old.items(), 5, "the rekey")
    pair.wait_until_mirrored()
    new = esp_keys(pair.strongswan.log())
    # a grace for what is on its way
    wait_until_gone(dataplane, old, 15, "the old child's keys")
    assert set(found(dataplane, new)) == set(new)
    assert found(pair.gateway.ike, new) == {}


@pytest.mark.long
def test_an_ended_ike_sa_leaves_no_key(pair):
    """That of a rekeyed one, too. Both linger to answer a peer that asks again (RFC 7296 §2.1)."""
    gateway, log = pair.gateway, pair.strongswan.log
    first, esp = ike_keys(log()), esp_keys(log())
    gateway.culvert("rekey", "--ike", "to-branch")
    wait_until(lambda: pair.ike_spi() and ike_keys(log())["SK_d"] != first["SK_d"], 8, "the rekey")
    second = ike_keys(log())
    assert "SK_d" in find_keys(gateway.ike.pid, second)
    gateway.culvert("terminate", "to-branch")
    wait_until_gone(gateway.dataplane, {**first, **second, **esp}, 10, "the child's keys")
    # what would repeat the last answer lives longer than what derives and proves
    assert "SK_ei" in find_keys(gateway.ike.pid, second)
    for keys in (first, second):
        useless = {name: keys[name] for name in ("SK_d", "SK_pi", "SK_pr")}
        wait_until_gone(gateway.ike, useless, 5, "the keys that nothing needs any more")
    wait_until_gone(gateway.ike, first, 40, "the rekeyed IKE SA's keys")
    wait_until_gone(gateway.ike, second, 40, "the ended IKE SA's keys")


def test_a_replaced_pre_shared_key_is_gone(pair):
    """By a reload, whether there is another or none."""
    gateway, bed = pair.gateway, pair.bed
    first, second, third = ({"psk": secrets.token_hex(24).encode()} for _ in range(3))
    started = {"psk": bed.psk.encode()}
    assert "psk" in found(gateway.ike, started), "the text is what is held"
    for old, new in ((started, first), (first, second), (second, third)):
        write_secret(bed.psk_file, new["psk"].decode())
        reload(gateway)
        assert found(gateway.ike, new)
        assert found(gateway.ike, old) == {}
    gateway.configuration["connections"], gateway.configuration["secrets"] = [], []
    reload(gateway)
    assert found(gateway.ike, third) == {}
