"""What the proxies are given to do, and what came of it."""

import contextlib
import json
import os
import re
import resource
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import tunnels
from .machine import Failure, cpu_times, resident
from .peers import FILES, PEERS, AdminConnection

# Processes of openssl s_time or h2load at once.
CLIENTS = 8
IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>; Python has no name for it before 3.12
PAUSE = 0.02  # seconds between two changes
AT_REST = "at rest"  # ends the name of a peer whose backends don't change
SETTLE = 3  # seconds until the memory of idle connections is looked at
PROXIES = ("steadfast", "haproxy", "nginx", "envoy", "pingora")


@dataclass(frozen=True)
class Work:
    """One row of the comparison, for each number of connections."""

    what: str
    connections: tuple = (64,)
    client: str = "wrk"
    path: str = "/"
    method: str = "GET"
    size: int = 0  # bytes of a request's body
    chunked: bool = False
    fields: int = 0  # bytes of further fields
    counted: int = 1  # requests that the backends count for each
    moved: int = 0  # bytes of a body either way: cost is told for each MiB of them
    tls: str = ""  # the kind of certificate
    close: bool = False
    streams: int = 0  # at once on each connection of HTTP/2
    tunnel: str = ""  # what each connection is then: "websocket" or "tcp"
    peers: tuple = (*PROXIES, "relay")
    # By number of connections and peer: what Steadfast's ratio to it is to reach.
    targets: dict = field(default_factory=dict)

    @property
    def counts(self):
        return "message" if self.tunnel else "request"

    @property
    def unit(self):
        return {"idle": "bytes/connection", "rate": "p99.9 ms", "change": "p99 ms", "changed": "p99.9 ms"}.get(self.client, f"CPU µs/{'MiB' if self.moved else self.counts}")


# Those with configurations in peers/websocket and peers/tcp.
TUNNELS = ("steadfast", "haproxy", "nginx")
BETTER = "the better of both"
# What it is to reach by itself, in the unit of the work.
ITSELF = "itself"
WORKS = {
    "get": Work("small GET", (1, 16, 64, 512, 4096),
                targets={(512, "haproxy"): 0.5, (512, "nginx"): 0.65, (512, "relay"): 1.12, (64, "haproxy"): 0.65, (64, "nginx"): 0.75}),
    "close": Work("small GET on a connection of its own", (64,), close=True, peers=PROXIES, targets={(64, BETTER): 0.9}),
    "headers": Work("small GET with 2 KiB of fields and 8 cookies", (64,), fields=2048, targets={(64, "haproxy"): 0.55}),
    "1k": Work("1 KiB response", path="/files/1k"),
    "64k": Work("64 KiB response", path="/files/64k", moved=FILES["64k"], targets={(64, BETTER): 0.8}),
    "1m": Work("1 MiB response", path="/files/1m", moved=FILES["1m"], targets={(64, BETTER): 0.8}),
    "upload": Work("1 MiB upload", path="/upload", method="POST", size=1 << 20, counted=2, moved=1 << 20),
    "chunked": Work("1 MiB upload in chunks", path="/upload", method="POST", size=1 << 20, chunked=True, counted=2, moved=1 << 20),
    "tls": Work("small GET over TLS 1.3", (64, 512), tls="ec", peers=PROXIES, targets={(64, BETTER): 0.8}),
    "tls-close": Work("small GET, TLS session resumed for each", tls="ec", close=True, peers=PROXIES),
    "tls-full": Work("small GET, whole TLS handshake for each", client="s_time", tls="ec", peers=PROXIES),
    "tls-full-rsa": Work("the same with RSA 2048", client="s_time", tls="rsa", peers=PROXIES),
    "http2": Work("small GET over HTTP/2, 10 streams at once", (8, 64), client="h2load", tls="ec", streams=10, peers=PROXIES,
                  targets={(8, BETTER): 0.8, (64, BETTER): 0.8}),
    "backends": Work("small GET, many backends", peers=("steadfast with 10,000 backends", "steadfast with 10 backends"),
                     targets={(64, "steadfast with 10 backends"): 1.05}),
    "workers": Work("small GET, two workers", peers=("steadfast with 2 workers", "steadfast"), targets={(64, "steadfast"): 1.05}),
    "idle": Work("memory of idle connections", (10_000,), client="idle", peers=PROXIES, targets={(10_000, BETTER): 1.0}),
    "idle-tls": Work("memory of idle connections over TLS 1.3", (4_000,), client="idle", tls="ec", peers=PROXIES),
    "latency": Work("p99.9 at half of HAProxy's peak", client="rate", peers=PROXIES, targets={(64, BETTER): 1.0}),
    "change": Work("until all workers know who leaves or joins 1,000 backends, under full load", client="change",
                   peers=("steadfast with 1,000 backends",), targets={(64, ITSELF): 10}),
    "changed": Work("p99.9 of these requests, and without changes", client="changed",
                    peers=("steadfast with 1,000 backends", f"steadfast with 1,000 backends {AT_REST}"),
                    targets={(64, f"steadfast with 1,000 backends {AT_REST}"): 1.05}),
    "websocket": Work("11 bytes there and back through a WebSocket", (1,), client="messages", tunnel="websocket", peers=TUNNELS),
    "websocket-bulk": Work("frames of 1 MiB from the backend through a WebSocket", (1,), client="bulk", moved=1 << 20,
                           tunnel="websocket", peers=TUNNELS),
    "websocket-idle": Work("memory of idle WebSockets", (2_000,), client="idle", tunnel="websocket", peers=TUNNELS),
    "tcp": Work("the same 11 bytes as plain TCP", (1,), client="messages", tunnel="tcp", peers=(*TUNNELS, "relay")),
    # Without the relay, which is no floor here: its buffers are small.
    "tcp-bulk": Work("the same frames of 1 MiB as plain TCP", (1,), client="bulk", moved=1 << 20, tunnel="tcp", peers=TUNNELS),
    "tcp-idle": Work("memory of idle connections of plain TCP", (2_000,), client="idle", tunnel="tcp", peers=TUNNELS),
}


