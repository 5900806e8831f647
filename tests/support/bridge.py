# Lets a client of WebSockets over HTTP/1.1 speak with one that takes them over HTTP/2 (RFC 8441), by the library h2.
import base64, hashlib, select, struct


def bridge(near, address):
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b""
    while b"\r\n\r\n" not in head:
        piece = near.recv(65536)
        if not piece: return near.close()
        head += piece
    head, early = head.split(b"\r\n\r\n", 1)
    line, *lines = head.decode().split("\r\n")
    told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    client = Client(address)
    while client.state.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) != 1: client.read()
    pseudo = dict(zip((":protocol", ":scheme", ":authority", ":path"), ("websocket", "http", told["host"], line.split(" ")[1])))
    rest = [field for field in told.items() if field[0] not in ("host", "connection", "upgrade", "sec-websocket-key")]
    stream = client.send([(":method", "CONNECT"), *pseudo.items(), *rest], end=False)
    state = client.streams[stream]
    while state["status"] is None and not client.over(stream): client.read()
    if state["status"] != 200:
        near.sendall(f"HTTP/1.1 {state['status'] or 599} No\r\ncontent-length: 0\r\n\r\n".encode())
        return near.close()
    accept = base64.b64encode(hashlib.sha1((told["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
    fields = {**state["fields"], "connection": "upgrade", "upgrade": "websocket", "sec-websocket-accept": accept.decode()}
    near.sendall("".join(["HTTP/1.1 101 So\r\n", *(f"{name}: {value}\r\n" for name, value in fields.items()), "\r\n"]).encode())
    if early: client.push(stream, early, end=False)
    ended = told_end = False
    while True:
        if state["data"]:
            data, state["data"] = state["data"], b""
            near.sendall(data)
        if state["reset"] is not None or client.closed:
            # What is no end must not look like one.
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return near.close()
        if state["ended"] and not told_end:
            told_end = True
            near.shutdown(socket.SHUT_WR)
        if told_end and ended: return near.close()
        ready, _, _ = select.select([client.socket] if ended else [client.socket, near], [], [])
        if client.socket in ready: client.read()
        elif near in ready:
            try: piece = near.recv(1 << 20)
            except OSError: piece = b""
            if piece: client.push(stream, piece, end=False)
            else:
                ended = True
                client.state.end_stream(stream)
                client.flush()


def passes(*arguments):
    try: bridge(*arguments)
    except OSError: arguments[0].close()


listening = socket.create_server(("127.0.0.1", 0), backlog=256)
say(port=listening.getsockname()[1])
while True: threading.Thread(target=passes, args=(listening.accept()[0], sys.argv[1]), daemon=True).start()
