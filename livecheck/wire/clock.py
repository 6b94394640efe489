"""When bytes arrived: the kernel's receive time where the system gives one.

The kernel stamps a packet when it comes in (Linux: SO_TIMESTAMPNS), so neither the scheduler nor
this program's own work is in the figure. Elsewhere the time is taken after the read.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Sequence

SO_TIMESTAMPNS = 35  # Linux's number, also that of the control message; Python has no name for it
TIMESPEC = struct.Struct("qq")  # seconds and nanoseconds, as the control message brings them
CALIBRATE_S = 0.1  # how often the wall clock's offset is measured again, in case the clock steps
CALIBRATION_TRIES = 20  # the tightest of them is the least disturbed by the scheduler
LARGEST_LAG_NS = 100_000_000  # bytes that lay unread for longer are rare; a clock step is likelier
STAMPED_PER_UNSTAMPED = 100  # a few of the first packets may come without a stamp

KERNEL_CLOCK = "kernel receive time (SO_TIMESTAMPNS)"
USER_CLOCK = "user space, after the read (perf_counter)"


class Clock:
    """Turns the kernel's receive times (wall clock) into times of `perf_counter_ns`.

    The reader counts its reads in `stamped_reads` and `unstamped_reads`.
    """

    def __init__(self, kernel_stamps: bool = True) -> None:
        """`kernel_stamps=False`: do not ask the system for receive times."""
        self.kernel_stamps = kernel_stamps and sys.platform == "linux"
        self.stamped_reads = self.unstamped_reads = 0
        self.offset_ns = 0
        self.calibrate()

    @property
    def name(self) -> str:
        """Which clock the arrival times come from, judged by the reads so far."""
        is_stamped = STAMPED_PER_UNSTAMPED * self.unstamped_reads <= self.stamped_reads
        return KERNEL_CLOCK if self.kernel_stamps and is_stamped else USER_CLOCK

    @property
    def has_stamped(self) -> bool:
        """Whether the kernel has given the times of nearly all reads, of one at least."""
        return 0 < self.stamped_reads >= STAMPED_PER_UNSTAMPED * self.unstamped_reads

    def calibrate(self) -> None:
        """Measure the offset between the wall clock and perf_counter_ns."""
        self.calibrated_ns = time.perf_counter_ns()
        tightest_ns = sys.maxsize
        for _ in range(CALIBRATION_TRIES):
            before_ns = time.perf_counter_ns()
            wall_ns = time.time_ns()
            after_ns = time.perf_counter_ns()
            if after_ns - before_ns < tightest_ns:
                tightest_ns = after_ns - before_ns
                self.offset_ns = wall_ns - (before_ns + after_ns) // 2

    def calibrate_if_due(self, now_ns: int) -> None:
        if now_ns - self.calibrated_ns > CALIBRATE_S * 1e9:
            self.calibrate()

    def received_ns(
        self, ancillary: Sequence[tuple[int, int, bytes]], after_ns: int, now_ns: int
    ) -> int:
        """When a read's last byte arrived: the kernel's time if it is credible, else `now_ns`.

        `ancillary` is what recvmsg gave; `now_ns` was taken after the read. The result is never
        before `after_ns`, the time of the send or of the read before: TCP delivers in order, so a
        byte is there only when all bytes before it are (a lost packet comes again later).
        """
        if not ancillary:
            return now_ns
        seconds, nanoseconds = TIMESPEC.unpack_from(ancillary[0][2])
        wall_ns = seconds * 1_000_000_000 + nanoseconds
        stamp_ns: int = wall_ns - self.offset_ns
        if after_ns <= stamp_ns <= now_ns < stamp_ns + LARGEST_LAG_NS:
            return stamp_ns
        # The time lies in the past, in the future, or 100 ms back. If the wall clock has stepped,
        # calibrating again brings the time right.
        self.calibrate()
        stamp_ns = wall_ns - self.offset_ns
        return stamp_ns if after_ns <= stamp_ns <= now_ns else now_ns
