"""Tests compression with the settings of the Python package `websockets`, against examples/conformance.

    python websockets_deflate.py http://127.0.0.1:3000/
"""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000/"
ADDRESS = BASE.replace("http", "ws", 1)
ROWS = json.dumps([{"id": row, "name": f"user {row}", "on": True} for row in range(20_000)])
MESSAGES = ["Hello", "Hello", "", ROWS, ROWS, "x" * (1 << 20), bytes(1 << 20), os.urandom(300_000)]

SETTINGS = {
    "with context takeover": ({"client_max_window_bits": True}, ""),
    "without context takeover": (
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        "server_no_context_takeover; client_no_context_takeover",
    ),
    "without the server's context takeover": ({"server_no_context_takeover": True}, "server_no_context_takeover"),
    "without the client's context takeover": ({"client_no_context_takeover": True}, "client_no_context_takeover"),
    "with windows of 9 and 10 bits": (
        {"server_max_window_bits": 9, "client_max_window_bits": 10},
        "server_max_window_bits=9; client_max_window_bits=10",
    ),
}


async def exchange(settings, agreed, fragmented):
    offer = ClientPerMessageDeflateFactory(**settings)
    async with connect(ADDRESS, proxy=None, compression=None, extensions=[offer], max_size=2 << 20) as socket:
        answer = socket.response.headers["Sec-WebSocket-Extensions"]
        expected = "; ".join(filter(None, ["permessage-deflate", agreed]))
        if answer != expected:
            raise AssertionError(f"{answer!r} instead of {expected!r}")
        for index, message in enumerate(MESSAGES):
            half = len(message) // 2
            await socket.send([message[:half], message[half:]] if fragmented else message)
            if await socket.recv() != message:
                raise AssertionError(f"message {index} differs")
    if socket.close_code != 1000:
        raise AssertionError(f"closed with {socket.close_code}")


async def main():
    failed = []
    for name, (settings, agreed) in SETTINGS.items():
        for fragmented in (False, True):
            check = name + (", fragmented" if fragmented else "")
            try:
                await asyncio.wait_for(exchange(settings, agreed, fragmented), timeout=20)
                print(f"ok    websockets: {check}", flush=True)
            except Exception as error:
                print(f"FAIL  websockets: {check}: {type(error).__name__} {error}", flush=True)
                failed.append(check)
    if failed:
        print(f"websockets: {len(failed)} failed: {'; '.join(failed)}")
    return 1 if failed else 0


sys.exit(asyncio.run(main()))
