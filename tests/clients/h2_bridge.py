"""Connects HTTP/1.1 clients to an HTTP/2 server. Each WebSocket is a separate stream on one connection.

    python h2_bridge.py PORT PROGRAM [ARGUMENT...]

Starts PROGRAM, whose first line of output must be "listening on http://ADDRESS:PORT/" or "https://". Listens
on PORT, or on a free port for 0, and prints its own address in the same form. The bridge answers the handshakes
itself. It ends when the program ends, and on a signal it ends the program.
"""

import asyncio
import base64
import hashlib
import signal
import sys
from urllib.parse import urlsplit

from h2_streams import Connection, Reset

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Fields that each side of the bridge handles itself.
OWN = {"connection", "host", "sec-websocket-accept", "sec-websocket-key", "upgrade"}


class Bridge:
    def __init__(self, url):
        self.url = urlsplit(url)
        self.connection = None
        self.opening = asyncio.Lock()
        self.tunnels = 0

    async def upstream(self):
        async with self.opening:
            if self.connection is None or self.connection.lost:
                tls = self.url.scheme == "https"
                self.connection = await Connection.open(self.url.hostname, self.url.port, tls)
                assert self.connection.allows_extended_connect
            return self.connection

    async def serve(self, reader, writer):
        stream = None
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *fields = head.rstrip().split("\r\n")
            fields = [field.split(":", 1) for field in fields]
            fields = [(name.strip().lower(), value.strip()) for name, value in fields]
            stream = await self.open(line.split(" ")[1], fields)
            status, answer = await stream.answer()
            key = dict(fields).get("sec-websocket-key", "").encode()
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()
            lines = ["HTTP/1.1 101 Switching Protocols"]
            if status == 200:
                lines += ["Connection: Upgrade", "Upgrade: websocket"]
                lines += [f"Sec-WebSocket-Accept: {accept}"]
                self.tunnels += 1
            else:
                lines = [f"HTTP/1.1 {status} Refused", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in answer.items() if name not in OWN]
            writer.write("\r\n".join(lines + ["", ""]).encode("latin-1"))
            await asyncio.gather(self.outwards(reader, stream), self.inwards(stream, writer))
        except (OSError, asyncio.IncompleteReadError, Reset):
            pass
        finally:
            if stream and not stream.over:
                try:
                    stream.reset()
                except Exception:
                    pass  # the stream is already closed
            writer.close()

    async def open(self, path, fields):
        connection = await self.upstream()
        headers = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", self.url.scheme),
            (":path", path),
            (":authority", self.url.netloc),
        ]
        return await connection.request(headers + [field for field in fields if field[0] not in OWN])

    async def outwards(self, reader, stream):
        """Forwards bytes from the client to the server."""
        try:
            while data := await reader.read(1 << 16):
                await stream.send(data)
            stream.end()
        except OSError:
            stream.reset()
        except Reset:
            pass  # `inwards` reports the reset

    async def inwards(self, stream, writer):
        """Forwards bytes from the server to the client."""
        while (data := await stream.receive()) is not None:
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def main():
    port, *command = sys.argv[1:]
    program = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        line = (await asyncio.wait_for(program.stdout.readline(), 10)).decode()
        assert line.startswith("listening on "), f"{command}: {line!r}"
        bridge = Bridge(line.removeprefix("listening on ").strip())
        server = await asyncio.start_server(bridge.serve, "127.0.0.1", int(port), backlog=1024)
        port = server.sockets[0].getsockname()[1]
        print(f"listening on http://127.0.0.1:{port}/", flush=True)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        waits = [asyncio.create_task(one) for one in (ended.wait(), program.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        print(f"{bridge.tunnels} tunnels", file=sys.stderr, flush=True)
    finally:
        if program.returncode is None:
            program.terminate()
            await program.wait()


asyncio.run(main())
