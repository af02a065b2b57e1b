"""The same pair where the way between them is not a plain link: NAT, an address that changes, a path for small
packets only, messages that cross, a flood of beginnings (see test_kernel_esp.py)."""

import contextlib
import threading

import pytest

from harness.bridge import blocked, narrow
from harness.configuration import SIDE_A
from harness.half_open import leave_half_open
from harness.impairment import relayed
from harness.nat import natted
from harness.shell import wait_until
from harness.traffic import ping
from machines.pair import AGREED, EACH_PEER, PATIENCE, POLL, SMALLEST, configured

# RFC 7296 §3.1, §3.2: of a frame with an IKE message at port 500
IKE_HEADER = slice(42, 70)
IKE_SA_INIT, CREATE_CHILD_SA, RESPONSE, NOTIFY = 34, 36, 0x20, 41


# ---- NAT -------------------------------------------------------------------------------------------


@EACH_PEER
def test_we_are_behind_a_nat(pair, bed, peer):
    """RFC 3948: the kernel takes ESP out of UDP and puts it in, to the port where it sees us."""
    with natted(bed, "a", **AGREED) as (routers, configurations):
        router, outside = routers["a"], routers["a"].outside
        router.rules("22000-22999")
        pair = pair(peer, configurations["a"], strongswan={"remote_address": outside},
                    libreswan={"right": outside})
        pair.initiate("culvert")
        assert behind_nat(pair) == ["local"]
        passes_a_nat(pair, port="to-b")
        # When the router forgets us, then strongSwan follows our ESP, and libreswan 4.10 our next rekey
        with moves(pair, router, "24000-24999"):
            if peer == "libreswan":
                pair.rekey("culvert")


@EACH_PEER
def test_the_kernel_is_behind_a_nat(pair, bed, kernel, peer):
    """We are who sees it at a port of the router's choice, and at another one when the router forgets it."""
    with natted(bed, "b", **AGREED) as (routers, configurations), kernel.behind(routers["b"]):
        router = routers["b"]
        router.rules("23000-23999")
        pair = pair(peer, configurations["a"], strongswan={"local_address": router.inside},
                    libreswan={"left": router.inside})
        pair.initiate("peer")
        assert behind_nat(pair) == ["remote"]
        passes_a_nat(pair)
        spis = pair.spis()
        with moves(pair, router, "25000-25999"):
            ping(bed["client-b"], SIDE_A.client_address())
        assert pair.spis() == spis, "the same SAs"
        remote = {sa["remote"] for sa in pair.gateway.sas()["sas"] if int(sa["spi"], 16) in spis}
        assert len(remote) == 1 and f"{router.outside}:25" in remote.pop()


def behind_nat(pair):
    """Which ends are, as our IKE SA knows."""
    ike_sa, = pair.gateway.ike_sas()
    return [end for end in ("local", "remote") if ike_sa[f"nat_{end}"]]


def passes_a_nat(pair, **capture):
    """Traffic in UDP either way, and rekeys by either side under a ping that loses nothing."""
    assert pair.gateway.child()["udp_encapsulation"]
    pair.assert_traffic_is_protected(kind="esp-in-udp", **capture)
    steady = pair.steady_ping()
    for who in ("culvert", "peer"):
        before = pair.spis()
        pair.rekey(who)
        pair.wait_for_another_pair(before)
    steady.wait_for_replies(50)
    pair.assert_nothing_was_lost(steady)
    assert all(sa.udp and sa.packets for sa in pair.kernel.sas() if sa.spi in pair.spis())


@contextlib.contextmanager
def moves(pair, router, ports):
    """What comes from behind the router is seen at one of these ports from now on; when what is done then
    is done, traffic goes on."""
    steady = pair.steady_ping()
    router.rebind(ports)
    try:
        yield
        steady.wait_for_replies(100, PATIENCE)
    finally:
        steady.stop()


# ---- what crosses ----------------------------------------------------------------------------------


def asks_for_new_keys(frame):
    """A CREATE_CHILD_SA request at port 500."""
    udp, header = frame[34:38] == bytes([1, 244, 1, 244]), frame[IKE_HEADER]
    return udp and header[18] == CREATE_CHILD_SA and not header[19] & RESPONSE


@pytest.mark.parametrize("peer", ["strongswan"])
def test_rekeys_that_cross_end_in_one_pair_and_lose_nothing(pair, bed, peer):
    """RFC 7296 §2.8.1, §2.8.2: either request is on its way when the other one begins. libreswan 4.10 drops
    what comes while it computes, our answer to its request among it."""
    with relayed(bed) as relay:
        pair = pair(peer)
        pair.initiate("culvert")
        steady, before, spis = pair.steady_ping(), pair.gateway.ike_sas()[0]["initiator_spi"], pair.spis()
        cross(pair, relay, pair.rekey)
        pair.wait_for_another_pair(spis)
        steady.wait_for_replies(50)
        spis = pair.spis()
        cross(pair, relay, pair.rekey_ike)
        wait_until(lambda: len(pair.gateway.ike_sas()) == len(pair.peer.sas()) == 1, PATIENCE,
                   "one IKE SA at both ends", POLL)
        assert pair.gateway.ike_sas()[0]["initiator_spi"] != before and pair.spis() == spis
        # and it is in control
        pair.rekey("peer")
        pair.wait_for_another_pair(spis)
        steady.wait_for_replies(50)
        pair.assert_nothing_was_lost(steady)


