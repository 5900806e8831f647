# Users of a shop over one protocol, which do as they are told and say where each of them came to. In front of this stand
# `http2.py` and `grpc.py`.
import base64, http.client, os
from websockets.sync.client import connect

PROTOCOL, AFFINITY, ADDRESS = sys.argv[1:4]
HOST, PORT = ADDRESS.rsplit(":", 1)


class User:
    def __init__(self, number):
        self.number = number
        self.cookie = None

    # What goes with each visit, beside the source of its connection.
    def fields(self):
        told = dict(cookie=[("cookie", self.cookie or "none=x")], header=[("x-user", "user-%d" % self.number)])
        return told.get(AFFINITY, [("x-forwarded-for", "10.0.0.%d" % self.number)])

    def keep(self, cookies):
        for cookie in cookies: self.cookie = cookie.split(";")[0]

    def http1(self):
        connection = http.client.HTTPConnection(HOST, PORT, timeout=PATIENCE)
        connection.request("GET", "/", headers=dict(self.fields()))
        answer = connection.getresponse()
        self.keep(answer.headers.get_all("set-cookie") or [])
        assert answer.status == 200, answer.status
        return answer.read().decode()

    def http2(self):
        client = Client(ADDRESS)
        answer = client.ask(client.fields(more=self.fields()))
        self.keep(value for name, value in answer["fields"].items() if name == "set-cookie")
        assert answer["status"] == 200, answer
        return answer["data"].decode()

    def websocket(self):
        with connect("ws://%s/name" % ADDRESS, additional_headers=self.fields(), proxy=None) as socket:
            self.keep(socket.response.headers.get_all("set-cookie"))
            return socket.recv(PATIENCE)

    def grpc(self):
        with grpc.insecure_channel(ADDRESS, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            answer, rpc = call(channel, "unary_unary", "Unary").with_call(b"", metadata=self.fields(), timeout=PATIENCE)
            self.keep(value for name, value in rpc.initial_metadata() if name == "set-cookie")
            return answer.decode().split(":")[0]

    # Nothing but the connection says whose it is.
    def tcp(self):
        source = ("127.0.7.%d" % self.number, 0)
        connection = http.client.HTTPConnection(HOST, PORT, timeout=PATIENCE, source_address=source)
        connection.request("GET", "/")
        return connection.getresponse().read().decode()

    def visit(self):
        return getattr(self, PROTOCOL)()


users = {}
with socket.create_server(("127.0.0.1", 0)) as server:
    say(port=server.getsockname()[1])
    commands, _ = server.accept()
with commands.makefile("rw") as lines:
    for line in lines:
        for number in json.loads(line):
            users.setdefault(number, User(number))
        came = {number: users[number].visit() for number in json.loads(line)}
        lines.write(json.dumps(list(came.values())) + "\n")
        lines.flush()
