"""Both roles of a WebSocket, spoken by the `websockets` package. One line of JSON on standard output for whatever happens."""

import asyncio
import json
import sys
import time

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def tell(**what):
    print(json.dumps(what), flush=True)


async def server(name, port):
    """Echoes. At `/name` it says its name first, at `/close` it closes, and at `/flood` it sends without end."""

    async def handle(socket):
        path = socket.request.path
        try:
            if path == "/name":
                await socket.send(name)
            if path == "/close":
                await socket.close(4001, "so it is")
            while path == "/flood":
                await socket.send(b"x" * 100_000)
            async for message in socket:
                await socket.send(message)
        except ConnectionClosed:
            pass
        await socket.wait_closed()
        tell(closed=socket.close_code)

    def choose(_, offered):
        return "v1.chat" if "v1.chat" in offered else None

    options = {"max_size": None, "select_subprotocol": choose, "ping_interval": None}
    async with serve(handle, "127.0.0.1", int(port), **options) as listening:
        tell(port=listening.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().create_future()


def open_to(url, path, **more):
    return connect(url + path, max_size=None, ping_interval=None, compression=None, **more)


async def talk(url):
    """Everything that a conversation may have."""
    async with open_to(url, "/echo", subprotocols=["v1.chat", "v0.chat"]) as socket:
        assert socket.subprotocol == "v1.chat", socket.subprotocol
        for message in ["text", "", "ü" * 70_000, b"\x00\xff", b"x" * 65_536]:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(part for part in ["in ", "three ", "fragments"])
        assert await socket.recv() == "in three fragments"
        await (await socket.ping(b"are you there"))
        large = bytes(range(256)) * (64 * 4_096)
        await socket.send(large)
        assert await socket.recv() == large, "64 MiB"
        await socket.close(4002, "enough")
        tell(closed=socket.close_code)
    async with connect(url + "/echo", max_size=None) as socket:
        await socket.send("compressed " * 1_000)
        assert await socket.recv() == "compressed " * 1_000, "extensions are the two sides' own"
    async with open_to(url, "/close") as socket:
        await socket.wait_closed()
        tell(closed=socket.close_code, reason=socket.close_reason)


async def stick(url, times):
    """Opens one, and then as many more within its session."""
    async with open_to(url, "/name") as socket:
        first = await socket.recv()
        cookie = socket.response.headers["Set-Cookie"].split(";")[0]
    names = set()
    for _ in range(int(times)):
        async with open_to(url, "/name", additional_headers={"Cookie": cookie}) as socket:
            names.add(await socket.recv())
    tell(first=first, names=sorted(names))


async def hold(url, path, count):
    """Opens so many and tells when each is closed, and how."""

    async def one(ready):
        async with open_to(url, path, open_timeout=30) as socket:
            name = await socket.recv() if path == "/name" else None
            cookie = socket.response.headers.get("Set-Cookie", "").split(";")[0]
            ready.put_nowait((name, cookie))
            try:
                async for _ in socket:
                    pass
            except ConnectionClosed:
                pass
            tell(closed=socket.close_code, name=name, at=time.monotonic())

    ready = asyncio.Queue()
    tasks = [asyncio.create_task(one(ready)) for _ in range(int(count))]
    opened = [await ready.get() for _ in tasks]
    tell(open=[name for name, _ in opened], cookie=opened[0][1])
    await asyncio.gather(*tasks)


asyncio.run({"server": server, "talk": talk, "stick": stick, "hold": hold}[sys.argv[1]](*sys.argv[2:]))
