"""Tests compression with the settings of the Python package `websockets`, against examples/conformance.

    python websockets_deflate.py http://127.0.0.1:3000/
"""

import json
import os
import sys
from functools import partial

from checks import run, same
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
        same(answer, "; ".join(filter(None, ["permessage-deflate", agreed])))
        for index, message in enumerate(MESSAGES):
            half = len(message) // 2
            await socket.send([message[:half], message[half:]] if fragmented else message)
            if await socket.recv() != message:
                raise AssertionError(f"message {index} differs")
    same(socket.close_code, 1000)


CHECKS = {}
for name, (settings, agreed) in SETTINGS.items():
    CHECKS[name] = partial(exchange, settings, agreed, False)
    CHECKS[f"{name}, fragmented"] = partial(exchange, settings, agreed, True)

run("websockets", CHECKS)
