"""What the kernel tells of processes, processors and ports."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parents[2] / "target")).resolve()
# Where bench/get-peers places programs.
NEWEST = TARGET / "peers" / "bin"


class Failure(Exception):
    """Ends the comparison; the text is for the user."""


def family(root):
    """This process and all below it, by id: the ticks of user and system time that each has had."""
    parents, ticks = {}, {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            parents[pid] = int(fields[1])
            ticks[pid] = (int(fields[11]), int(fields[12]))

    def is_below(pid):
        return pid == root or (pid in parents and is_below(parents[pid]))

    return {pid: ticks[pid] for pid in filter(is_below, parents)}


def cpu_times(root):
    """Of this process and all below it, by id: CPU time in nanoseconds, user and system time in clock ticks."""
    times = {}
    for pid, ticks in family(root).items():
        # The scheduler's clock of all its threads, ended ones too; its id is what clock_getcpuclockid(3) computes.
        with contextlib.suppress(OSError):
            times[pid] = (time.clock_gettime_ns((~pid << 3) | 2), *ticks)
    return times


def resident(root):
    """Bytes of memory of this process and all below it, shared pages by their parts."""
    total = 0
    for pid in family(root):
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += 1024 * int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M)[1])
    return total


def free_ports(count):
    """Of all addresses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [bound.getsockname()[1] for bound in sockets]


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")


def newest(program):
    """Rather than that of the system, the one that bench/get-peers has got."""
    got = NEWEST / program
    return str(got) if got.exists() else find(program)


def version(*command):
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    found = re.search(r"\d+\.\d+[^\s/]*", said.stdout + said.stderr)
    return found[0] if found else "unknown"


def placement():
    """The CPU of the proxies, and those of clients and backends: on other cores, if there are any."""

    def core(cpu):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        return [(topology / name).read_text() for name in ("physical_package_id", "core_id")]

    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, {cpu for cpu in others if core(cpu) != core(first)} or set(others) or {first}
