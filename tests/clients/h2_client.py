"""Tests examples/http2 with WebSockets over HTTP/2, on the Python package `h2`.

    python h2_client.py https://127.0.0.1:3000/
"""

import asyncio
import os
import sys
from urllib.parse import urlsplit

from checks import run, same
from h2_streams import Connection, Reset

BASE = urlsplit(sys.argv[1] if len(sys.argv) > 1 else "https://127.0.0.1:3000/")
MIB = 1 << 20
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
HELLO = b"connected by HTTP/2.0"


def session():
    return Connection.open(BASE.hostname, BASE.port, tls=BASE.scheme == "https")


def connect(path="/ws", protocol="websocket", authority=BASE.netloc, version="13", **fields):
    """Returns the fields of a handshake. A field that is `None` is left out."""
    headers = [
        (":method", "CONNECT"),
        (":protocol", protocol),
        (":scheme", BASE.scheme),
        (":path", path),
        (":authority", authority),
        ("sec-websocket-version", version),
    ]
    headers += [(name.replace("_", "-"), value) for name, value in fields.items()]
    return [(name, value) for name, value in headers if value is not None]


def frame(opcode, payload):
    """Returns a masked frame of a client."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 1 << 16:
        head = bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 0x80 | 127]) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    keys = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")
    return head + mask + masked.to_bytes(size, "big")


class Socket:
    """A WebSocket on a stream, which sends and receives whole frames."""

    @classmethod
    async def open(cls, connection, **fields):
        self = cls()
        self.stream = await connection.request(connect(**fields))
        self.status, self.headers = await self.stream.answer()
        same(self.status, 200)
        self.read = bytearray()
        same(await self.receive(), (TEXT, HELLO))
        return self

    async def send(self, opcode, payload):
        await self.stream.send(frame(opcode, payload))

    async def exactly(self, size):
        while len(self.read) < size:
            data = await self.stream.receive()
            if data is None:
                return None
            self.read += data
        taken, self.read = self.read[:size], self.read[size:]
        return bytes(taken)

    async def receive(self):
        """Returns the opcode and the payload of the next frame, or `None` at the end."""
        head = await self.exactly(2)
        if head is None:
            return None
        size = head[1]
        if size >= 126:
            size = int.from_bytes(await self.exactly(2 if size == 126 else 8), "big")
        return head[0] & 0x0F, await self.exactly(size)

    async def exchange(self, opcode, payload):
        await self.send(opcode, payload)
        same(await self.receive(), (opcode, payload))

    async def close(self, code=1000):
        """Closes, and asserts that both halves of the stream end without a reset."""
        payload = code.to_bytes(2, "big")
        await self.send(CLOSE, payload)
        same(await self.receive(), (CLOSE, payload))
        same(await self.receive(), None)
        self.stream.end()
        same(self.stream.reset_by_server, None)


async def allowed():
    connection = await session()
    same(connection.allows_extended_connect, True)
    await connection.close()


async def messages():
    connection = await session()
    socket = await Socket.open(connection)
    for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"]:
        same(name in socket.headers, False)
    await socket.exchange(TEXT, "grüße, 世界".encode())
    await socket.exchange(BINARY, bytes(range(256)))
    await socket.exchange(TEXT, b"")
    await socket.exchange(BINARY, os.urandom(MIB))
    await socket.send(PING, b"are you there")
    same(await socket.receive(), (PONG, b"are you there"))
    await socket.close()
    await connection.close()


async def close_codes():
    connection = await session()
    for code in [1000, 1001, 4321]:
        await (await Socket.open(connection)).close(code)
    for sent, code in [
        (frame(TEXT, b"H\xff"), 1007),
        (bytes([0x81, 0]), 1002),
        (frame(BINARY, bytes(MIB + 1)), 1009),
    ]:
        socket = await Socket.open(connection)
        await socket.stream.send(sent)
        opcode, payload = await socket.receive()
        same((opcode, int.from_bytes(payload[:2], "big")), (CLOSE, code))
        same(await socket.receive(), None)
    await connection.close()


async def many():
    connection = await session()

    async def one(number):
        socket = await Socket.open(connection)
        for round in range(10):
            await socket.exchange(TEXT, f"{number}/{round}".encode() * (number + 1))
        await socket.close()

    await asyncio.gather(*(one(number) for number in range(150)))
    await connection.close()


async def resets():
    connection = await session()
    witness = await Socket.open(connection)
    for number in range(300):
        socket = await Socket.open(connection)
        await socket.send(TEXT, b"x" * number)
        if number % 2:
            await socket.receive()
        # The first half of a frame.
        await socket.stream.send(frame(BINARY, bytes(1000))[:500])
        socket.stream.reset()
    await witness.exchange(TEXT, b"still here")
    await witness.close()
    await connection.close()


async def left_open():
    """A client that never ends its half gets the Close, the end, and then a reset."""
    connection = await session()
    socket = await Socket.open(connection)
    await socket.send(CLOSE, b"\x03\xe8")
    same(await socket.receive(), (CLOSE, b"\x03\xe8"))
    same(await socket.receive(), None)
    try:
        await socket.stream.receive()
        raise AssertionError("no reset")
    except Reset as reset:
        same(reset.code, 0)
    await connection.close()


async def refused(status, text, **fields):
    connection = await session()
    stream = await connection.request(connect(**fields))
    actual, headers = await stream.answer()
    same((actual, (await stream.rest()).decode()), (status, text))
    same([name for name in ("connection", "upgrade") if name in headers], [])
    # The connection still works.
    await (await Socket.open(connection)).close()
    await connection.close()
    return headers


async def another_protocol():
    await refused(501, "websocket is the only protocol supported", protocol="connect-udp")


async def origins():
    own = f"{BASE.scheme}://{BASE.netloc}"
    for origin, authority in [
        ("https://attacker.example", BASE.netloc),
        ("null", BASE.netloc),
        (own, "attacker.example"),
    ]:
        text = f"pages of {origin} may not connect to {authority}"
        await refused(403, text, authority=authority, origin=origin)
    connection = await session()
    await (await Socket.open(connection, origin=f"{BASE.scheme}://{BASE.netloc}")).close()
    await connection.close()


async def versions():
    text = "sec-websocket-version 13 is the only one supported"
    for version in [None, "8"]:
        headers = await refused(426, text, version=version)
        same(headers["sec-websocket-version"], "13")


async def protocols():
    """Tests offered subprotocols, of which this server supports none."""
    connection = await session()
    socket = await Socket.open(connection, sec_websocket_protocol="chat, superchat")
    same("sec-websocket-protocol" in socket.headers, False)
    await socket.close()
    await connection.close()
    text = "sec-websocket-protocol is malformed or too long"
    await refused(400, text, sec_websocket_protocol="chat, chat")


async def not_ours():
    """Other requests get the answers of the application."""
    connection = await session()
    plain = [(":method", "CONNECT"), (":authority", "example.com:443")]
    stream = await connection.request(plain)
    same((await stream.answer())[0], 404)
    stream = await connection.request(connect(path="/elsewhere"))
    same((await stream.answer())[0], 404)
    get = [(":method", "GET"), (":scheme", BASE.scheme), (":path", "/"), (":authority", BASE.netloc)]
    stream = await connection.request(get, end=True)
    same((await stream.answer())[0], 200)
    same(b"<!DOCTYPE html>" in await stream.rest(), True)
    await connection.close()


async def lost():
    """An aborted connection does not affect the sockets of another connection."""
    other = await Socket.open(await session())
    connection = await session()
    for _ in range(50):
        await Socket.open(connection)
    connection.writer.transport.abort()
    await other.exchange(TEXT, b"still here")
    await other.close()


CHECKS = {
    "the server allows extended CONNECT": allowed,
    "messages of all kinds are echoed": messages,
    "every end has a close code and no reset": close_codes,
    "150 sockets on one connection do not mix messages": many,
    "300 resets do not affect other streams": resets,
    "a stream that the client leaves open is reset": left_open,
    "another protocol is refused with 501": another_protocol,
    "foreign origins and authorities are refused with 403": origins,
    "a missing or wrong version is refused with 426": versions,
    "offered subprotocols": protocols,
    "other requests reach the application": not_ours,
    "an aborted connection does not affect others": lost,
}


run("h2", CHECKS)
