"""A server of WebSockets over HTTP/2 (RFC 8441), by Hypercorn: it echoes, at `/name` says its name first, at `/close` closes, and
at `/no` refuses. Arguments: its name, and its Unix socket."""

import asyncio
import json
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

NAME, SOCKET = sys.argv[1:]


def tell(**what):
    print(json.dumps(what), flush=True)


async def app(scope, receive, send):
    if scope["type"] == "http":
        while (await receive()).get("more_body"): pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{NAME} over {scope['http_version']}".encode()})
    elif scope["type"] == "websocket":
        await receive()
        tell(opened=scope["path"], version=scope["http_version"], cookie=dict(scope["headers"]).get(b"cookie", b"").decode())
        if scope["path"] == "/no":
            return await send({"type": "websocket.close"})
        chosen = "v1.chat" if "v1.chat" in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": chosen})
        if scope["path"] == "/name":
            await send({"type": "websocket.send", "text": NAME})
        if scope["path"] == "/close":
            await send({"type": "websocket.close", "code": 4001, "reason": "so it is"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
        tell(closed=event["code"])


config = Config()
config.bind = ["unix:" + SOCKET]
config.websocket_max_message_size = 1 << 30
config.accesslog = config.errorlog = None
asyncio.run(serve(app, config))