@dataclass
class Run:
    """One peer under one work, once."""

    work: str
    peer: str
    connections: int
    figure: float  # in the unit of the work; less is better
    requests: int
    requests_per_second: float
    user_share: float
    backend_connections_opened: int
    void: list  # why it doesn't count


@contextlib.contextmanager
def at_once():
    """Has this thread, which looks at the clock, wait for nobody on the processor that it shares with wrk and the backends:
    what is measured is not how busy that is. Processes that are started meanwhile are as any."""
    was = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        print("not as root: what the clients' processor takes is in the times of changes", flush=True)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *was)


class Bench:
    """Carries works out."""

    def __init__(self, wrk, backends, far, top, rate=None):
        self.wrk, self.backends, self.far = wrk, backends, far
        self.cookies, self.log, self.rate = Path(top, "cookies"), Path(top, "latencies"), rate

    def behind(self, work):
        """The backends of this work."""
        return self.far if work.tunnel else self.backends

    def sessions(self, peer):
        """New ones each time, lest they become old enough to be refreshed: wrk would not take the new cookie."""
        if peer.sticky:
            self.cookies.write_text("".join(f"{first.cookie}\n" for first in peer.new_sessions()))

    def run(self, name, work, peer, connections, seconds):
        self.sessions(peer)
        if work.client == "idle":
            return self.idle(name, work, peer, connections)
        client = {"wrk": self.drive, "s_time": self.shake_hands, "h2load": self.multiplex, "rate": self.keep_rate,
                  "messages": self.carry, "bulk": self.carry, "change": self.change, "changed": self.keep_changing}[work.client]
        accepted_before, seen_before = self.behind(work).counts()
        before = cpu_times(peer.process.pid)
        result = client(work, peer, connections, seconds)
        after = cpu_times(peer.process.pid)
        accepted, seen = self.behind(work).counts()

        requests, seconds = result.pop("requests"), result.pop("seconds")
        latency = result.pop("ms", None)
        result.pop("p999", None)
        void = [f"{count} {kind} errors" for kind, count in result.items() if count]
        reached, opened = (seen - seen_before) // work.counted, accepted - accepted_before
        # wrk and h2load leave without the answers to their last requests.
        unanswered = 0 if work.tunnel else connections * (work.streams or 1)
        if requests == 0 or not 0 <= reached - requests <= unanswered:
            void.append(f"{requests} {work.counts}s were answered and {reached} reached the backends")
        if work.tunnel and opened != connections:
            void.append(f"{connections} tunnels came to {opened} connections to the backend")
        if before.keys() != after.keys():
            void.append("a process of it ended or was started")
        both = before.keys() & after.keys()
        cpu_ns, user, system = (sum(after[pid][i] - before[pid][i] for pid in both) for i in range(3))
        units = max(requests, 1) * (work.moved / (1 << 20) if work.moved else 1)
        figure = cpu_ns / 1000 / units if latency is None else latency
        return Run(name, peer.name, connections, figure, requests, requests / seconds, user / max(user + system, 1),
                   opened, void)

    def drive(self, work, peer, connections, seconds):
        command = [*self.wrk, f"-c{connections}", f"-d{seconds}s", f"{'https' if peer.tls else 'http'}://127.0.0.1:{peer.port}/",
                   *(["-H", "Connection: close"] if work.close else []), "--", self.cookies,
                   work.path, work.method, str(work.size), "chunked" if work.chunked else "-", str(work.fields)]
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        try:
            return json.loads(said.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise Failure(f"wrk failed: {said.stdout}{said.stderr}") from None

    def shake_hands(self, work, peer, connections, seconds):
        """Requests by clients that forget their sessions, as wrk's don't."""
        command = ["openssl", "s_time", "-connect", f"127.0.0.1:{peer.port}", "-new", "-time", str(seconds), "-www", work.path]
        began = time.monotonic()
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(min(connections, CLIENTS))]
        said = [client.communicate()[0] for client in clients]
        counts = [re.search(r"(\d+) connections in \d+ real seconds", each) for each in said]
        if not all(counts):
            raise Failure(f"openssl s_time failed: {said}")
        return {"requests": sum(int(count[1]) for count in counts), "seconds": time.monotonic() - began}

    def h2load(self, peer, connections, seconds, *more):
        """Some processes of h2load, each with the cookie of another session."""
        cookies = self.cookies.read_text().splitlines()
        clients, began = min(connections, CLIENTS), time.monotonic()
        commands = [
            ["h2load", "-c", str(connections // clients), "-D", str(seconds), "-H", f"cookie: {cookie}",
             *(part.replace("{number}", str(number)) for part in more),
             f"{'https' if peer.tls else 'http'}://127.0.0.1:{peer.port}/"]
            for number, cookie in enumerate(cookies[:clients])
        ]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
        said = [client.communicate()[0] for client in running]
        counts = [re.search(r"(\d+) done, (\d+) succeeded.*\n.*status codes: (\d+) 2xx", each) for each in said]
        if not all(counts):
            raise Failure(f"h2load failed: {said}")
        done, _, good = (sum(int(count[i]) for count in counts) for i in (1, 2, 3))
        return {"requests": done, "seconds": time.monotonic() - began, "status": done - good}

    def multiplex(self, work, peer, connections, seconds):
        return self.h2load(peer, connections, seconds, "-m", str(work.streams))

    def keep_rate(self, work, peer, connections, seconds):
        """So many requests a second, whatever becomes of those before; the latency that 999 of 1,000 keep, in ms."""
        rate = self.rate / connections
        result = self.h2load(peer, connections, seconds, "--h1", "-m1", f"--rps={rate:.2f}", f"--log-file={self.log}.{{number}}")
        took = []
        for number in range(min(connections, CLIENTS)):
            log = Path(f"{self.log}.{number}")
            took += [int(line.split("\t")[2]) for line in log.read_text().splitlines()]
            log.unlink()
        took.sort()
        return result | {"ms": took[len(took) * 999 // 1000] / 1000}

    def change(self, work, peer, connections, seconds):
        """Takes a backend's weight and gives it back, one after the other, under all requests that clients can send: the time
        until all workers have applied it that 99 of 100 keep, in ms."""
        took, applied = [], True
        with ThreadPoolExecutor(1) as threads, contextlib.closing(AdminConnection(peer.admin)) as admin, at_once():
            driven = threads.submit(self.drive, work, peer, connections, seconds)
            while not driven.done():
                began = time.monotonic()
                backend, weight = f"more-{len(took) // 2 % 900}", json.dumps({"weight": len(took) % 2})
                admin.request("PATCH", f"/v1/pools/shop/backends/{backend}", weight, {"Content-Type": "application/json"})
                applied &= json.load(admin.getresponse()).get("applied") is True
                took.append(1000 * (time.monotonic() - began))
                time.sleep(PAUSE)
        took.sort()
        return driven.result() | {"ms": took[len(took) * 99 // 100], "unapplied changes": int(not applied)}

    def keep_changing(self, work, peer, connections, seconds):
        """The latency that 999 of 1,000 requests keep while backends change, in ms."""
        result = (self.drive if peer.name.endswith(AT_REST) else self.change)(work, peer, connections, seconds)
        return result | {"ms": result["p999"] / 1000}

    def carry(self, work, peer, connections, seconds):
        return tunnels.carry(peer.port, work.client == "bulk", connections, seconds)

    def idle(self, name, work, peer, connections):
        """Connections that are kept after one request each."""
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # The script itself is the backend of tunnels.
        needed = connections * (2 if work.tunnel else 1)
        if needed + 100 > room:
            raise Failure(f"{connections} idle connections need {needed + 100} descriptors, and there are {room}; see ulimit -n")
        request, status = tunnels.HANDSHAKE.format("/"), 101
        if not work.tunnel:
            cookie = self.cookies.read_text().splitlines()[0]
            request, status = f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n", 200
        with contextlib.ExitStack() as held:
            before = resident(peer.process.pid)
            for number in range(connections):
                client = held.enter_context(socket.socket())
                client.settimeout(10)
                # No address has ports for more than some 28,000 connections to one other; which is free, connecting finds out.
                client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                client.bind((f"127.0.0.{2 + number // 20_000}", 0))
                client.connect(("127.0.0.1", peer.port))
                if peer.tls:
                    client = held.enter_context(ssl._create_unverified_context().wrap_socket(client))
                client.sendall(request.encode())
                if not client.recv(4096).startswith(f"HTTP/1.1 {status}".encode()):
                    return Run(name, peer.name, connections, 0, number, 0, 0, 0, [f"an answer is not {status}"])
            time.sleep(SETTLE)
            figure = (resident(peer.process.pid) - before) / connections
        return Run(name, peer.name, connections, figure, connections, 0, 0, 0, [])


def peak(bench, peer, connections, seconds):
    """Requests a second that the peer serves at most."""
    bench.sessions(peer)
    result = bench.drive(WORKS["get"], peer, connections, seconds)
    return result["requests"] / result["seconds"]


def wrk_command(wrk, others):
    return [wrk, f"-t{2 if len(others) > 3 else 1}", "-s", PEERS / "wrk.lua"]
