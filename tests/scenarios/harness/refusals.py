"""A peer's proof that is refused, with the words that an operator reads."""

import pytest

from .gateway import CommandError
from .shell import CommandFailed, wait_until


def last_failure(gateway):
    return gateway.status()["ike"]["connections"][0]["last_failure"]


def refuses(gateway, failure, *words, strongswan=None):
    """We initiate, and strongSwan afterwards if it is given: what the peer shows is refused with that
    failure, which names those words."""
    with pytest.raises(CommandError):
        gateway.culvert("initiate", "net")
    _is_named(gateway, failure, words)
    if strongswan is None:
        return
    told = _times_told(gateway, failure)
    with pytest.raises(CommandFailed):
        strongswan.initiate()
    wait_until(lambda: _times_told(gateway, failure) > told, 5, f"{failure} as responder")
    _is_named(gateway, failure, words)
    assert "AUTH_FAILED" in strongswan.log()


def _times_told(gateway, failure):
    return gateway.ike.text().count(f"failure={failure} ")


def _is_named(gateway, failure, words):
    seen = last_failure(gateway)
    assert seen["failure"] == failure, seen
    for word in words:
        assert word in seen["detail"], seen
    assert gateway.ike_sas() == []
