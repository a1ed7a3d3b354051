"""What the guest uses, read from its own /proc: processor time, and memory that no control group bounds."""

from __future__ import annotations

import os
import time

INTERVAL = 0.1  # seconds
_PAGE = os.sysconf("SC_PAGE_SIZE")
_EXACT_SHARE = 20  # an exact reading may take at most one part in this many of the time


def _small(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, 8192)
    finally:
        os.close(fd)


def cpu_seconds(proc: int) -> float:
    """Processor time of every process inside, those that ended and were waited for included (proc(5))."""
    ticks = 0
    for pid in os.listdir(proc):
        if pid.isdigit():
            try:
                fields = _small(proc, f"{pid}/stat").rpartition(b")")[2].split()
            except OSError:
                continue
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


class Sampler:
    """Reads the guest's own /proc and its memory file systems."""

    def __init__(self, limit: int, proc: int, root: int, tmpfs: list[str]) -> None:
        self.limit, self.proc = limit, proc
        # O_PATH descriptors would do for fstatvfs, but a directory can be reopened by the kernel's word only.
        self.tmpfs = [
            os.open(target.lstrip("/"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            for target in tmpfs
        ]
        self.now = self.peak = self.processes = 0
        self._exact_after = 0.0

    def over(self) -> bool:
        """Take a sample; whether the guest uses more than its limit.

        A page that several processes share, copy-on-write or otherwise, is counted in each of
        them, so that the sum is an upper bound. Only when the bound is over the limit are the exact
        shares read, which walks page tables: seldom, unless the bound is far over.
        """
        anonymous, shared, self.processes = self._bound()
        files = sum((info.f_blocks - info.f_bfree) * info.f_frsize for info in map(os.fstatvfs, self.tmpfs))
        bound = anonymous + sum(shared) + files
        begin = time.monotonic()
        if bound <= self.limit:
            self.now = anonymous + max(shared, default=0) + files
        elif begin >= self._exact_after or anonymous > 2 * self.limit:
            self.now = self._exact() + files
            self._exact_after = begin + (time.monotonic() - begin) * _EXACT_SHARE
        self.peak = max(self.peak, self.now)
        return self.now > self.limit

    def _pids(self) -> list[str]:
        return [name for name in os.listdir(self.proc) if name.isdigit() and name != "1"]

    def _status(self, pid: str) -> bytes:
        """A process's memory fields. Of one whose first thread has ended, another thread has them."""
        status = _small(self.proc, f"{pid}/status")
        if b"RssAnon:" in status:
            return status
        for tid in os.listdir(f"/proc/self/fd/{self.proc}/{pid}/task"):
            status = _small(self.proc, f"{pid}/task/{tid}/status")
            if b"RssAnon:" in status:
                break
        return status

    def _bound(self) -> tuple[int, list[int], int]:
        anonymous, shared = 0, []
        pids = self._pids()
        for pid in pids:
            try:
                status = self._status(pid)
            except OSError:
                continue
            anonymous += _field(status, b"RssAnon:") + _field(status, b"VmSwap:")
            shared.append(_field(status, b"RssShmem:"))  # shared memory, and maps of a tmpfs
        return anonymous, shared, len(pids)

    def _exact(self) -> int:
        total = 0
        for pid in self._pids():
            try:
                rollup = _small(self.proc, f"{pid}/smaps_rollup")
            except OSError:
                rollup = b""
            if b"Pss_Shmem:" in rollup:
                total += sum(_field(rollup, name) for name in (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:"))
                continue
            try:  # not to be read, or its first thread has ended: counted in full
                status = self._status(pid)
            except OSError:
                continue
            total += sum(_field(status, name) for name in (b"RssAnon:", b"RssShmem:", b"VmSwap:"))
        return total


def _field(text: bytes, name: bytes) -> int:
    """A field `NAME: N kB` in bytes; 0 if it is not there."""
    at = text.find(name)
    return int(text[at + len(name) : text.index(b"kB", at)]) * 1024 if at >= 0 else 0
