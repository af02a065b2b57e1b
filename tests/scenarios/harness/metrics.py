"""The Prometheus text format: read over HTTP inside a namespace, looked up by name and labels."""

import http.client
import re

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Samples:
    """One scrape."""

    def __init__(self, text):
        self.text = text
        self._samples = []
        for line in text.splitlines():
            matched = _SAMPLE.match(line)
            if matched:
                name, labels, value = matched.groups()
                self._samples.append((name, dict(_LABEL.findall(labels or "")), float(value)))

    def names(self):
        return {name for name, _, _ in self._samples}

    def labels_of(self, name):
        return [labels for sample, labels, _ in self._samples if sample == name]

    def total(self, name, **wanted):
        """The sum over all samples of `name` whose labels include `wanted`; KeyError: none has."""
        values = [value for sample, labels, value in self._samples
                  if sample == name and wanted.items() <= labels.items()]
        if not values:
            raise KeyError(f"no sample {name} with {wanted}")
        return sum(values)


def scrape(namespace, port, address="127.0.0.1"):
    """GET /metrics of a daemon that listens inside `namespace`."""
    request = http.client.HTTPConnection(address, port, timeout=3.0)
    request.sock = namespace.tcp_connection(address, port)
    try:
        request.request("GET", "/metrics")
        response = request.getresponse()
        body = response.read().decode()
        if response.status != 200:
            raise RuntimeError(f"/metrics answered {response.status}")
        return Samples(body)
    finally:
        request.close()