def cross(pair, relay, rekey):
    """Each end's request is held until the other one's is there, too."""
    relay.holds = asks_for_new_keys
    askers = [threading.Thread(target=rekey, args=(who,), daemon=True) for who in ("peer", "culvert")]
    try:
        for number, asker in enumerate(askers, 1):
            asker.start()
            wait_until(lambda: len({frame[26:30] for _, frame in relay.held}) == number, PATIENCE,
                       "its request on the wire")
    finally:
        relay.holds = None
    for asker in askers:
        asker.join(PATIENCE)


# ---- a path for small packets only -----------------------------------------------------------------


@EACH_PEER
def test_certificates_pass_where_no_ip_fragment_does(pair, bed, peer):
    """RFC 7383: an IKE message in pieces either way. Either end has an intermediate authority of its own
    between, which only its messages show to the other."""
    with narrow(bed, 600) as ended:
        pair = pair(peer, configured(bed, connection_options={"fragment_size": SMALLEST}), auth="chain")
        for _, ike_sa in pair.in_either_role():
            assert ike_sa["fragmentation"] and "CN=chain" in ike_sa["remote_certificate"]
            assert bed.ping(count=5).lost() == []
        assert ended() == {"too_big": 0, "fragments": 0}
        fragments = pair.gateway.ask("ike.sock", "counters")["result"]["fragments"]
        assert min(fragments["sent"], fragments["received"]) >= 8 and fragments["discarded"] == 0
        # and what is larger would have ended there
        pair.initiate("culvert")
        assert bed.ping(count=1, size=600, wait=0.5, extra=("-M", "dont")).lost() == [1]
        assert ended()["too_big"] == 1


# ---- MOBIKE ----------------------------------------------------------------------------------------

MOBIKE = {"mobike": "yes", "dpd_delay": "1s"}
OTHER_A, OTHER_B = "192.0.2.21", "192.0.2.22"
KEYS = {"strongswan": "ed25519", "libreswan": "ecdsa"}


@EACH_PEER
def test_the_kernel_moves_to_another_address(pair, bed, kernel, peer):
    """RFC 4555: its address goes away; the SAs stay, with the other one."""
    with kernel.may_move(OTHER_B) as move:
        pair = pair(peer, configured(bed, connection_options=MOBIKE), auth=KEYS[peer],
                    strongswan={"mobike": "yes", "local_address": "%any"},
                    libreswan={"mobike": "yes", "left": "%defaultroute"})
        pair.initiate("peer")
        moved(pair, KEYS[peer], move, "remote", OTHER_B)


@EACH_PEER
def test_we_leave_a_path_that_died(pair, bed, peer):
    """Our other address is tried when there is no answer any more, and the kernel's SAs follow."""
    configuration = configured(bed, connection_options=MOBIKE)
    wan = configuration["dataplane"]["interfaces"][0]
    wan["addresses"] = [*wan["addresses"], f"{OTHER_A}/24"]
    # libreswan lets nobody move whose address it is told
    pair = pair(peer, configuration, auth=KEYS[peer], strongswan={"mobike": "yes"},
                libreswan={"mobike": "yes", "right": "%any"})
    pair.initiate("culvert")
    with contextlib.ExitStack() as path:
        moved(pair, KEYS[peer], lambda: path.enter_context(blocked(bed, SIDE_A.wan_address)), "local",
              OTHER_A)


def moved(pair, key, move, end, address):
    """What both ends have, and traffic in it, when one of them is at another address."""
    ike_sa, = pair.gateway.ike_sas()
    assert ike_sa["mobike"]
    assert all(ike_sa[auth].lower().startswith(key) for auth in ("local_auth", "remote_auth"))
    spis, steady = pair.spis(), pair.steady_ping()
    try:
        move()
        wait_until(lambda: pair.gateway.ike_sas()[0][end].startswith(f"{address}:"), PATIENCE,
                   f"{address} to be the {end} one", 0.1)
        steady.wait_for_replies(50, PATIENCE)
    finally:
        steady.stop()
    assert pair.spis() == spis == {sa.spi for sa in pair.kernel.sas()}, "the same SAs"
    assert address in {source for sa in pair.kernel.sas() for source in (sa.source, sa.destination)}
    assert pair.bed.ping(count=20, interval=0.02).lost() == []


# ---- cookies ---------------------------------------------------------------------------------------


# What somebody began who does not go on is at strongSwan for half a minute: nothing may come after this.
@EACH_PEER
def test_each_end_demands_a_cookie_of_the_other(pair, bed, peer):
    """RFC 7296 §2.6: under a flood of beginnings, or when libreswan is told that there is one."""
    pair = pair(peer)
    leave_half_open(bed, "to-a", first_messages(pair, "peer")[0], 32)
    assert_a_cookie_is_demanded(pair, "peer")
    if peer == "strongswan":
        leave_half_open(bed, "to-b", first_messages(pair, "culvert")[0], 3)
    else:
        pair.peer.whack("--ddos-busy")
    assert_a_cookie_is_demanded(pair, "culvert")


def assert_a_cookie_is_demanded(pair, who):
    """Who begins is answered with a notification alone, and begins anew with it as first payload."""
    headers = [frame[IKE_HEADER] for frame in first_messages(pair, who)]
    assert {(header[16] == NOTIFY, bool(header[19] & RESPONSE)) for header in headers} \
        == {(False, False), (True, True), (True, False), (False, True)}, headers


def first_messages(pair, who):
    """The frames of IKE_SA_INIT with which `who` sets up a tunnel that it ends again."""
    with pair.bed.capture("init", snap_length=2000) as capture:
        pair.initiate(who)
    pair.terminate_ike(who)
    return [frame.data for frame in capture.frames()
            if frame.kind == "ike" and frame.data[IKE_HEADER][18] == IKE_SA_INIT]
