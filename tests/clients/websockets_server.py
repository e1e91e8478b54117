"""Tests examples/conformance_client with the Python package `websockets` as the server.

    python websockets_server.py path/to/conformance_client
"""

import asyncio
import sys
import traceback
from urllib.parse import parse_qs, urlsplit

from checks import same
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

MIB = 1 << 20


async def echoes(socket, message):
    await socket.send(message)
    same(await socket.recv(), message)


async def code_of_client(socket):
    """Returns the client's close code."""
    await asyncio.wait_for(socket.wait_closed(), 10)
    return socket.close_code


async def echoes_text(socket):
    for text in ["", "Hällo", "x" * 125, "ö" * 63, "wörd " * 20_000]:
        await echoes(socket, text)


async def echoes_bytes_of_every_size(socket):
    for size in [0, 1, 125, 126, 65_535, 65_536, MIB, 4 * MIB]:
        await echoes(socket, b"\xa5" * size)


async def puts_fragments_together(socket):
    await socket.send(["frag", "", "mentör", "s"])
    same(await socket.recv(), "fragmentörs")


async def answers_pings(socket):
    await asyncio.wait_for(await socket.ping("are you there?"), 10)


async def keeps_the_order_of_a_burst(socket):
    texts = [str(number) for number in range(1000)]

    async def send():
        for text in texts:
            await socket.send(text)

    sending = asyncio.create_task(send())
    same([await socket.recv() for _ in texts], texts)
    await sending


async def repeats_the_code_of_a_close(socket):
    await socket.close(4002, "enough")
    same(socket.protocol.close_rcvd.code, 4002)


async def refuses_a_masked_frame(socket):
    socket.transport.write(bytes([0x81, 0x81, 1, 2, 3, 4, 5]))
    same(await code_of_client(socket), 1002)


async def refuses_text_that_is_not_utf_8(socket):
    await socket.send(b"\xff", text=True)
    same(await code_of_client(socket), 1007)


CASES = [
    echoes_text,
    echoes_bytes_of_every_size,
    puts_fragments_together,
    answers_pings,
    keeps_the_order_of_a_burst,
    repeats_the_code_of_a_close,
    refuses_a_masked_frame,
    refuses_text_that_is_not_utf_8,
]

passed = []


async def run(socket):
    url = urlsplit(socket.request.path)
    if url.path == "/getCaseCount":
        await socket.send(str(len(CASES)))
    elif url.path == "/runCase":
        case = CASES[int(parse_qs(url.query)["case"][0]) - 1]
        try:
            await case(socket)
            if socket.close_code is None:
                await socket.close()
                same(socket.protocol.close_rcvd.code, 1000)
            passed.append(case)
        except (AssertionError, TimeoutError, ConnectionClosed):
            traceback.print_exc()


async def main():
    async with serve(run, "127.0.0.1", 0, max_size=8 * MIB) as server:
        port = server.sockets[0].getsockname()[1]
        client = await asyncio.create_subprocess_exec(sys.argv[1], f"ws://127.0.0.1:{port}")
        same(await client.wait(), 0)
    # The order may differ: the client may start the next case before the last one has finished here.
    same({case.__name__ for case in CASES} - {case.__name__ for case in passed}, set())
    print(f"websockets as the server: {len(passed)} cases passed")


asyncio.run(main())
