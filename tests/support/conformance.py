# What RFC 9113 and RFC 7541 demand of a server, section by section: frames as they must not be, and as they may be. Each case
# has a connection of its own, sends its bytes, and says what has to come back. The argument is the address.
import json, socket, struct, sys
from hpack import Encoder

NO_ERROR, PROTOCOL, FLOW, SETTINGS_TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION = 0, 1, 3, 4, 5, 6, 7, 8, 9
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END, ACK, WHOLE, PADDED, DEPENDS = 1, 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE = 5
HOST, PORT = sys.argv[1].rsplit(":", 1)


def frame(kind, stream=0, payload=b"", flags=0, length=None):
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def fields(method="GET", path="/", more=(), without=()):
    all = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "shop.test"), *more]
    return [each for each in all if each[0] not in without]


def block(each):
    return Encoder().encode(each, huffman=False)


# A request on a stream. `ends` is whether it has no body.
def ask(stream=1, ends=True, raw=None, **request):
    return frame(HEADERS, stream, block(fields(**request)) if raw is None else raw, WHOLE | (END if ends else 0))


def settings(*pairs):
    return frame(SETTINGS, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def ping(data=b"pingpong"):
    return frame(PING, 0, data)


class Peer:
    def __init__(self, mine=b"", preface=PREFACE):
        self.socket = socket.create_connection((HOST, int(PORT)), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard, self.gone = b"", False
        self.send(preface + (mine or settings()))

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            self.gone = True

    # The next frame as kind, flags, stream and payload; none when the connection is gone or nothing comes.
    def next(self):
        while len(self.heard) < 9 or len(self.heard) < 9 + int.from_bytes(self.heard[:3], "big"):
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                raise AssertionError("nothing comes")
            except OSError:
                data = b""
            if not data:
                self.gone = True
                return None
            self.heard += data
        length = int.from_bytes(self.heard[:3], "big")
        head, payload, self.heard = self.heard[:9], self.heard[9:9 + length], self.heard[9 + length:]
        return head[3], head[4], int.from_bytes(head[5:9], "big"), payload

    # Waits for a frame for which this holds; what is none of it is passed over.
    def until(self, holds):
        while (found := self.next()) is not None:
            if holds(*found): return found
            if found[0] == GOAWAY: raise AssertionError("goaway %d" % code(found[3]))
        raise AssertionError("the connection ends")

    def acknowledged(self):
        self.until(lambda kind, flags, *_: kind == SETTINGS and flags & ACK)

    def answered(self, stream=1):
        return self.until(lambda kind, _, of, __: kind == HEADERS and of == stream)

    def ended(self, stream=1):
        data = b""
        while True:
            kind, flags, of, payload = self.until(lambda kind, _, of, __: of == stream)
            assert kind != RST, "reset %d" % code(payload)
            if kind == DATA: data += payload
            if kind in (DATA, HEADERS) and flags & END: return data

    # The next data is of so many bytes.
    def sends(self, size):
        *_, payload = self.until(lambda kind, *_: kind == DATA)
        assert len(payload) == size, len(payload)

    # The connection is as it was.
    def lives(self):
        self.send(ping(b"alive?!!"))
        self.until(lambda kind, flags, _, data: kind == PING and flags & ACK and data == b"alive?!!")


def code(payload):
    return struct.unpack(">I", payload[4:8] if len(payload) >= 8 else payload[:4])[0]


# The connection ends, and says why with one of these.
def connection_error(peer, *codes):
    while (found := peer.next()) is not None:
        kind, _, _, payload = found
        if kind == GOAWAY and code(payload) != NO_ERROR:
            assert code(payload) in codes, "goaway %d" % code(payload)
            while peer.next() is not None: pass
            return
    raise AssertionError("it ends without a word")


# A stream or all of the connection ends with one of these.
def stream_error(peer, *codes):
    while (found := peer.next()) is not None:
        kind, _, stream, payload = found
        if kind == RST and code(payload) != NO_ERROR:
            assert code(payload) in codes, "reset %d" % code(payload)
            return peer.lives()
        if kind == GOAWAY and code(payload) != NO_ERROR:
            assert code(payload) in codes, "goaway %d" % code(payload)
            return
    raise AssertionError("it ends without a word")


CASES = []


def case(name):
    def keep(act):
        CASES.append((name, act))
        return act
    return keep


# A case that sends bytes and waits for an error.
def wrong(name, sent, expect, *codes, mine=b"", first=None):
    def act():
        peer = Peer(mine)
        peer.acknowledged()
        if first: first(peer)
        peer.send(sent() if callable(sent) else sent)
        expect(peer, *codes)
    CASES.append((name, act))


# One that sends what is allowed, and goes on.
def right(name, sent, then=lambda peer: peer.lives(), mine=b""):
    def act():
        peer = Peer(mine)
        peer.acknowledged()
        peer.send(sent)
        then(peer)
    CASES.append((name, act))


# RFC 9113 section 3.4
@case("3.4 the server's preface is its first frame")
def _():
    peer = Peer()
    kind, flags, *_ = peer.next()
    assert kind == SETTINGS and not flags & ACK


@case("3.4 a preface that is none")
def _():
    peer = Peer(preface=b"INVALID CONNECTION PREFACE\r\n\r\n")
    while peer.next() is not None: pass


# 4.1
right("4.1 a type that nobody knows", frame(0x16, 0, b"12345678"))
right("4.1 flags that nobody knows", frame(PING, 0, b"12345678", 0x16))
right("4.1 the reserved bit of a stream", frame(PING, 0x80000000, b"12345678"))

# 4.2
right("4.2 data of 16,384 bytes", ask(ends=False, method="POST") + frame(DATA, 1, b"x" * 16384, END), lambda peer: peer.answered())
wrong("4.2 data of 16,385 bytes", ask(ends=False, method="POST") + frame(DATA, 1, b"x" * 16385, END), stream_error, SIZE)
wrong("4.2 a head of 16,385 bytes", frame(HEADERS, 1, b"x" * 16385, WHOLE | END), connection_error, SIZE)
wrong("4.2 settings of 16,386 bytes", frame(SETTINGS, 0, b"\0\x20\0\0\0\0" * 2731), connection_error, SIZE)

# 4.3
wrong("4.3 a block that is none", frame(HEADERS, 1, b"\0\x0a\x00\x00\x00\x00\x0a", WHOLE | END), connection_error, COMPRESSION)
half = lambda: frame(HEADERS, 1, block(fields()), END)
wrong("4.3 a priority within a block", half() + frame(PRIORITY, 1, b"\0\0\0\0\xff"), connection_error, PROTOCOL)
wrong("4.3 another head within a block", half() + ask(3), connection_error, PROTOCOL)

# 5.1
wrong("5.1 idle: data", frame(DATA, 1, b"test", END), connection_error, PROTOCOL, CLOSED)
wrong("5.1 idle: a reset", frame(RST, 1, struct.pack(">I", CANCEL)), connection_error, PROTOCOL)
wrong("5.1 idle: a window", frame(WINDOW, 1, struct.pack(">I", 100)), connection_error, PROTOCOL)
wrong("5.1 idle: a continuation", frame(CONTINUATION, 1, block(fields()), WHOLE), connection_error, PROTOCOL)
wrong("5.1 half closed: data", ask() + frame(DATA, 1, b"test", END), stream_error, CLOSED)
wrong("5.1 half closed: a head", ask() + ask(), stream_error, CLOSED)
wrong("5.1 half closed: a continuation", ask() + frame(CONTINUATION, 1, block(fields()), WHOLE), connection_error, CLOSED, PROTOCOL)
reset = lambda: ask(ends=False, method="POST") + frame(RST, 1, struct.pack(">I", CANCEL))
wrong("5.1 reset: data", reset() + frame(DATA, 1, b"test", END), stream_error, CLOSED)
wrong("5.1 reset: a head", reset() + ask(), stream_error, CLOSED)
wrong("5.1 reset: a continuation", reset() + frame(CONTINUATION, 1, block(fields()), WHOLE), connection_error, CLOSED, PROTOCOL)


def finished(peer):
    peer.send(ask())
    peer.ended()


wrong("5.1 closed: data", frame(DATA, 1, b"test", END), stream_error, CLOSED, first=finished)
wrong("5.1 closed: a head", ask(), connection_error, CLOSED, PROTOCOL, first=finished)
wrong("5.1 closed: a continuation", frame(CONTINUATION, 1, block(fields()), WHOLE), connection_error, CLOSED, PROTOCOL, first=finished)
right("5.1 closed: a window, a reset and a priority", ask() + frame(WINDOW, 1, struct.pack(">I", 100)) + frame(RST, 1, struct.pack(">I", CANCEL)) + frame(PRIORITY, 1, b"\0\0\0\0\x0f"))

# 5.1.1
wrong("5.1.1 a stream that is even", ask(2), connection_error, PROTOCOL)
wrong("5.1.1 a stream below one before it", ask(5) + ask(3), connection_error, PROTOCOL, CLOSED)


# 5.1.2
@case("5.1.2 more streams at once than are allowed")
def _():
    peer = Peer()
    kind, _, _, payload = peer.next()
    limits = dict(struct.unpack(">HI", payload[at:at + 6]) for at in range(0, len(payload), 6))
    peer.acknowledged()
    for at in range(limits[3] + 1): peer.send(ask(2 * at + 1, ends=False, method="POST", path="/wait"))
    stream_error(peer, PROTOCOL, REFUSED)




right("5.3 a priority that depends on another stream", frame(PRIORITY, 3, b"\0\0\0\1\x0f") + ask(), lambda peer: peer.answered())

# 5.4.1
wrong("5.4.1 an error of the connection is told before it ends", frame(PING, 0, b"short"), connection_error, SIZE)

# 5.5
right("5.5 what nobody knows, between a head and its data", ask(ends=False, method="POST") + frame(0x16, 1, b"?") + frame(DATA, 1, b"x", END), lambda peer: peer.answered())
wrong("5.5 what nobody knows, within a block", half() + frame(0x16, 0, b"12345678"), connection_error, PROTOCOL)

# 6.1
wrong("6.1 data of no stream", frame(DATA, 0, b"test"), connection_error, PROTOCOL)
wrong("6.1 data of a stream that is not open", ask() + frame(DATA, 1, b"test"), stream_error, CLOSED)
wrong("6.1 more padding than data", ask(ends=False, method="POST") + frame(DATA, 1, b"\x06test", PADDED | END), connection_error, PROTOCOL)
right("6.1 padding", ask(ends=False, method="POST") + frame(DATA, 1, b"\x02test\0\0", PADDED | END), lambda peer: peer.answered())

# 6.2
wrong("6.2 a head without its end, and a priority", half() + frame(PRIORITY, 1, b"\0\0\0\0\xff"), connection_error, PROTOCOL)
wrong("6.2 a head of no stream", ask(0), connection_error, PROTOCOL)
wrong("6.2 more padding than head", frame(HEADERS, 1, b"\xff" + block(fields()), WHOLE | END | PADDED), connection_error, PROTOCOL)
right("6.2 padding and a priority", frame(HEADERS, 1, b"\x03\0\0\0\0\x0f" + block(fields()) + b"\0\0\0", WHOLE | END | PADDED | DEPENDS), lambda peer: peer.answered())

# 6.3
wrong("6.3 a priority of no stream", frame(PRIORITY, 0, b"\0\0\0\0\xff"), connection_error, PROTOCOL)
wrong("6.3 a priority of another length", frame(PRIORITY, 1, b"\0\0\0\0"), stream_error, SIZE)

# 6.4
wrong("6.4 a reset of no stream", frame(RST, 0, b"\0\0\0\x08"), connection_error, PROTOCOL)
wrong("6.4 a reset of an idle stream", frame(RST, 7, b"\0\0\0\x08"), connection_error, PROTOCOL)
wrong("6.4 a reset of another length", ask(ends=False, method="POST") + frame(RST, 1, b"\0\0\x08"), connection_error, SIZE)

# 6.5
wrong("6.5 an acknowledgement with a payload", frame(SETTINGS, 0, b"\0\x03\0\0\0\x64", ACK), connection_error, SIZE)
wrong("6.5 settings of a stream", frame(SETTINGS, 1, b"\0\x03\0\0\0\x64"), connection_error, PROTOCOL)
wrong("6.5 settings of another length", frame(SETTINGS, 0, b"\0\x03\0"), connection_error, SIZE)
wrong("6.5.2 push is neither on nor off", settings((2, 2)), connection_error, PROTOCOL)
wrong("6.5.2 a window above 2^31-1", settings((4, 1 << 31)), connection_error, FLOW)
wrong("6.5.2 frames below 16,384", settings((5, 16383)), connection_error, PROTOCOL)
wrong("6.5.2 frames above 2^24-1", settings((5, 1 << 24)), connection_error, PROTOCOL)
right("6.5.2 a setting that nobody knows", settings((0xff, 1)))
right("6.5.3 settings are acknowledged", settings((3, 50)), lambda peer: peer.acknowledged())


# Of the same setting twice the last one counts.
right("6.5.3 settings count in their order", ask(path="/files/text"), lambda peer: peer.sends(1), mine=settings((4, 100), (4, 1)))


# 6.7
right("6.7 a ping", ping(), lambda peer: peer.until(lambda kind, flags, _, data: kind == PING and flags & ACK and data == b"pingpong"))


@case("6.7 the answer to a ping has none")
def _():
    peer = Peer()
    peer.acknowledged()
    peer.send(frame(PING, 0, b"unasked!", ACK) + ping(b"expected"))
    _, _, _, data = peer.until(lambda kind, flags, *_: kind == PING and flags & ACK)
    assert data == b"expected", data


wrong("6.7 a ping of a stream", frame(PING, 1, b"12345678"), connection_error, PROTOCOL)
wrong("6.7 a ping of another length", frame(PING, 0, b"123456"), connection_error, SIZE)

# 6.8
wrong("6.8 a goaway of a stream", frame(GOAWAY, 1, b"\0\0\0\0\0\0\0\0"), connection_error, PROTOCOL)

# 6.9
wrong("6.9 a window that grows by nothing", frame(WINDOW, 0, b"\0\0\0\0"), connection_error, PROTOCOL)
wrong("6.9 a stream's window that grows by nothing", ask(ends=False, method="POST") + frame(WINDOW, 1, b"\0\0\0\0"), stream_error, PROTOCOL)
wrong("6.9 a window of another length", frame(WINDOW, 0, b"\0\0\1"), connection_error, SIZE)
wrong("6.9.1 a window above 2^31-1", frame(WINDOW, 0, struct.pack(">I", (1 << 31) - 1)) * 2, connection_error, FLOW)
wrong("6.9.1 a stream's window above 2^31-1", ask(ends=False, method="POST", path="/wait") + frame(WINDOW, 1, struct.pack(">I", (1 << 31) - 1)) * 2, stream_error, FLOW)


right("6.9.1 no more data than the window has room for", ask(path="/files/text"), lambda peer: peer.sends(1), mine=settings((4, 1)))


@case("6.9.2 windows of open streams follow the setting")
def _():
    peer = Peer(settings((4, 0)))
    peer.acknowledged()
    peer.send(ask(path="/files/text"))
    peer.answered()
    peer.send(settings((4, 1)))
    peer.sends(1)


@case("6.9.2 windows may be below zero")
def _():
    peer = Peer(settings((4, 3)))
    peer.acknowledged()
    peer.send(ask(path="/files/text"))
    peer.sends(3)
    peer.send(settings((4, 2)))
    peer.acknowledged()
    # It is at -1, and then at 1.
    peer.send(frame(WINDOW, 1, struct.pack(">I", 2)))
    peer.sends(1)


wrong("6.9.2 the setting takes a window above 2^31-1", settings((4, (1 << 31))), connection_error, FLOW)

# 6.10
pieces = block(fields())
right("6.10 a block in many pieces", frame(HEADERS, 1, pieces[:4], END) + frame(CONTINUATION, 1, pieces[4:9]) + frame(CONTINUATION, 1, pieces[9:], WHOLE), lambda peer: peer.answered())
wrong("6.10 another frame between pieces", half() + frame(CONTINUATION, 1, b"") + frame(DATA, 1, b"test", END), connection_error, PROTOCOL)
wrong("6.10 a piece of no stream", half() + frame(CONTINUATION, 0, b"", WHOLE), connection_error, PROTOCOL)
wrong("6.10 a piece behind a whole head", ask(ends=False, method="POST") + frame(CONTINUATION, 1, pieces, WHOLE), connection_error, PROTOCOL)
wrong("6.10 a piece behind the last one", frame(HEADERS, 1, pieces[:4]) + frame(CONTINUATION, 1, pieces[4:], WHOLE) + frame(CONTINUATION, 1, pieces, WHOLE), connection_error, PROTOCOL)
wrong("6.10 a piece behind data", ask(ends=False, method="POST") + frame(DATA, 1, b"test") + frame(CONTINUATION, 1, pieces, WHOLE), connection_error, PROTOCOL)

# 7
right("7 a goaway with a code that nobody knows", frame(GOAWAY, 0, struct.pack(">II", 0, 0xff)), lambda peer: Peer().lives())
right("7 a reset with a code that nobody knows", ask(ends=False, method="POST") + frame(RST, 1, struct.pack(">I", 0xff)))

# 8.1
wrong("8.1 a second head that does not end the stream", ask(ends=False, method="POST", path="/wait") + frame(HEADERS, 1, block([("x", "y")]), WHOLE), stream_error, PROTOCOL)
right("8.1 trailers", ask(ends=False, method="POST") + frame(DATA, 1, b"test") + frame(HEADERS, 1, block([("x", "y")]), WHOLE | END), lambda peer: peer.answered())
for name in ["X-Test", "x test", "x\ttest", "\x7fx"]:
    wrong("8.2.1 the name %r" % name, ask(more=[(name, "ok")]), stream_error, PROTOCOL)
for value in ["a\nb", "a\rb", "a\0b", " a", "a "]:
    wrong("8.2.1 the value %r" % value, ask(more=[("x-test", value)]), stream_error, PROTOCOL)
for name, value in [("connection", "keep-alive"), ("keep-alive", "5"), ("proxy-connection", "x"), ("transfer-encoding", "chunked"), ("upgrade", "x"), ("te", "trailers, deflate")]:
    wrong("8.2.2 the field %s" % name, ask(more=[(name, value)]), stream_error, PROTOCOL)
right("8.2.2 te of trailers", ask(more=[("te", "trailers")]), lambda peer: peer.answered())

# 8.3
wrong("8.3 a pseudo-field that nobody knows", ask(more=[(":test", "ok")]), stream_error, PROTOCOL)
wrong("8.3 a pseudo-field of responses", ask(more=[(":status", "200")]), stream_error, PROTOCOL)
wrong("8.3 a pseudo-field among trailers", ask(ends=False, method="POST", path="/wait") + frame(HEADERS, 1, block([(":method", "POST")]), WHOLE | END), stream_error, PROTOCOL)
wrong("8.3 a pseudo-field behind a field", ask(raw=block([("x", "y"), *fields()])), stream_error, PROTOCOL)
wrong("8.3.1 an empty path", ask(path=""), stream_error, PROTOCOL)
for name in [":method", ":scheme", ":path"]:
    wrong("8.3.1 no %s" % name, ask(without=[name]), stream_error, PROTOCOL)
    wrong("8.3.1 %s twice" % name, ask(raw=block([each for each in fields() for _ in range(1 + (each[0] == name))])), stream_error, PROTOCOL)
wrong("8.3.1 another host than authority", ask(more=[("host", "other.test")]), stream_error, PROTOCOL)
wrong("8.1.1 more data than was said", ask(ends=False, method="POST", path="/wait", more=[("content-length", "1")]) + frame(DATA, 1, b"test", END), stream_error, PROTOCOL)
wrong("8.1.1 more data than was said, in pieces", ask(ends=False, method="POST", path="/wait", more=[("content-length", "1")]) + frame(DATA, 1, b"te") + frame(DATA, 1, b"st", END), stream_error, PROTOCOL)
wrong("8.1.1 less data than was said", ask(ends=False, method="POST", path="/wait", more=[("content-length", "9")]) + frame(DATA, 1, b"test", END), stream_error, PROTOCOL)
wrong("8.4 a client that pushes", frame(PUSH, 1, b"\0\0\0\2" + block(fields()), WHOLE), connection_error, PROTOCOL)
for method in ["GET", "POST", "PUT", "OPTIONS"]:
    right("8 %s without a body" % method, ask(method=method), lambda peer: peer.answered())
right("8 HEAD has no body", ask(method="HEAD", path="/files/text"), lambda peer: peer.ended() == b"" or 1 / 0)
right("8 a body with padding, and trailers", ask(ends=False, method="POST") + frame(DATA, 1, b"\0test", PADDED) + frame(HEADERS, 1, block([("x", "y")]), WHOLE | END), lambda peer: peer.ended())

# RFC 7541
wrong("7541 2.3.3 an index that is nowhere", ask(raw=b"\xc6" + block(fields())), connection_error, COMPRESSION)
wrong("7541 2.3.3 a name by an index that is nowhere", ask(raw=block(fields()) + b"\x7f\x09\x01x"), connection_error, COMPRESSION)
wrong("7541 4.2 a size of the table at the end of a block", ask(raw=block(fields()) + b"\x21"), connection_error, COMPRESSION)
wrong("7541 5.2 padding of more than 7 bits", ask(raw=block(fields()) + b"\0\x85\xf2\xb2\x4a\x84\xff\x85\xf2\xb2\x4a\x84\xff\xff"), connection_error, COMPRESSION)
wrong("7541 5.2 padding with zeros", ask(raw=block(fields()) + b"\0\x85\xf2\xb2\x4a\x87\xff\xff\xff\xff\x84\x49\x50\x9f\x00"), connection_error, COMPRESSION)
wrong("7541 5.2 the end of a string within it", ask(raw=block(fields()) + b"\0\x85\xf2\xb2\x4a\x84\xff\x84\xff\xff\xff\xff"), connection_error, COMPRESSION)
wrong("7541 6.1 the index 0", ask(raw=block(fields()) + b"\x80"), connection_error, COMPRESSION)
wrong("7541 6.3 a table larger than was said", ask(raw=b"\x3f\xe2\x1f" + block(fields())), connection_error, COMPRESSION)
right("7541 2.3 all the ways to write a field", ask(raw=b"\x82\x86\x84\x41\x08shop.tes\x40\x01a\x01b\0\x01c\x01d\x10\x01e\x01f"), lambda peer: peer.answered())
right("7541 4.2 a smaller table at the beginning", ask(raw=b"\x20" + block(fields())), lambda peer: peer.answered())

failed = {}
for name, act in CASES:
    try:
        act()
    except AssertionError as error:
        failed[name] = str(error) or "not so"
print(json.dumps(dict(cases=len(CASES), failed=failed)))
