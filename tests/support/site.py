"""A site's backend by Python's `http.server`: a page that tries all that a browser can, what it asks for, and where it tells."""

import http.server
import sys

NAME = sys.argv[1]

PAGE = b"""<!doctype html><title>a shop</title><script>
const texts = (path, count) => Promise.all(Array.from({length: count}, () => fetch(path).then(got => got.text())));
const events = () => new Promise(done => {
    const source = new EventSource('/events'), got = [];
    source.onmessage = event => { got.push(event.data); if (got.length === 3) { source.close(); done(got); } };
});
const chat = () => new Promise((done, failed) => {
    const socket = new WebSocket(`wss://${location.host}/name`), got = [];
    socket.onopen = () => socket.send('hello');
    socket.onmessage = event => { got.push(event.data); if (got.length === 2) socket.close(4000, 'enough'); };
    socket.onclose = event => done([...got, event.code]);
});
(async () => {
    const told = {};
    try {
        // The first visit begins the session.
        await fetch('/name-of-backend');
        told.texts = await texts('/name-of-backend', 30);
        told.events = await events();
        told.chats = [];
        for (let count = 0; count < 5; count++) told.chats.push(await chat());
        const large = new Uint8Array(3000000).fill(120);
        told.large = await fetch('/length', {method: 'POST', body: large}).then(got => got.text());
        told.protocols = [...new Set(performance.getEntriesByType('resource').map(entry => entry.nextHopProtocol))];
    } catch (error) { told.error = String(error); }
    await fetch('/told', {method: 'POST', body: JSON.stringify(told)});
})();
</script>"""


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/":
            self.answer("text/html", PAGE)
        elif self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for count in range(3):
                self.wfile.write(f"data: {count} of {NAME}\n\n".encode())
            # It stays open until the browser has had enough.
            self.rfile.read(1)
        else:
            self.answer("text/plain", NAME.encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/told":
            print(body.decode(), flush=True)
        self.answer("text/plain", str(len(body)).encode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
