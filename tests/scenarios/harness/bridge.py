"""What does not pass the bridge between the gateways, for as long as a test says."""

import contextlib
import json

from .shell import run


@contextlib.contextmanager
def narrow(bed, mtu):
    """What is larger, and every IP fragment, ends there, and nobody is told. Yields what says how many
    packets did, by reason."""
    rules = f"""
    ip length > {mtu} counter name "too_big" drop
    ip frag-off & 0x3fff != 0 counter name "fragments" drop"""
    with _rules(bed, rules, "counter too_big { }; counter fragments { }") as table:
        def ended():
            listed = bed["wan"].run("nft", "-j", "list", "counters", "table", "bridge", table).stdout
            return {entry["counter"]["name"]: entry["counter"]["packets"]
                    for entry in json.loads(listed)["nftables"] if "counter" in entry}
        yield ended


def blocked(bed, address):
    """Nothing from or to this address."""
    return _rules(bed, f"ip saddr {address} drop; ip daddr {address} drop")


@contextlib.contextmanager
def _rules(bed, rules, counters="", table="scenario"):
    run(*bed["wan"].command("nft", "-f", "-"), input_text=f"""
table bridge {table} {{
  {counters}
  chain forward {{
    type filter hook forward priority 0;
    {rules}
  }}
}}
""")
    try:
        yield table
    finally:
        bed["wan"].run("nft", "delete", "table", "bridge", table)
