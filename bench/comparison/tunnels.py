"""Both ends of WebSockets, or of plain TCP that carries the same bytes: clients, and a backend of our own."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from .machine import Failure

SMALL = b"\x81\x85abcdxxxxx"
LARGE = b"\x82\x7f" + (1 << 20).to_bytes(8, "big") + bytes(1 << 20)
# The answer to the key below (RFC 6455 section 1.3), without which HAProxy takes no 101.
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
HANDSHAKE = "GET {} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TIMEOUT = 10


class Far:
    """A backend: to `/bulk/N` it sends large messages for N seconds, all else it sends back as it comes. To a request that
    wants no upgrade it says 200."""

    def __init__(self, stack):
        self.listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        self.addresses = {"a": "{}:{}".format(*self.listening.getsockname())}
        self.accepted = self.open = self.seen = 0
        self.changed = threading.Condition()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        # What is left of it when the script ends ends with it.
        with contextlib.suppress(OSError):
            while True:
                stream = self.listening.accept()[0]
                with self.changed:
                    self.accepted += 1
                    self.open += 1
                threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        messages = 0
        with contextlib.suppress(OSError), stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wanted = head(stream)
            if b"\r\nupgrade: websocket\r\n" not in wanted.lower():
                stream.sendall(OK)
            else:
                stream.sendall(SWITCHED)
                path = wanted.split(b" ")[1]
                messages = send_bulk(stream, int(path[6:])) if path.startswith(b"/bulk/") else send_back(stream)
        with self.changed:
            self.open -= 1
            self.seen += messages
            self.changed.notify_all()

    def counts(self):
        """Connections accepted, and messages sent, once all connections have ended."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.open == 0, TIMEOUT):
                raise Failure(f"{self.open} connections to the backend are still open {TIMEOUT} s after their clients closed theirs")
            return self.accepted, self.seen


def head(stream):
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        piece = stream.recv(1)
        if not piece:
            raise ConnectionError(f"the connection ended after {text!r}")
        text += piece
    return text


def send_bulk(stream, seconds):
    """How many messages it was."""
    messages, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        stream.sendall(LARGE)
        messages += 1
    stream.shutdown(socket.SHUT_WR)
    while stream.recv(65536):
        pass
    return messages


def send_back(stream):
    count = 0
    while piece := stream.recv(65536):
        stream.sendall(piece)
        count += len(piece)
    return count // len(SMALL)


def open_tunnel(port, path):
    stream = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(HANDSHAKE.format(path).encode())
    answer = head(stream)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise Failure(f"port {port} answers a WebSocket's handshake with {answer}")
    return stream


def exchange(stream, seconds):
    """Small messages there and back, one after the other: how many."""
    messages, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        stream.sendall(SMALL)
        answer = stream.recv(100)
        if answer != SMALL:
            raise ConnectionError(f"{answer!r} came back rather than {SMALL!r}")
        messages += 1
    return messages


def take_bulk(stream, _):
    """How many large messages came."""
    buffer, got = bytearray(1 << 20), 0
    while count := stream.recv_into(buffer):
        got += count
    if got % len(LARGE):
        raise ConnectionError("the last message came in part")
    return got // len(LARGE)


def carry(port, bulk, tunnels, seconds):
    """Messages through so many tunnels at once, for so long: what they came to, as the other clients tell it."""
    path, client = (f"/bulk/{seconds}", take_bulk) if bulk else ("/", exchange)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(tunnels) as threads:
        opened = [stack.enter_context(open_tunnel(port, path)) for _ in range(tunnels)]
        began = time.monotonic()
        running = [threads.submit(client, stream, seconds) for stream in opened]
        messages = broken = 0
        for each in running:
            try:
                messages += each.result()
            except OSError:
                broken += 1
    return {"requests": messages, "seconds": time.monotonic() - began, "socket": broken}
