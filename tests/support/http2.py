# A client of HTTP/2 by the library h2, which lets a test say what no well-behaved client would.
import json, socket, sys, threading, time
import h2.config, h2.connection, h2.events, h2.exceptions, h2.settings
from hyperframe import frame as frames

PATIENCE = 30
LAX = dict(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8")


class Client:
    def __init__(self, address, window=None):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, **LAX))
        self.state.initiate_connection()
        if window is not None:
            self.state.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.streams = {}
        self.goaway = None
        self.pongs = 0
        self.closed = False
        self.reads = True
        self.heard = b""
        self.flush()

    def flush(self):
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.sendall(self.state.data_to_send())
        except OSError:
            self.closed = True

    def fields(self, path="/", method="GET", more=()):
        return [(":method", method), (":scheme", "http"), (":authority", "shop.test"), (":path", path), *more]

    # Begins a request and gives its stream.
    def send(self, fields, body=None, trailers=None, end=True):
        stream = self.state.get_next_available_stream_id()
        self.streams[stream] = dict(status=None, fields={}, data=b"", interim=[], trailers=None, ended=False, reset=None)
        self.state.send_headers(stream, fields, end_stream=end and body is None and trailers is None)
        if body:
            self.push(stream, body, end and trailers is None)
        if trailers is not None:
            self.state.send_headers(stream, trailers, end_stream=True)
        self.flush()
        return stream

    # Sends a body as the windows let it; false when they stay shut.
    def push(self, stream, body, end=True, patience=PATIENCE):
        self.flush()
        body = memoryview(body)
        while body:
            room = min(self.state.local_flow_control_window(stream), self.state.max_outbound_frame_size, len(body))
            if room == 0:
                if not self.read(patience):
                    return body
                continue
            piece, body = body[:room], body[room:]
            self.state.send_data(stream, bytes(piece), end_stream=end and not body)
            self.flush()
        return b""

    def raw(self, *each):
        self.flush()
        try:
            self.socket.sendall(b"".join(one.serialize() if hasattr(one, "serialize") else one for one in each))
        except OSError:
            self.closed = True

    # Takes what comes; false when nothing does, or nothing more will. Who `watch`es answers nothing.
    def read(self, patience=PATIENCE, watch=False):
        self.socket.settimeout(patience)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self.closed = not data
        self.heard += data
        taken = b""
        while len(self.heard) >= 9:
            frame, length = frames.Frame.parse_frame_header(memoryview(self.heard[:9]))
            if len(self.heard) < 9 + length: break
            if isinstance(frame, frames.GoAwayFrame):
                # Not for h2, which lets no stream end after it.
                frame.parse_body(memoryview(self.heard[9:9 + length]))
                self.goaway = frame.error_code
            else:
                taken += self.heard[:9 + length]
            self.heard = self.heard[9 + length:]
        if not watch:
            for event in self.state.receive_data(taken): self.note(event)
            self.flush()
        return not self.closed

    def note(self, event):
        kind = type(event).__name__
        stream = self.streams.get(getattr(event, "stream_id", None))
        if kind == "PingAckReceived":
            self.pongs += 1
        elif stream is None:
            pass
        elif kind == "ResponseReceived":
            stream["fields"] = dict(event.headers)
            stream["status"] = int(stream["fields"].pop(":status"))
        elif kind == "InformationalResponseReceived":
            stream["interim"].append(int(dict(event.headers)[":status"]))
        elif kind == "DataReceived":
            stream["data"] += event.data
            if self.reads:
                self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif kind == "TrailersReceived":
            stream["trailers"] = dict(event.headers)
        elif kind == "StreamEnded":
            stream["ended"] = True
        elif kind == "StreamReset":
            stream["reset"] = int(event.error_code)

    def over(self, stream):
        return self.streams[stream]["ended"] or self.streams[stream]["reset"] is not None or self.closed

    # Reads until all these streams are over.
    def finish(self, *streams):
        deadline = time.monotonic() + PATIENCE
        while not all(map(self.over, streams)) and time.monotonic() < deadline:
            self.read()
        return [self.streams[stream] for stream in streams]

    def ask(self, *arguments, **more):
        (answer,) = self.finish(self.send(*arguments, **more))
        return answer

    def until_closed(self):
        deadline = time.monotonic() + PATIENCE
        while not self.closed and time.monotonic() < deadline:
            self.read()
        return self.closed


def say(**facts):
    print(json.dumps(facts, default=lambda value: value.decode("latin-1")), flush=True)


# A backend: each request is told to `answer`, which sends what it likes by the state of its connection.
class Server:
    def __init__(self, answer, **settings):
        self.answer, self.settings = answer, settings
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.connections = 0
        self.seen = []
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            with self.lock: self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, **LAX))
        state.initiate_connection()
        if self.settings: state.update_settings(self.settings)
        connection.sendall(state.data_to_send())
        requests = {}
        while data := connection.recv(65536):
            for event in state.receive_data(data):
                kind = type(event).__name__
                if kind == "RequestReceived":
                    requests[event.stream_id] = dict(fields=list(event.headers), data=b"", trailers=None, reset=None)
                    with self.lock: self.seen.append(requests[event.stream_id])
                elif kind == "DataReceived":
                    requests[event.stream_id]["data"] += event.data
                    state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif kind == "TrailersReceived":
                    requests[event.stream_id]["trailers"] = list(event.headers)
                elif kind == "StreamReset" and event.stream_id in requests:
                    requests[event.stream_id]["reset"] = int(event.error_code)
                elif kind == "StreamEnded":
                    if self.answer(state, event.stream_id, requests[event.stream_id]) == "close":
                        connection.sendall(state.data_to_send())
                        return connection.close()
            connection.sendall(state.data_to_send())
