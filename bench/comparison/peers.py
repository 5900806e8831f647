"""The proxies that are compared, each with its configuration and its processes, and the backends behind them."""

import contextlib
import getpass
import http.client
import os
import resource
import shlex
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from .machine import NEWEST, TARGET, Failure, cpu_times, find, free_ports, newest, version

BENCH = Path(__file__).resolve().parent.parent
PEERS = BENCH / "peers"
BACKENDS = ("a", "b", "c")
SESSIONS = 30
REQUESTS_PER_SESSION = 20
START_TIMEOUT = 30
STOP_TIMEOUT = 10
ENVOY_TLS = """transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}
                tls_certificates: [{certificate_chain: {filename: {chain}}, private_key: {filename: {chain}.key}}]"""
# From this version on nginx has an affinity cookie of its own.
NGINX_STICKY = [1, 30]
# Files that backends serve, by path.
FILES = {"1k": 1 << 10, "64k": 64 << 10, "1m": 1 << 20}


def start(stack, name, command, values, cpus, folder):
    """Starts the command on these CPUs and waits until it answers; the stack ends it, whatever happens."""
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
    stack.callback(stop, process)
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if get(values["port"], tls=bool(values.get("tls"))).status == 200:
                return process
        time.sleep(0.05)
    log = (folder / "log").read_text(errors="replace")
    raise Failure(f"{name} doesn't answer on port {values['port']}; it said:\n{log[-2000:]}")


