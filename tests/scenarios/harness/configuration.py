"""Gateway configurations as Python values, written as the YAML that both daemons read."""

import grp
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

SERVICE_USER = "culvert"


def to_yaml(value, indent=0):
    """Block-style YAML of dictionaries, lists and scalars; enough for a configuration."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            if isinstance(item, dict) and item or _is_block_list(item):
                lines.append(f"{pad}{key}:\n{to_yaml(item, indent + 1)}")
            else:
                lines.append(f"{pad}{key}: {_inline(item)}")
        return "\n".join(lines)
    lines = []
    for item in value:
        body = to_yaml(item, indent + 1) if isinstance(item, dict) else pad + "  " + _inline(item)
        lines.append(f"{pad}- {body.lstrip()}")
    return "\n".join(lines)


def _is_block_list(item):
    return isinstance(item, list) and any(isinstance(entry, dict) for entry in item)


def _inline(item):
    if isinstance(item, dict):
        return "{" + ", ".join(f"{key}: {_inline(entry)}" for key, entry in item.items()) + "}"
    if isinstance(item, list):
        return "[" + ", ".join(_inline(entry) for entry in item) + "]"
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str):
        return json.dumps(item)
    return str(item)


@dataclass
class Side:
    """Addresses of one gateway and the client behind it. Lists hold one entry an IP family."""

    name: str
    identity: str
    wan: list
    lan: list
    client: list
    networks: list

    @property
    def wan_address(self):
        return self.wan[0].split("/")[0]

    def wan_address_of(self, family):
        return _of_family(self.wan, family).split("/")[0]

    def client_address(self, family=4):
        return _of_family(self.client, family).split("/")[0]

    def lan_address(self, family=4):
        return _of_family(self.lan, family).split("/")[0]

    def network(self, family=4):
        return _of_family(self.networks, family)


def _of_family(addresses, family):
    return next(address for address in addresses if (":" in address) == (family == 6))


SIDE_A = Side(name="hq", identity="hq.example.org",
              wan=["192.0.2.1/24", "2001:db8:ffff::1/64"],
              lan=["10.1.0.1/24", "2001:db8:1::1/64"],
              client=["10.1.0.2/24", "2001:db8:1::2/64"],
              networks=["10.1.0.0/24", "2001:db8:1::/64"])
SIDE_B = Side(name="branch", identity="branch.example.org",
              wan=["192.0.2.2/24", "2001:db8:ffff::2/64"],
              lan=["10.2.0.1/24", "2001:db8:2::1/64"],
              client=["10.2.0.2/24", "2001:db8:2::2/64"],
              networks=["10.2.0.0/24", "2001:db8:2::/64"])


@dataclass
class TunnelOptions:
    """What the two ends agree upon; the defaults are those of the demo."""

    outer_family: int = 4
    inner_families: tuple = (4,)
    mode: str = "tunnel"
    proposals: list = field(default_factory=lambda: ["aes256gcm16-prfsha384-ecp384"])
    esp_proposals: list = field(default_factory=lambda: ["aes256gcm16-ecp384"])
    start_action: str = "trap"
    connection_options: dict = field(default_factory=dict)
    child_options: dict = field(default_factory=dict)
    rehearse: bool = False   # a rekey soon after the start; many scenarios count packets by SPI


def gateway_configuration(instance, local: Side, remote: Side):
    """A gateway with its two interfaces and routes to the other side, without any connection."""
    routes = [{"to": network, "via": remote.wan_address_of(6 if ":" in network else 4)}
              for network in remote.networks]
    return {
        "instance": instance,
        "dataplane": {
            "workers": 1,
            "interfaces": [
                {"name": "wan", "device": _device(0, "wan"), "addresses": local.wan},
                {"name": "lan", "device": _device(1, "lan"), "addresses": local.lan},
            ],
            "routes": routes,
            "limits": {"sas": 1024, "policies": 256, "flows": 4096},
            "idle": "adaptive",
        },
        "default_policy": "discard",
        "metrics": {"listen": "127.0.0.1:9464"},
    }


def _device(number, interface):
    """A ring of 4096 frames: the default's 512 overflow while a busy machine looks elsewhere."""
    return f"net_af_packet{number},iface={interface},framecnt=4096"


def connection(local: Side, remote: Side, options: TunnelOptions):
    """The connection `to-NAME` with a child `net` (or `host` in transport mode)."""
    family = options.outer_family
    if options.mode == "transport":
        local_selectors = [_host(local.wan_address_of(family))]
        remote_selectors = [_host(remote.wan_address_of(family))]
    else:
        local_selectors = [local.network(inner) for inner in options.inner_families]
        remote_selectors = [remote.network(inner) for inner in options.inner_families]
    child = {"name": "net", "mode": options.mode,
             "local_ts": local_selectors, "remote_ts": remote_selectors,
             "esp_proposals": options.esp_proposals, "start_action": options.start_action,
             "rehearse_rekey": options.rehearse,
             **options.child_options}
    return {
        "name": f"to-{remote.name}",
        "local": {"address": local.wan_address_of(family), "id": local.identity, "auth": "psk"},
        "remote": {"address": remote.wan_address_of(family), "id": remote.identity, "auth": "psk"},
        "proposals": options.proposals,
        **options.connection_options,
        "children": [child],
    }


def _host(address):
    return f"{address}/128" if ":" in address else f"{address}/32"


def with_psk(configuration, local: Side, remote: Side, psk_file):
    configuration.setdefault("secrets", []).append(
        {"ids": [local.identity, remote.identity], "psk_file": str(psk_file)})
    return configuration


def write_secret(path: Path, text):
    """Readable for root and the service user's group, for nobody else."""
    path.write_text(text + "\n")
    os.chown(path, 0, grp.getgrnam(SERVICE_USER).gr_gid)
    path.chmod(0o640)
    return path
