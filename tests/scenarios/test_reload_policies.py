"""SIGHUP of both daemons: children taken from the middle of the file, put in front of others and moved; manual
SAs that come, go and change; another default_policy. What stays carries a ping that counts every packet."""

import copy
import re

import pytest

from harness.configuration import SIDE_A, SIDE_B, TunnelOptions, write_secret
from harness.reloads import refused_reload, reload
from harness.shell import wait_until
from harness.traffic import SteadyArp, SteadyPing, ping

MANY = 100_000
HOSTS = ("10.2.0.2", "10.2.0.3", "10.2.0.4", "10.2.0.5")
KEYS = ("00" * 16 + "01020304", "11" * 16 + "01020304", "22" * 16 + "01020304")


def add_hosts(bed):
    """More addresses behind gateway b: a child each."""
    for host in HOSTS[1:]:
        bed["client-b"].ip("addr", "add", f"{host}/24", "dev", "eth0")


def child_towards(letter, template, host, **options):
    near, far = (SIDE_A.network(), f"{host}/32")
    if letter == "b":
        near, far = far, near
    return {**copy.deepcopy(template), "local_ts": [near], "remote_ts": [far], **options}


def customers(bed, letter):
    """Three children, and in front of their connection one to a peer that never answers."""
    configuration = bed.configuration(letter, TunnelOptions())
    tunnel = configuration["connections"][0]
    template = tunnel["children"][0]
    tunnel["children"] = [child_towards(letter, template, host, name=name)
                          for name, host in zip(("one", "two", "three"), HOSTS)]
    gone = copy.deepcopy(tunnel)
    gone.update(name="gone")
    gone["remote"].update(address="192.0.2.77", id="gone.example.org")
    gone["children"] = [{**template, "name": "old", "local_ts": ["10.77.1.0/24"],
                         "remote_ts": ["10.77.2.0/24"]}]
    configuration["connections"].insert(0, gone)
    configuration["secrets"][0].pop("ids")
    return configuration


def spis(gateway):
    """By child and direction, as the data plane has them."""
    found = {}
    for sa in gateway.sas()["sas"]:
        found.setdefault((sa["child"], sa["direction"]), set()).add(sa["spi"])
    return found


def of(found, *children):
    return {key: value for key, value in found.items() if key[0] in children}


def change(gateways, what):
    for gateway in gateways:
        what(gateway.configuration)
        reload(gateway)


def test_children_anywhere_in_the_file_under_traffic(bed):
    add_hosts(bed)
    a, b = (bed.add_gateway(letter, customers(bed, letter)) for letter in "ab")
    for name in ("one", "two", "three"):
        a.culvert("initiate", name)
        b.wait_for_child(name)
    steady = [SteadyPing(bed["client-a"], host, bed.directory) for host in HOSTS[1:3]]
    before = {gateway: spis(gateway) for gateway in (a, b)}

    def nothing_else_changed(*more):
        for one in steady:
            one.wait_for_replies(50)
        for gateway in (a, b):
            assert of(spis(gateway), "two", "three") == of(before[gateway], "two", "three")
            assert {child for child, _ in spis(gateway)} == {"two", "three", *more}

    # the connection in front, and the first child of the other one; the peer hears of it
    def remove_first(configuration):
        configuration["connections"].pop(0)
        configuration["connections"][0]["children"].pop(0)

    change([a], remove_first)
    wait_until(lambda: not of(spis(a), "one") and not of(spis(b), "one"), 10, "the child to go", 0.1)
    change([b], remove_first)
    nothing_else_changed()

    # one in front of the others, in the place that the other had
    for letter, gateway in (("a", a), ("b", b)):
        children = gateway.configuration["connections"][0]["children"]
        children.insert(0, child_towards(letter, children[0], HOSTS[3], name="zero"))
        reload(gateway)
    a.culvert("initiate", "zero")
    b.wait_for_child("zero")
    assert ping(bed["client-a"], HOSTS[3]).lost() == []
    nothing_else_changed("zero")
    before = {gateway: spis(gateway) for gateway in (a, b)}

    # another order
    change([a, b], lambda configuration: configuration["connections"][0]["children"].reverse())
    nothing_else_changed("zero")
    assert [child["child"] for child in a.status()["dataplane"]["children"]] == ["three", "two", "zero"]

    # a crash, while the file loses one more: the key daemon finds the others as they are
    def remove_zero(configuration):
        configuration["connections"][0]["children"].pop()

    change([a, b], remove_zero)
    wait_until(lambda: not of(spis(a), "zero") and not of(spis(b), "zero"), 10, "the child to go", 0.1)
    a.kill_ike()
    a.start_ike()
    wait_until(lambda: a.children("two") and a.children("three"), 5, "control of the tunnel again")
    recovery = a.ike_status()["recovery"]
    assert recovery["resumed_ike_sas"] == 1 and recovery["refused_records"] == {}
    nothing_else_changed()
    for side in (a, b):
        for name in ("two", "three"):
            direction = {"in": side.child(name)["spi_in"], "out": side.child(name)["spi_out"]}
            for way, spi in direction.items():
                assert spis(side)[name, way] == {spi}
    assert [one.stop().lost_packets for one in steady] == [[], []]


