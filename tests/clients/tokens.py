"""Tests examples/tokens with the Python package `websockets`.

    python tokens.py http://127.0.0.1:3000/
"""

import asyncio
import json
import sys
import time
import urllib.request
from urllib.parse import urljoin

from checks import run, same
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000/"
ADDRESS = urljoin(BASE, "/ws").replace("http", "ws", 1)


def open_socket():
    return connect(ADDRESS, proxy=None)


async def running():
    def fetch():
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urljoin(BASE, "/running"), timeout=5) as answer:
            return answer.read().decode()

    return await asyncio.to_thread(fetch)


async def becomes_idle():
    """Waits until no generator runs. The server learns of an end by packets, so this takes a moment."""
    while await running() != "0 running\n":
        await asyncio.sleep(0.01)


async def ask(socket):
    """Asks a question, and receives the first tokens of the endless answer."""
    await socket.send(json.dumps({"prompt": "to be?"}))
    for token in ["to ", "be?", "to "]:
        same(json.loads(await socket.recv()), {"token": token})


async def finishes():
    async with open_socket() as socket:
        for _ in range(2):
            await socket.send(json.dumps({"prompt": "grüße an alle"}))
            for token in ["grüße ", "an ", "alle"]:
                same(json.loads(await socket.recv()), {"token": token})
            same(json.loads(await socket.recv()), {"end": "finished"})


async def stops():
    async with open_socket() as socket:
        await ask(socket)
        same(await running(), "1 running\n")
        start = time.monotonic()
        await socket.send('"stop"')
        event = {}
        while "token" in (event := json.loads(await socket.recv())):
            pass
        same(event, {"end": "stopped"})
        if time.monotonic() - start > 2:
            raise AssertionError("the generator did not stop at once")
        same(await running(), "0 running\n")


async def leaves():
    async with open_socket() as socket:
        await ask(socket)
    await becomes_idle()


async def is_reset():
    async with open_socket() as socket:
        await ask(socket)
        socket.transport.abort()
    await becomes_idle()


async def asks_twice():
    async with open_socket() as socket:
        await ask(socket)
        await socket.send(json.dumps({"prompt": "again"}))
        try:
            while True:
                await socket.recv()
        except ConnectionClosedError as closed:
            same((closed.rcvd.code, closed.rcvd.reason), (1008, "one prompt at a time"))
    await becomes_idle()


CHECKS = {
    "an answer ends, and the next prompt may follow": finishes,
    "stop ends the generator": stops,
    "a close ends the generator": leaves,
    "a reset ends the generator": is_reset,
    "a second prompt ends with 1008": asks_twice,
}


run("tokens", CHECKS)
