"""The steps of the demo in order; each prints what it saw and checks it."""

import ipaddress
import time

from demo_peers import CulvertPeer, view_of_gateway
from harness.capture import WireContents
from harness.configuration import SIDE_A, SIDE_B
from harness.gateway import METRICS_SECONDS
from harness.shell import wait_until
from harness.traffic import Iperf3, SteadyPing, ping

PATTERN = bytes.fromhex("c1ea27e87c0ffee5")
IPERF_SECONDS = 2
# TCP alone would fill every queue on the way, and a full queue loses pings with or without a rekey.
STEADY_MEGABITS = 50
IDLE_PERCENT = 10
IDLE_SECONDS = 3
FIRST_PACKET_MILLISECONDS = 1.0


class Demo:
    def __init__(self, bed, near, far, report):
        self.bed, self.near, self.far, self.report = bed, near, far, report
        self.client = bed["client-a"]
        self.far_client = SIDE_B.client_address()
        self.spis_used = set()
        self.iperf = None
        self.before_flood = self.after_flood = None

    def _views(self):
        """Both ends, once they agree; the last views when they do not."""
        views = None

        def agree():
            nonlocal views
            try:
                views = (view_of_gateway(self.near), self.far.view())
            except AssertionError:
                return False
            return views[0].mirrors(views[1])

        try:
            wait_until(agree, 10, "both ends to hold the same SAs", interval=0.05)
        except TimeoutError:
            pass
        if views is None:
            raise RuntimeError("there is no single tunnel at both ends")
        self.spis_used |= {views[0].spi_in, views[0].spi_out}
        return views

    # ---- 1 --------------------------------------------------------------------------------------

    def tunnel_comes_up(self):
        started = time.monotonic()
        self.near.start()
        self.near.wait_for_child(timeout=15)
        near, far = self._views()
        self.report.title("The tunnel")
        self.report.note("from start to established", f"{time.monotonic() - started:.1f} s")
        self.report.check("IKE SA, the same at both ends", near.ike_spis == far.ike_spis,
                          f"{near.ike_spis[0]:016x}_i {near.ike_spis[1]:016x}_r")
        self.report.note(f"suite: {SIDE_A.name}", near.ike_suite)
        self.report.note(f"suite: {SIDE_B.name} ({self.far.name})", far.ike_suite)
        self.report.check(f"child SA {SIDE_A.name} → {SIDE_B.name}", near.spi_out == far.spi_in,
                          f"spi {near.spi_out:08x}  {near.suite}")
        self.report.check(f"child SA {SIDE_B.name} → {SIDE_A.name}", near.spi_in == far.spi_out,
                          f"spi {near.spi_in:08x}  {far.suite}")

    # ---- 2 --------------------------------------------------------------------------------------

    def traffic_passes(self):
        self.report.title(f"Traffic between the clients {SIDE_A.client_address()} and "
                          f"{self.far_client}")
        families = (4, 6) if isinstance(self.far, CulvertPeer) else (4,)
        for family in families:
            result = ping(self.client, SIDE_B.client_address(family), count=50, interval=0.01,
                          extra=["-p", PATTERN.hex()])
            lost = len(result.lost())
            self.report.check(f"ping IPv{family} without loss", not lost,
                              f"{result.transmitted} sent, {lost} lost, "
                              f"median {result.median() if result.round_trips else 0:.2f} ms")
        self.before_flood = self._quiet_packets()
        self.iperf = Iperf3(self.bed["client-b"], self.client, self.far_client,
                            self.bed.directory)
        for reverse, arrow in ((False, "→"), (True, "←")):
            rate = self.iperf.measure(IPERF_SECONDS, reverse=reverse)
            self.report.check(f"iperf3 TCP {SIDE_A.name} {arrow} {SIDE_B.name}", rate > 1,
                              f"{rate:.0f} Mbit/s")
        self.after_flood = self._quiet_packets()

    def _quiet_packets(self):
        """(what, sent, received) of both directions, once nothing is under way any more."""
        time.sleep(METRICS_SECONDS)
        return self.far.packets(self.near)

    # ---- 3 --------------------------------------------------------------------------------------

    def rekeys_lose_nothing(self):
        self.report.title("Rekeys in the middle of ping (100/s) and iperf3")
        steady = SteadyPing(self.client, self.far_client, self.bed.directory)
        stream = self.iperf.start(12, megabits=STEADY_MEGABITS)
        steady.wait_for_replies(30)
        before, _ = self._views()
        self.near.culvert("rekey", "net")
        self._new_child(before, f"child rekey by {SIDE_A.name}")
        steady.wait_for_replies(50)
        before, _ = self._views()
        self.far.rekey_child()
        wait_until(lambda: self._child_changed(before), 5, "the peer's child rekey", 0.05)
        self._new_child(before, f"child rekey by {SIDE_B.name} ({self.far.name})")
        steady.wait_for_replies(50)
        before, _ = self._views()
        self.near.culvert("rekey", "--ike", f"to-{SIDE_B.name}")
        after, far = self._views()
        self.report.check(f"IKE rekey by {SIDE_A.name}",
                          after.ike_spis[0] != before.ike_spis[0] and after.mirrors(far),
                          f"{before.ike_spis[0]:016x}_i → {after.ike_spis[0]:016x}_i")
        steady.wait_for_replies(150)  # past the switch of the last child rekey at either end
        during = stream.running()
        result = steady.stop()
        rate = stream.finish(20)
        self.report.check("iperf3 ran through it", during and rate > STEADY_MEGABITS * 0.8,
                          f"{rate:.0f} of {STEADY_MEGABITS} Mbit/s")
        self._check_no_loss("no ping lost", result)

    def _child_changed(self, before):
        try:
            return view_of_gateway(self.near).spi_out != before.spi_out
        except AssertionError:
            return False

    def _new_child(self, before, what):
        after, far = self._views()
        self.report.check(what, after.mirrors(far) and after.spi_in != before.spi_in
                          and after.spi_out != before.spi_out,
                          f"spi {before.spi_out:08x} → {after.spi_out:08x}, "
                          f"{before.spi_in:08x} → {after.spi_in:08x}")

    def _check_no_loss(self, what, result):
        lost = result.lost_packets
        where = f", first number {lost[0]}" if lost else ""
        self.report.check(what, not lost,
                          f"{result.transmitted} sent, {len(lost)} lost{where}")

    # ---- 4 --------------------------------------------------------------------------------------

    def key_daemon_dies_and_returns(self):
        self.report.title(f"kill -9 of culvert-ike at {SIDE_A.name} while ping runs at 100/s")
        steady = SteadyPing(self.client, self.far_client, self.bed.directory)
        before, _ = self._views()
        self.near.kill_ike()
        steady.wait_for_replies(100)
        self.report.check("traffic goes on without it", True, "100 more replies")
        started = time.monotonic()
        self.near.start_ike()
        self.near.wait_for_child(timeout=15)
        near, far = self._views()
        self.report.check("under control again after its restart", near.mirrors(far),
                          f"{time.monotonic() - started:.1f} s, spi {near.spi_out:08x}")
        # Resumed from its record (docs/decisions/0009): the far end has seen nothing.
        self.report.check("with the IKE SA and the SAs it had", near.spi_out == before.spi_out,
                          f"spi {before.spi_out:08x} before")
        self.near.culvert("rekey", "net")
        self._new_child(near, "the next rekey")
        steady.wait_for_replies(600, timeout=20)  # past the old SAs' grace
        self._check_no_loss("no ping lost", steady.stop())

    # ---- 5 --------------------------------------------------------------------------------------

    def counters_agree(self):
        self.report.title("Counters of both ends, all quiet")
        # TCP at full rate finds its rate by overflowing a queue between the gateways: those
        # packets were sealed and never arrived. All others must be in both ends' counters.
        for now, before, after in zip(self._quiet_packets(), self.before_flood, self.after_flood):
            what, sent, received = now
            lost = 0
            if self.far.totals_survive_rekeys:
                lost = (after[1] - before[1]) - (after[2] - before[2])
            self.report.check(f"packets {what}", sent - received == lost and sent > 0,
                              f"sent {sent}, received {received}"
                              + (f", {lost} lost by TCP at full rate" if lost else ""))
        for what, sent, received in self.before_flood:
            self.report.check(f"packets {what} before that", sent == received and sent > 0,
                              f"sent {sent}, received {received}")
        metrics = self.near.dataplane_metrics()
        self.report.check("metrics say the child is up",
                          metrics.total("culvert_child_up", child="net") == 1,
                          "culvert_child_up 1")
        rekeys = self.near.ike_metrics().total("culvert_ike_rekeys_total", kind="child",
                                               result="ok")
        self.report.note("child rekeys since the key daemon's restart", f"{rekeys:.0f}")

    # ---- 6 --------------------------------------------------------------------------------------

    def idle_is_cheap(self):
        self.report.title("Idle")
        self.iperf.stop()
        before, started = self.near.processor_seconds(), time.monotonic()
        time.sleep(IDLE_SECONDS)
        used = 100 * (self.near.processor_seconds() - before) / (time.monotonic() - started)
        self.report.check(f"an idle gateway uses under {IDLE_PERCENT} % of a core",
                          used < IDLE_PERCENT, f"{used:.1f} %")
        first = ping(self.client, SIDE_A.lan_address(), count=11, interval=0.25)
        median = first.median() if first.round_trips else float("inf")
        self.report.check("round trip of the first packet after idling, median",
                          not first.lost() and median < FIRST_PACKET_MILLISECONDS,
                          f"{median:.2f} ms")

    # ---- 7 --------------------------------------------------------------------------------------

    def wire_holds_no_clear_text(self, capture):
        self.report.title("What went over the wire between the gateways")
        inner = {ipaddress.ip_address(address.split("/")[0]).packed
                 for side in (SIDE_A, SIDE_B) for address in side.client + side.lan}
        wire = WireContents(capture.frames(), inner, PATTERN)
        self.report.check("only ARP, ND, IKE and ESP", not wire.unexpected(),
                          wire.describe() if not wire.unexpected() else str(wire.unexpected()))
        self.report.check("no client's address in an outer header", not wire.inner_addresses_seen,
                          f"{wire.inner_addresses_seen} seen")
        self.report.check("no byte of the ping pattern in clear", not wire.pattern_seen,
                          f"{wire.pattern_seen} seen")
        unseen = self.spis_used - wire.spis
        self.report.check("ESP under every SPI that was negotiated",
                          not unseen and wire.kinds["ike"] > 0 and wire.protected() > 0,
                          f"{len(self.spis_used)} SPIs" if not unseen else
                          "unseen: " + ", ".join(f"{spi:08x}" for spi in unseen))
        self.report.check("the capture is complete", capture.dropped() == 0,
                          f"{capture.dropped()} frames missed")