def test_one_daemon_reads_the_file_and_the_other_is_dead(bed):
    """The data plane lost a child while nobody could tell the peer; who comes back tidies up."""
    add_hosts(bed)
    a, b = (bed.add_gateway(letter, customers(bed, letter)) for letter in "ab")
    for name in ("one", "two", "three"):
        a.culvert("initiate", name)
        b.wait_for_child(name)
    steady = SteadyPing(bed["client-a"], HOSTS[1], bed.directory)
    before = spis(a)
    a.kill_ike()
    configuration = a.configuration
    configuration["connections"].pop(0)  # the connection of the others is as it was
    a.configure(configuration)
    reload(a, dataplane_only=True)
    steady.wait_for_replies(50)
    assert spis(a) == before
    a.start_ike()
    wait_until(lambda: len(a.children("two")) == 1, 5, "control of the tunnel again")
    assert a.ike_status()["recovery"]["refused_records"] == {}
    steady.wait_for_replies(50)
    assert spis(a) == before
    assert steady.stop().lost_packets == []


def pair_of(letter, name, number, host, keys):
    """Both directions of a manual SA, as gateway `letter` writes them; `keys`: a to b, b to a."""
    near, far = ([SIDE_A.network()], [f"{host}/32"])
    local, remote = SIDE_A.wan_address, SIDE_B.wan_address
    if letter == "b":
        near, far, local, remote = far, near, remote, local
    forth, back = ("out", "in") if letter == "a" else ("in", "out")
    common = {"name": name, "local": local, "remote": remote, "local_ts": near, "remote_ts": far,
              "suite": "aes128gcm16"}
    return [{**common, "direction": forth, "spi": 0x2000 + number, "key_file": str(keys[0])},
            {**common, "direction": back, "spi": 0x1000 + number, "key_file": str(keys[1])}]


def packets_by_sa(gateway):
    return {sa["id"]: sa["packets"] for sa in gateway.sas()["sas"] if sa["child"] == "first"}


def test_manual_sas_come_go_and_change_under_traffic(bed):
    add_hosts(bed)
    keys = [write_secret(bed.directory / f"manual-{number}.key", key)
            for number, key in enumerate(KEYS)]
    gateways = {}
    for letter in "ab":
        configuration = bed.configuration(letter)
        configuration["manual_sas"] = pair_of(letter, "first", 1, HOSTS[0], keys[:2])
        gateways[letter] = bed.add_gateway(letter, configuration)
    client = bed["client-a"]
    steady = SteadyPing(client, HOSTS[0], bed.directory)
    ids = packets_by_sa(gateways["a"]).keys()

    # one more, in front
    for letter, gateway in gateways.items():
        gateway.configuration["manual_sas"][:0] = pair_of(letter, "second", 2, HOSTS[1], keys[1:])
        reload(gateway)
    assert ping(client, HOSTS[1]).lost() == []

    # another key for it, in the same files' place and under the same SPIs; then in the same file
    for letter, gateway in gateways.items():
        gateway.configuration["manual_sas"][:2] = pair_of(letter, "second", 2, HOSTS[1],
                                                          [keys[2], keys[0]])
        reload(gateway)
    assert ping(client, HOSTS[1]).lost() == []
    write_secret(keys[2], "33" * 16 + "01020304")
    reload(gateways["a"])
    assert ping(client, HOSTS[1], count=2, wait=0.3).received == set()
    drops = gateways["b"].drops()  # its numbers begin anew with its key
    assert drops.get("icv_mismatch", 0) + drops.get("replay_duplicate", 0) > 0
    reload(gateways["b"])
    assert ping(client, HOSTS[1]).lost() == []

    # a key that the service user may not read: nothing of the file is in force
    secret = bed.directory / "nobody.key"
    secret.write_text(KEYS[0] + "\n")
    secret.chmod(0o600)
    sound = copy.deepcopy(gateways["a"].configuration)
    gateways["a"].configuration["manual_sas"][0]["key_file"] = str(secret)
    gateways["a"].configuration["default_policy"] = "bypass"
    assert "nobody.key" in refused_reload(gateways["a"], gateways["a"].dataplane)
    why = refused_reload(gateways["a"], gateways["a"].ike)
    assert "nobody.key" in why and re.search(r"\.yaml:\d+:\d+: ", why), why
    assert gateways["a"].status()["dataplane"]["default_policy"] == "discard"
    assert ping(client, HOSTS[1]).lost() == []
    gateways["a"].configure(sound)

    # and away with it
    for gateway in gateways.values():
        del gateway.configuration["manual_sas"][:2]
        reload(gateway)
    assert ping(client, HOSTS[1], count=2, wait=0.3).received == set()
    assert {sa["child"] for sa in gateways["a"].sas()["sas"]} == {"first"}

    steady.wait_for_replies(50)
    assert steady.stop().lost_packets == []
    # the one that stayed is the same SA and has not begun its numbers anew
    assert packets_by_sa(gateways["a"]).keys() == ids
    for sa in gateways["a"].sas()["sas"]:
        assert sa["sequence"] >= sa["packets"] > 100


