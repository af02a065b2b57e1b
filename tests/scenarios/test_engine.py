"""Who seals and opens a gateway's packets: IPsec-MB, or OpenSSL where that cannot run or is asked for.

What is chosen on a processor without AES-NI is a unit test
(tests/unit/crypto/engine_choice_test.cpp).
"""

import os
import re
from pathlib import Path

import pytest

from harness.configuration import TunnelOptions
from harness.reloads import refused_reload
from harness.shell import wait_until

pytestmark = pytest.mark.skipif(
    re.search(r"^flags.*\baes\b", Path("/proc/cpuinfo").read_text(), re.M) is None,
    reason="one of the two gateways runs on IPsec-MB, and this processor has no AES-NI")
# Who builds against a library beside the machine's own says which it must be.
IPSEC_MB = "ipsec-mb " + os.environ.get("CULVERT_TEST_IPSEC_MB", "")


def with_openssl_at_a(bed, esp_proposal, workers=1):
    """Gateway a on OpenSSL, b on what its machine has; the tunnel is up."""
    options = TunnelOptions(esp_proposals=[esp_proposal])
    ours = bed.configuration("a", options)
    ours["dataplane"]["crypto"] = "openssl"
    ours["dataplane"]["workers"] = workers
    a = bed.add_gateway("a", ours)
    b = bed.add_gateway("b", bed.configuration("b", options))
    a.culvert("initiate", "net")
    b.wait_for_child()
    wait_until(lambda: bed.ping(count=1).received, 5, "the first answer")  # neighbours are known
    return a, b


# What the engines do by different calls: AES-GCM, another AEAD, a cipher in a chain with an HMAC.
@pytest.mark.parametrize("esp_proposal", ["aes256gcm16-ecp384", "chacha20poly1305-ecp384",
                                          "aes128-sha256-ecp384-esn"])
def test_a_gateway_on_openssl_carries_a_tunnels_traffic_and_says_so(bed, esp_proposal):
    # Given a gateway whose operator wrote `crypto: openssl`, opposite one on IPsec-MB
    a, b = with_openssl_at_a(bed, esp_proposal, workers=2)
    # When the clients talk, before and after a rekey
    assert bed.ping(count=60, interval=0.01).lost() == []
    first = a.child()["spi_in"]
    a.culvert("rekey", "net")
    wait_until(lambda: a.child()["spi_in"] != first, 5, "the rekey")
    assert bed.ping(count=60, interval=0.01, size=1300).lost() == []
    # Then both engines took each other's packets, and no other was sealed
    assert {end: gateway.drops().get("icv_mismatch", 0) for end, gateway in (("a", a), ("b", b))} == {
        "a": 0, "b": 0}
    child = a.status()["connections"][0]["children"][0]
    assert child["in"]["packets"] >= 120 and child["out"]["packets"] >= 120
    # And the operator sees which engine runs where, and why
    ours, theirs = a.status()["dataplane"], b.status()["dataplane"]
    assert ours["engine"].startswith("openssl 3.") and ours["engine_reason"] == "as configured"
    assert theirs["engine"].startswith(IPSEC_MB) and theirs["engine_reason"] is None
    assert f"  crypto {ours['engine']} (as configured), default policy discard\n" in a.text("status")
    assert f"  crypto {theirs['engine']}, default policy discard\n" in b.text("status")
    assert a.dataplane_metrics().labels_of("culvert_build_info")[0]["engine"] == ours["engine"]


def test_the_engine_of_a_running_gateway_stays(bed):
    """Its keys are expanded for it."""
    a, _ = with_openssl_at_a(bed, "aes256gcm16-ecp384")
    a.configuration["dataplane"]["crypto"] = "auto"
    for daemon in (a.dataplane, a.ike):
        assert "dataplane.crypto changed from openssl to auto" in refused_reload(a, daemon)
    assert bed.ping(count=5, interval=0.01).lost() == []
    assert a.status()["dataplane"]["engine"].startswith("openssl 3.")
