"""Tests examples/json_rpc with the Python package `websockets`, by the examples of the specification of JSON-RPC 2.0.

    python json_rpc.py http://127.0.0.1:3000/
"""

import json
import sys
from urllib.parse import urljoin

from checks import run, same
from websockets.asyncio.client import connect

BASE = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000/"
ADDRESS = urljoin(BASE, "/rpc").replace("http", "ws", 1)

NOT_FOUND = '{"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": %s}'
INVALID = '{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}'
PARSE_ERROR = '{"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null}'

# Section 7 of the specification. The batch calls `subtract` only, because the example has no other method of it.
EXAMPLES = {
    "positional parameters": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        '{"jsonrpc": "2.0", "result": 19, "id": 1}',
    ),
    "named parameters": (
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        '{"jsonrpc": "2.0", "result": 19, "id": 3}',
    ),
    "a notification": ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    "a method that does not exist": ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', NOT_FOUND % '"1"'),
    "invalid JSON": ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', PARSE_ERROR),
    "an invalid request": ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
    "a batch of invalid JSON": (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        PARSE_ERROR,
    ),
    "an empty batch": ("[]", INVALID),
    "an invalid batch that is not empty": ("[1]", f"[{INVALID}]"),
    "an invalid batch": ("[1,2,3]", f"[{INVALID}, {INVALID}, {INVALID}]"),
    "a batch": (
        """[
            {"jsonrpc": "2.0", "method": "subtract", "params": [8, 1], "id": "1"},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
            {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
            {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"}
        ]""",
        f"""[
            {{"jsonrpc": "2.0", "result": 7, "id": "1"}},
            {{"jsonrpc": "2.0", "result": 19, "id": "2"}},
            {INVALID},
            {NOT_FOUND % '"5"'}
        ]""",
    ),
    "a batch of notifications": ('[{"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]}]', None),
}


def check(message, expected):
    async def exchange():
        async with connect(ADDRESS, proxy=None) as socket:
            await socket.send(message)
            if expected is not None:
                same(json.loads(await socket.recv()), json.loads(expected))
            # The next answer is that of the next request, so there was no other one.
            await socket.send('{"jsonrpc": "2.0", "method": "wait", "params": [1], "id": 99}')
            same(json.loads(await socket.recv())["id"], 99)

    return exchange


async def slow():
    async with connect(ADDRESS, proxy=None) as socket:
        for seconds in [2, 0]:
            await socket.send(json.dumps({"jsonrpc": "2.0", "method": "wait", "params": [seconds], "id": seconds}))
        same([json.loads(await socket.recv())["id"] for _ in range(2)], [0, 2])


async def binary():
    async with connect(ADDRESS, proxy=None) as socket:
        await socket.send(b"{}")
        await socket.wait_closed()
        same(socket.close_code, 1003)


CHECKS = {name: check(*example) for name, example in EXAMPLES.items()}
CHECKS |= {"a slow call does not hold up the next one": slow, "a binary message ends with 1003": binary}


run("json_rpc", CHECKS)