def test_another_default_policy_counts_for_known_flows_too(bed):
    gateways = []
    for letter in "ab":
        configuration = bed.configuration(letter)
        configuration["default_policy"] = "bypass"
        gateways.append(bed.add_gateway(letter, configuration))
    a, _ = gateways
    client = bed["client-a"]
    steady = SteadyPing(client, SIDE_B.client_address(), bed.directory)
    steady.wait_for_replies(50)

    a.configuration["default_policy"] = "discard"
    reload(a)
    replies = steady.replies()
    wait_until(lambda: a.drops().get("no_policy_match", 0) > 50, 5, "the known flow to end", 0.1)
    assert steady.replies() <= replies + 5  # what was under way
    assert a.status()["dataplane"]["default_policy"] == "discard"

    a.configuration["default_policy"] = "bypass"
    reload(a)
    steady.wait_for_replies(50)
    steady.stop()


@pytest.mark.long
def test_one_policy_beside_a_hundred_thousand_comes_under_traffic(bed):
    # Given gateways that let their clients' packets pass in clear
    add_hosts(bed)
    for letter, near, far in (("a", SIDE_A, SIDE_B), ("b", SIDE_B, SIDE_A)):
        configuration = bed.configuration(letter)
        configuration["dataplane"]["limits"]["policies"] = MANY + 16
        configuration["policies"] = [{"action": "bypass", "source": near.network(), "destination": far.network()}]
        bed.add_gateway(letter, configuration, start=False)
    for each in bed.gateways.values():
        each.configure(each.configuration)
        each.start_dataplane()
    gateway, client = bed.gateways["a"], bed["client-a"]
    assert bed.ping().lost() == []
    steady = SteadyPing(client, HOSTS[0], bed.directory)
    # When a hundred thousand policies come in front of that, and then one in their midst
    policies = gateway.configuration["policies"]
    policies[:0] = [{"action": "discard", "source": SIDE_A.network(),
                     "destination": f"{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.0/24"}
                    for number in range(MANY)]
    asker = SteadyArp(client, "eth0", SIDE_A.lan_address(), bed.directory)
    whole = reload(gateway, dataplane_only=True, seconds=60)
    silence = asker.stop()
    assert ping(client, HOSTS[1], count=2).lost() == []
    policies.insert(MANY // 2, {"action": "discard", "source": SIDE_A.network(), "destination": f"{HOSTS[1]}/32"})
    reload(gateway, dataplane_only=True, seconds=60)
    # Then it is in force, nothing else was lost over it, and who asked for the gateway meanwhile was answered: but for
    # the last part, in which the list is built and put in force
    assert silence < whole / 2, f"no answer for {silence:.2f} s of {whole:.2f}"
    assert ping(client, HOSTS[1], count=2, wait=0.3).received == set()
    assert ping(client, HOSTS[2], count=2).lost() == []
    assert steady.stop().lost_packets == []
    assert gateway.drops() == {"policy_discard": 2}
