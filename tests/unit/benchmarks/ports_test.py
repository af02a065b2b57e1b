#!/usr/bin/python3
"""The search for the throughput, on gateways made of arithmetic."""
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

from report.ports import lines_of, limited_by, measure, search, split_devices  # noqa: E402

SETTINGS = {"rate": 10.0, "seconds": 1.0, "loss": 0.0, "resolution": 0.01}


def gateway(capacity, tester=1e9, floor=None):
    """Lets `capacity` million packets a second through, `floor` merely forwarded, from a tester that can
    send so many."""
    def trial(direction, size, mpps, seconds, forwarded=False):
        sent = min(mpps, tester)
        most = capacity if not forwarded or floor is None else floor
        return {"sent": round(sent * 1e6 * seconds),
                "received": round(min(sent, most) * 1e6 * seconds), "seconds": seconds,
                "latency_us": dict.fromkeys(("p50", "p90", "p99", "p999", "max"), 7.0 * mpps)}
    return trial


def find(capacity, tester=1e9, loss=0.0):
    return search(lambda mpps: gateway(capacity, tester)("out", 64, mpps, 1.0), 10.0, loss, 0.01)


class Search(unittest.TestCase):
    def test_it_finds_what_passes_and_no_more(self):
        for capacity in (0.2, 1.0, 3.3333, 7.0, 9.95):
            best, tried = find(capacity)
            self.assertLessEqual(best.sent, capacity)
            self.assertGreater(best.sent, capacity - 0.1, "within the resolution")
            self.assertLess(len(tried), 10)

    def test_a_gateway_that_takes_all_is_limited_by_the_rate(self):
        best, tried = find(20.0)
        self.assertEqual(len(tried), 1)
        self.assertEqual(limited_by(best, 10.0), "rate")

    def test_a_tester_at_its_end_is_said(self):
        best, _ = find(20.0, tester=4.0)
        self.assertEqual(best.sent, 4.0)
        self.assertEqual(limited_by(best, 10.0), "tester")

    def test_nothing_above_what_the_tester_sends_is_tried_again(self):
        best, tried = find(3.0, tester=4.0)
        self.assertTrue(all(one.asked <= 4.0 for one in tried[1:]))
        self.assertGreater(best.sent, 2.9)
        self.assertEqual(limited_by(best, 10.0), "gateway")

    def test_loss_that_is_allowed_passes(self):
        self.assertGreater(find(5.0, loss=0.1)[0].sent, 5.4)

    def test_a_gateway_that_passes_nothing_ends_the_search(self):
        best, tried = find(0.0)
        self.assertIsNone(best)
        self.assertLess(len(tried), 10)


class Row(unittest.TestCase):
    def test_latencies_are_taken_at_half_and_nine_tenths(self):
        row = measure(gateway(8.0), "in", "imix", SETTINGS)
        self.assertEqual([at["load"] for at in row["latency"]], [0.5, 0.9])
        self.assertAlmostEqual(row["latency"][0]["mpps"], row["throughput_mpps"] / 2, 3)
        self.assertEqual(len(lines_of(row)), 2)

    def test_the_floor_is_of_the_same_packets_forwarded_in_the_same_run(self):
        row = measure(gateway(4.0, floor=8.0), "out", "64", SETTINGS)
        self.assertAlmostEqual(row["floor_mpps"], 8.0, delta=0.1)
        self.assertAlmostEqual(row["efficiency"], row["throughput_mpps"] / row["floor_mpps"])
        self.assertEqual(row["floor_limited_by"], "gateway")
        self.assertEqual(measure(gateway(4.0, floor=20.0), "out", "64", SETTINGS)["floor_limited_by"], "rate")
        self.assertIn(" 0.5", lines_of(row)[0])

    def test_a_gateway_that_forwards_nothing_has_no_floor(self):
        row = measure(gateway(4.0, floor=0.0), "out", "64", SETTINGS)
        self.assertEqual((row["floor_mpps"], row["efficiency"]), (None, None))
        self.assertGreater(row["throughput_mpps"], 3.9)
        self.assertIn("none", lines_of(row)[0])

    def test_without_a_throughput_there_are_none(self):
        row = measure(gateway(0.0), "in", "imix", SETTINGS)
        self.assertEqual((row["throughput_mpps"], row["latency"]), (0.0, []))
        self.assertIn("nothing passed", lines_of(row)[0])


class Devices(unittest.TestCase):
    def test_arguments_stay_with_their_device(self):
        cases = {"0000:03:00.0,0000:03:00.1": ["0000:03:00.0", "0000:03:00.1"],
                 "net_af_packet0,iface=a,qpairs=1,net_af_packet1,iface=b":
                     ["net_af_packet0,iface=a,qpairs=1", "net_af_packet1,iface=b"]}
        for text, devices in cases.items():
            self.assertEqual(split_devices(text), devices)

    def test_other_numbers_of_devices_are_refused(self):
        for text in ("", "a", "a,b,c", ",b"):
            with self.assertRaises(ValueError):
                split_devices(text)


if __name__ == "__main__":
    unittest.main()
