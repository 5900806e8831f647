# How readers that others wrote and many run understand bytes: h11, llhttp (by httptools) and gunicorn those of requests; h11,
# llhttp and http.client those of responses. The argument is a file with what is to be read, as JSON with bytes in hexadecimal;
# what each reader makes of it is written as JSON, in strings of which each character is a byte.
import http.client, io, json, sys
import h11, httptools
from gunicorn.config import Config
from gunicorn.http.errors import ChunkMissingTerminator, NoMoreData
from gunicorn.http.parser import RequestParser


def text(data):
    return bytes(data).decode("latin-1")


def request(method, target, fields, body):
    fields = [[text(name).lower(), text(value)] for name, value in fields]
    host = [value for name, value in fields if name == "host"]
    return dict(method=text(method), target=text(target), host=",".join(host), fields=fields, body=text(body))


# Each returns the requests that are whole, and what became of the rest: "" where there is none.
def h11_requests(data):
    found = []
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        connection.receive_data(data)
        head, body = None, b""
        while True:
            try:
                event = connection.next_event()
            except h11.RemoteProtocolError as error:
                return found, "refused: %s" % error
            if event is h11.NEED_DATA:
                return found, "incomplete"
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                fields = list(head.headers.raw_items()) + [(b"trailer:" + name, value) for name, value in event.headers.raw_items()]
                found.append(request(head.method, head.target, fields, body))
                break
            else:
                return found, "refused: %r" % event
        data = connection.trailing_data[0]
    return found, ""


class Calls:
    def __init__(self):
        self.done, self.begun = [], False

    def on_message_begin(self):
        self.begun, self.target, self.fields, self.pieces, self.reason, self.head = True, b"", [], b"", b"", None

    def on_url(self, url):
        self.target += url

    def on_status(self, reason):
        self.reason += reason

    def on_header(self, name, value):
        self.fields.append((name if self.head is None else b"trailer:" + name, value))

    def on_headers_complete(self):
        self.head = self.method() if self.method else None

    def on_body(self, body):
        self.pieces += body

    def on_message_complete(self):
        self.begun = False
        self.complete()


def llhttp_requests(data):
    found = []
    while data:
        calls = Calls()
        parser = httptools.HttpRequestParser(calls)
        calls.method = parser.get_method
        calls.complete = lambda: found.append(request(calls.head, calls.target, calls.fields, calls.pieces))
        try:
            parser.feed_data(data)
            return found, "incomplete" if calls.begun else ""
        except httptools.HttpParserUpgrade as upgrade:
            # Another protocol is offered; what follows is another message unless the backend agrees.
            data = data[upgrade.args[0]:]
        except httptools.HttpParserError as error:
            return found, "refused: %s" % error
    return found, ""


SETTINGS = Config()
# Methods are as long and of as many kinds as anybody wants them.
SETTINGS.set("permit_unconventional_http_method", True)


def gunicorn_requests(data):
    found, parser = [], RequestParser(SETTINGS, iter([data]), ("127.0.0.1", 1))
    while True:
        try:
            each = next(parser)
            body = each.body.read()
            fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in each.headers]
            # It takes a body that breaks off for a whole one.
            if len(body) < int(dict(each.headers).get("CONTENT-LENGTH", 0)):
                return found, "incomplete"
            found.append(request(each.method.encode(), each.uri.encode("latin-1"), fields, body))
        except (StopIteration, NoMoreData) as end:
            return found, "incomplete" if isinstance(end, NoMoreData) and end.buf else ""
        except ChunkMissingTerminator as error:
            return found, "refused: %s" % error if error.term else "incomplete"
        except Exception as error:
            return found, "refused: %s %s" % (type(error).__name__, error)


# Each returns the interim statuses, the final one, the body, whether it is whole, and what is left behind it.
def h11_response(method, data):
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    is_over, interim, status, fields, body = False, [], 0, [], b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            return dict(interim=interim, status=status, body=text(body), whole=False, why=str(error), left="", fields=fields)
        if event is h11.NEED_DATA:
            if is_over:
                return dict(interim=interim, status=status, body=text(body), whole=False, left="", fields=fields)
            connection.receive_data(b"")
            is_over = True
        elif isinstance(event, h11.InformationalResponse):
            interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            status, fields = event.status_code, [[text(name), text(value)] for name, value in event.headers]
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            left = connection.trailing_data[0]
            return dict(interim=interim, status=status, body=text(body), whole=True, left=text(left), fields=fields)
        else:
            return dict(interim=interim, status=status, body=text(body), whole=False, why=repr(event), left="", fields=fields)


# A connection with these bytes, which stays open when a response has been read.
class Bytes(io.BytesIO):
    def makefile(self, *_):
        return self

    def close(self):
        pass


# It tells of no interim responses, and reads over them; of early hints it knows nothing.
def client_response(method, data):
    channel = Bytes(data)
    while True:
        response = http.client.HTTPResponse(channel, method=method)
        try:
            response.begin()
        except http.client.HTTPException as error:
            return dict(status=0, body="", whole=False, why=repr(error), left="")
        if not 100 <= response.status < 200:
            break
    try:
        body, whole = response.read(), True
    except http.client.IncompleteRead as error:
        body, whole = error.partial, False
    return dict(status=response.status, body=text(body), whole=whole, left=text(channel.read()))


# It is not told what was asked for, and so is not asked about answers to HEAD.
def llhttp_response(_, data):
    calls, interim, final = Calls(), [], []
    parser = httptools.HttpResponseParser(calls)
    calls.method = None
    calls.complete = lambda: (interim if parser.get_status_code() < 200 else final).append((parser.get_status_code(), calls.pieces))
    why, taken = "", len(data)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError as error:
        why = str(error)
    if final:
        status, body = final[0]
        left = "another response" if len(final) > 1 or calls.begun else why
        return dict(interim=[status for status, _ in interim], status=status, body=text(body), whole=True, left=left)
    framed = {name.lower() for name, _ in calls.fields} & {b"content-length", b"transfer-encoding"} if calls.begun else ()
    status = parser.get_status_code() if calls.begun else 0
    return dict(interim=[status for status, _ in interim], status=status, body=text(calls.pieces if calls.begun else b""), whole=not framed and not why, why=why, left="")


def main():
    with open(sys.argv[1]) as file:
        given = json.load(file)
    told = dict(requests=[], responses=[])
    for data in given["requests"]:
        data = bytes.fromhex(data)
        readers = dict(h11=h11_requests, llhttp=llhttp_requests, gunicorn=gunicorn_requests)
        told["requests"].append({name: dict(zip(("requests", "rest"), read(data))) for name, read in readers.items()})
    for each in given["responses"]:
        data = bytes.fromhex(each["bytes"])
        readers = {"h11": h11_response, "http.client": client_response}
        if each["method"] != "HEAD":
            readers["llhttp"] = llhttp_response
        told["responses"].append({name: read(each["method"], data) for name, read in readers.items()})
    json.dump(told, sys.stdout)


main()
