"""Tests examples/echo with the Python package `websockets`. The server prefixes text with "Echo: ".

    python websockets_client.py http://127.0.0.1:3000/
"""

import asyncio
import sys
import urllib.error
import urllib.request
from urllib.parse import urljoin

from checks import run, same
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000/"
ADDRESS = urljoin(BASE, "/ws").replace("http", "ws", 1)
MIB = 1 << 20


def open_socket(**options):
    # The default of 1 MiB is too small for an answer with the prefix.
    return connect(ADDRESS, proxy=None, max_size=2 * MIB, **options)


async def exchange(message, expected, **options):
    async with open_socket(**options) as socket:
        await socket.send(message)
        same(await socket.recv(), expected)
    same(socket.close_code, 1000)


async def get(path):
    """Returns the status and the text of the answer to a plain request."""

    def fetch():
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urljoin(BASE, path), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


async def violation(send):
    """Returns the server's close code after `send`."""
    # Not `async with`: its close() fails if the connection was reset meanwhile.
    socket = await open_socket()
    try:
        await send(socket)
        await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd and closed.rcvd.code
    return "no close"


async def text():
    await exchange("Hello", "Echo: Hello")


async def text_beyond_ascii():
    await exchange("grüße, 世界 👋", "Echo: grüße, 世界 👋")


async def binary():
    await exchange(bytes(range(256)), bytes(range(256)))


async def empty_text():
    await exchange("", "Echo: ")


async def empty_binary():
    await exchange(b"", b"")


async def large_text():
    await exchange("x" * MIB, "Echo: " + "x" * MIB)


async def large_binary():
    await exchange(b"\xab" * MIB, b"\xab" * MIB)


async def fragmented():
    await exchange(["Hel", "", "lo"], "Echo: Hello")
    await exchange([b"\x00", b"\xff"], b"\x00\xff")


async def without_extensions():
    await exchange("Hello", "Echo: Hello", compression=None)


async def ping():
    async with open_socket() as socket:
        latency = await (await socket.ping("are you there"))
        if latency <= 0:
            raise AssertionError(f"latency {latency}")


async def pipelined():
    async with open_socket() as socket:
        for index in range(500):
            await socket.send(str(index))
        for index in range(500):
            same(await socket.recv(), f"Echo: {index}")


async def concurrent():
    async def one(name):
        async with open_socket() as socket:
            for index in range(5):
                await socket.send(f"{name}/{index}")
                same(await socket.recv(), f"Echo: {name}/{index}")
        same(socket.close_code, 1000)

    await asyncio.gather(*(one(name) for name in range(200)))


async def plain_requests():
    async with open_socket() as socket:
        status, page = await get("/")
        same((status, "<!DOCTYPE html>" in page), (200, True))
        same((await get("/time"))[0], 200)
        same((await get("/missing"))[0], 404)
        await socket.send("still here")
        same(await socket.recv(), "Echo: still here")


async def closing():
    for code, reason in [(1000, "done"), (1001, ""), (4321, "ours")]:
        async with open_socket() as socket:
            await socket.close(code, reason)
            await socket.wait_closed()
        same(socket.close_code, code)


async def own_origin():
    await exchange("Hello", "Echo: Hello", origin=BASE.rstrip("/"))


async def foreign_origin():
    for origin in ["https://attacker.example", "null"]:
        try:
            async with open_socket(origin=origin):
                raise AssertionError(f"{origin} was accepted")
        except InvalidStatus as refused:
            same(refused.response.status_code, 403)


async def too_large():
    same(await violation(lambda socket: socket.send(bytes(MIB + 1))), 1009)


async def far_too_large():
    same(await violation(lambda socket: socket.send(bytes(16 * MIB))), 1009)


async def too_large_in_fragments():
    same(await violation(lambda socket: socket.send([bytes(32 << 10)] * 40)), 1009)


async def not_utf8():
    same(await violation(lambda socket: socket.send(b"H\xff", text=True)), 1007)


CHECKS = {
    "text is echoed with the prefix": text,
    "text with non-ASCII characters is echoed": text_beyond_ascii,
    "binary is echoed unchanged": binary,
    "empty text is a message": empty_text,
    "empty binary is a message": empty_binary,
    "a text of 1 MiB is echoed": large_text,
    "a binary message of 1 MiB is echoed": large_binary,
    "a fragmented message is reassembled": fragmented,
    "a client that offers no extension is accepted": without_extensions,
    "a ping is answered": ping,
    "500 pipelined messages are echoed in order": pipelined,
    "200 concurrent connections do not mix messages": concurrent,
    "plain requests are answered while a socket is open": plain_requests,
    "a close is answered with the same code": closing,
    "the page's own origin is allowed": own_origin,
    "a foreign origin and null are refused with 403": foreign_origin,
    "1 MiB and a byte ends with 1009": too_large,
    "16 MiB, still being sent, ends with 1009": far_too_large,
    "fragments past 1 MiB end with 1009": too_large_in_fragments,
    "text that is not UTF-8 ends with 1007": not_utf8,
}


run("websockets", CHECKS)
