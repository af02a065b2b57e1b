#!/usr/bin/python3
"""The search for the throughput, on gateways made of arithmetic."""
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

from report.ports import (lines_of, limited_by, link_mpps, measure, search, split_devices,  # noqa: E402
                          wire_bytes)

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


def find(capacity, tester=1e9, loss=0.0, top=10.0):
    found = search(lambda mpps: gateway(capacity, tester)("out", 64, mpps, 1.0), top, loss, 0.01)
    return found.best, found.tried


class Search(unittest.TestCase):
    def test_it_finds_what_passes_and_no_more(self):
        for capacity in (0.2, 1.0, 3.3333, 7.0, 9.95):
            best, tried = find(capacity)
            self.assertLessEqual(best.sent, capacity)
            self.assertGreater(best.sent, 0.99 * capacity, "within the resolution")
            self.assertLess(len(tried), 10)

    def test_the_resolution_is_of_what_is_found_however_much_was_to_be_tried(self):
        # 1420 B on links of 1 Gbit/s: full at 0.0857 in clear, at 0.0826 with ESP around.
        for tester, capacity, top in ((0.0857, 0.0826, 14.88), (0.235, 0.203, 14.88), (0.857, 0.8256, 14.88),
                                      (1e9, 0.02, 14.88), (1e9, 0.3, 148.8)):
            best, tried = find(capacity, tester, top=top)
            self.assertLessEqual(best.sent, capacity)
            self.assertGreater(best.sent, 0.98 * capacity)
            self.assertLess(len(tried), 10)

    def test_a_gateway_that_passes_less_the_more_comes_is_found(self):
        def trial(mpps):
            return {"sent": round(mpps * 1e6), "received": round((mpps if mpps <= 3 else 9 / mpps) * 1e6),
                    "seconds": 1.0}
        found = search(trial, 10.0, 0.0, 0.01)
        self.assertLessEqual(found.best.sent, 3)
        self.assertGreater(found.best.sent, 2.97)
        self.assertLessEqual(found.step, 0.03)

    def test_every_rate_that_is_tried_is_one(self):
        # A packet of ten million is lost, and the tester sends a little more than it was asked.
        def trial(mpps):
            self.assertGreater(mpps, 0)
            return {"sent": round(mpps * 1e7) + 9, "received": round(mpps * 1e7) + 8, "seconds": 10.0}
        self.assertIsNone(search(trial, 1.0, 0.0, 0.01).best)

    def test_a_gateway_that_loses_a_little_above_what_it_passes_is_found(self):
        def trial(mpps):
            return {"sent": round(mpps * 1e6), "received": round(min(mpps if mpps <= 2.5 else 0.999 * mpps, 3) * 1e6),
                    "seconds": 1.0}
        found = search(trial, 10.0, 0.0, 0.01)
        self.assertLessEqual(found.best.sent, 2.5)
        self.assertGreater(found.best.sent, 2.475)
        self.assertLess(len(found.tried), 12)

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


class Links(unittest.TestCase):
    def test_a_packet_takes_what_is_around_it_too(self):
        self.assertEqual(wire_bytes(64, False), 102)
        self.assertEqual(wire_bytes(40, False), 84, "the least frame is 64 bytes")
        self.assertEqual(wire_bytes(64, True), 158)
        self.assertEqual(wire_bytes(1420, True), 1514)

    def test_the_slower_link_says_how_much_both_carry(self):
        self.assertAlmostEqual(link_mpps([10000, 10000], "64", forwarded=True), 12.255, 3)
        self.assertAlmostEqual(link_mpps([1000, 1000], "1420"), 0.08256, 5)
        self.assertAlmostEqual(link_mpps([1000, 10000], "1420"), 0.08573, 5)
        self.assertAlmostEqual(link_mpps([1000, None], "imix", forwarded=True),
                               125 * 12 / (7 * 102 + 4 * 608 + 1438))
        self.assertIsNone(link_mpps([None, None], "64"))
        self.assertIsNone(link_mpps(None, "64"), "a tester of an earlier version")

    def test_the_most_to_try_is_what_they_carry(self):
        settings = {**SETTINGS, "rate": None}
        row = measure(gateway(50.0), "out", "1420", settings, [1000, 1000])
        self.assertAlmostEqual(row["throughput_mpps"], 0.08256, 5)
        self.assertEqual((row["limited_by"], row["floor_limited_by"]), ("link", "link"))
        self.assertEqual(len(row["trials"]), 1)
        self.assertEqual(measure(gateway(0.05), "out", "1420", settings, [1000, 1000])["limited_by"], "gateway")
        self.assertEqual(measure(gateway(50.0), "out", "64", settings)["throughput_mpps"], 14.88)

    def test_a_full_wire_is_not_the_testers_end(self):
        # Asked for more than the wire takes: what is sent fills it.
        best, _ = find(20.0, tester=0.7911)
        self.assertEqual(limited_by(best, 10.0, link_mpps([1000, 1000], "64")), "link")
        self.assertEqual(limited_by(best, 10.0), "tester")
        self.assertEqual(limited_by(best, 10.0, 0.5), "tester", "a driver that does not know its link's speed")


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