def stop(process):
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        for pid in cpu_times(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def filled(text, values):
    """`{key}` in it stands for the value."""
    for key, value in values.items():
        text = text.replace("{%s}" % key, str(value))
    return text


def configured(config, values, folder):
    """The peer's configuration in its folder."""
    machine = {"folder": folder, "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "user": getpass.getuser()}
    file = folder / Path(config).name
    file.write_text(filled((PEERS / config).read_text(), values | machine))
    return file


def nginx_stream(nginx):
    """With what this nginx passes plain TCP on: a line of configuration, empty where that is built in; None if it can't."""
    built = subprocess.run([nginx, "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stderr.split()
    modules = [argument.partition("=")[2] for argument in built if argument.startswith("--modules-path=")]
    # One that bench/get-peers has got has its modules beside it.
    top = NEWEST.parent / "sid" if Path(nginx).parent == NEWEST else Path("/")
    module = top.joinpath(*(path.strip("/") for path in modules), "ngx_stream_module.so")
    return "" if "--with-stream" in built else f"load_module {module};" if module.is_file() else None


@dataclass
class Answer:
    status: int
    cookie: str  # as it is to be sent back, "name=value"; empty where none is set
    body: str


class AdminConnection(http.client.HTTPConnection):
    """To Steadfast's REST."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def connect(port, tls=False):
    if tls:
        context = ssl._create_unverified_context()
        return contextlib.closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context))
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5))


def ask(connection, path, cookie=None):
    connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
    response = connection.getresponse()
    return Answer(response.status, response.getheader("Set-Cookie", "").split(";")[0], response.read().decode())


def get(port, path="/", tls=False):
    with connect(port, tls) as connection:
        return ask(connection, path)


def make_certificate(top, kind):
    """A file with a certificate, and one with its key; HAProxy looks for the key behind the other's name."""
    chain = top / f"{kind}.pem"
    if not chain.exists():
        parameters = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if kind == "ec" else ["rsa:2048"]
        subprocess.run(["openssl", "req", "-x509", "-newkey", *parameters, "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-keyout", f"{chain}.key", "-out", chain],
                       check=True, capture_output=True)
    return chain


def is_sticky(nginx):
    """Whether an nginx of this version has an affinity cookie of its own."""
    return [int(part) for part in nginx.split(".")[:2] if part.isdigit()] >= NGINX_STICKY


@dataclass
class Backends:
    """One nginx at as many addresses as there are names, and at one port of every other address of loopback."""

    port: int
    more: int
    addresses: dict
    asked: int = 0  # for counts

    @classmethod
    def start(cls, stack, cpus, top):
        folder = top / "backends"
        (folder / "files").mkdir(parents=True)
        for name, size in FILES.items():
            (folder / "files" / name).write_bytes(b"x" * size)
        *ports, more = free_ports(len(BACKENDS) + 1)
        addresses = {name: f"127.0.0.1:{port}" for name, port in zip(BACKENDS, ports)}
        values = addresses | {"port": ports[0], "more": more, "workers": max(1, len(cpus) // 2)}
        command = [find("nginx"), "-e", "stderr", "-c", configured("backends.conf", values, folder)]
        start(stack, "backends", command, values, cpus, folder)
        return cls(ports[0], more, addresses)

    def counts(self):
        """Connections and requests that all have accepted, without those of these calls."""
        self.asked += 1
        accepted, _, requests = map(int, get(self.port, "/counts").body.splitlines()[2].split())
        return accepted - self.asked, requests - self.asked


@dataclass
class Peer:
    name: str
    version: str
    port: int
    process: subprocess.Popen
    tls: bool
    sticky: bool = True
    spread: int = len(BACKENDS)  # different bodies, at least
    admin: Path = None  # the socket of Steadfast's REST

    def new_sessions(self):
        """First answers, each with a cookie, and a body that shows the backend behind it."""
        try:
            answers = [get(self.port, tls=self.tls) for _ in range(SESSIONS)]
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{self.name} doesn't answer: {error}") from None
        for answer in answers:
            if answer.status != 200 or not answer.cookie:
                raise Failure(f"{self.name} gives a new session this: {answer}")
        return answers

    def check(self):
        """Equal features or no comparison: sessions are spread and stay, and backends are told the client's address."""
        sessions = self.new_sessions()
        if len({first.body for first in sessions}) < self.spread:
            raise Failure(f"{self.name} doesn't spread {SESSIONS} sessions over the backends")
        for first in sessions:
            with connect(self.port, self.tls) as connection:
                for _ in range(REQUESTS_PER_SESSION):
                    answer = ask(connection, "/", first.cookie)
                    # nginx sends the same cookie again with each answer.
                    if answer not in (Answer(200, "", first.body), Answer(200, first.cookie, first.body)):
                        raise Failure(f"{self.name} isn't sticky: {first} and then {answer}")
        self.check_shared(sessions)
        told = get(self.port, "/forwarded-for", self.tls).body
        if told != "127.0.0.1":
            raise Failure(f"{self.name} tells backends {told!r} as the client's address")

    def check_shared(self, sessions):
        """Clients of the works go round the sessions on each of their connections, as a proxy in front may."""
        with connect(self.port, self.tls) as connection:
            for first in sessions:
                answer = ask(connection, "/", first.cookie)
                if answer.body != first.body:
                    raise Failure(f"{self.name} isn't sticky where sessions share a connection: {first} and then {answer}")


@dataclass(frozen=True)
class Kind:
    """How a peer is had, started and told what to do. In all that it is told `{key}` stands for a value."""

    command: list
    mend: str  # how it is had where it is missing; what bench/get-peers gets takes the place of the system's
    config: str = ""  # its file, which ends the command; without one there are arguments
    arguments: str = "--listen 127.0.0.1:{port} {tls}"
    backend: str = "--backend {address}"  # one more argument for each
    tls: str = ""  # what `{tls}` is where clients speak TLS
    version: str = "--version"  # the argument that has it tell its version; empty where there is none

    def told(self, tunnel, values, backends, folder):
        """What follows the command."""
        if self.config:
            return [configured(Path(tunnel, self.config), values, folder)]
        each = [filled(self.backend, {"name": name, "address": address}) for name, address in backends.items()]
        return shlex.split(filled(" ".join([self.arguments, *each]), values))


def kinds(steadfast_command, before):
    """All that are known, by name."""
    release = TARGET / "release"
    own = Kind([release / "steadfast", "run", "--config"], "cargo build --release", "steadfast.toml",
               tls='tls.certificate = [{chain = "{chain}", key = "{chain}.key"}]')
    return {
        "steadfast": replace(own, command=shlex.split(steadfast_command)) if steadfast_command else own,
        "before": replace(own, command=shlex.split(before or ""), mend="build it, or name another in --before"),
        "haproxy": Kind([newest("haproxy"), "-db", "-f"], "bench/get-peers, or apt install haproxy", "haproxy.cfg",
                        tls=" ssl crt {chain} alpn h2,http/1.1", version="-v"),
        "nginx": Kind([newest("nginx"), "-e", "stderr", "-c"], "apt install nginx", "nginx.conf", version="-v",
                      tls=" ssl http2; ssl_certificate {chain}; ssl_certificate_key {chain}.key; ssl_protocols TLSv1.2 TLSv1.3"),
        # By itself it would have a worker for each CPU, and share memory with its successor.
        "envoy": Kind([newest("envoy"), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"],
                      "bench/get-peers", "envoy.yaml", tls=ENVOY_TLS),
        "pingora": Kind([newest("pingora")], "bench/get-peers", backend="--backend {name}={address}",
                        tls="--certificate {chain} --key {chain}.key"),
        "relay": Kind([release / "examples" / "relay"], "cargo build --release -p bench --example relay", version=""),
    }


class Proxies:
    """Starts peers. One that is missing is left out, with a line that says how to get it."""

    # What differs in a build of Steadfast, by what its name ends with then.
    VARIANTS = {
        "with 10 backends": {"backends": 10},
        "with 10,000 backends": {"backends": 10_000},
        "with 2 workers": {"workers": 2},
        "with 1,000 backends": {"backends": 1_000, "source": "api"},
        "with 1,000 backends at rest": {"backends": 1_000, "source": "api"},
    }

    def __init__(self, steadfast_command, before, cpus, top):
        self.cpus, self.top, self.started = cpus, top, 0
        # HAProxy keeps two descriptors for each, and does not start where there are fewer.
        self.most = min(30_000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)
        self.kinds = kinds(steadfast_command, before)
        wanted = ((self.kinds["steadfast"].command[0], "cargo build --release"), ("nginx", "apt install nginx"), ("wrk", "apt install wrk"))
        missing = [f"{program} is missing; to get it: {mend}" for program, mend in wanted if not find(program)]
        if missing:
            raise Failure("\n".join(missing))

    def start(self, stack, name, backends, chain, tunnel=""):
        """The peer, checked; `chain` is the certificate's file where clients speak TLS, `tunnel` the folder of configurations
        for tunnels. None where it is missing."""
        base, _, varied = name.partition(" ")
        kind = self.kinds[base]
        program = kind.command[0]
        if not program or not find(program):
            print(f"{name} is missing and left out; to get it: {kind.mend}", flush=True)
            return None
        stream = nginx_stream(program) if (tunnel, base) == ("tcp", "nginx") else ""
        if stream is None:
            print("nginx is left out, for it can't pass TCP on; to get that: bench/get-peers, or apt install libnginx-mod-stream", flush=True)
            return None
        said = version(program, kind.version) if kind.version else "floor"
        if base == "nginx" and not tunnel and is_sticky(said):
            kind = replace(kind, config="nginx-sticky.conf")
        self.started += 1
        folder = self.top / f"{self.started}-{base}"
        folder.mkdir()
        (port,) = free_ports(1)
        ports = {f"port_{key}": address.rpartition(":")[2] for key, address in backends.addresses.items()}
        tls = filled(kind.tls, {"chain": chain}) if chain else ""
        values = {"port": port, "tls": tls, "maxconn": self.most, "nginx_stream": stream}
        values |= backends.addresses | ports | self.variant(varied, backends)
        command = [*kind.command, *kind.told(tunnel, values, backends.addresses, folder)]
        process = start(stack, name, command, values, self.cpus, folder)
        spread = 1 if varied else len(BACKENDS)
        peer = Peer(name, said, port, process, bool(chain), base != "relay" and not tunnel, spread, folder / "admin.sock")
        if peer.sticky:
            peer.check()
        return peer

    def variant(self, varied, backends):
        """Values of steadfast's configuration."""
        differs = {"backends": len(BACKENDS), "workers": 1, "source": "file"} | self.VARIANTS.get(varied, {})
        more = [
            f'[[pool.backend]]\nname = "more-{i}"\naddress = "127.1.{i // 250}.{i % 250 + 1}:{backends.more}"'
            for i in range(differs["backends"] - len(BACKENDS))
        ]
        return {"workers": differs["workers"], "source": differs["source"], "more": "\n".join(more)}
