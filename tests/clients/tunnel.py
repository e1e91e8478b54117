"""Tests examples/tunnel with curl, and with TCP sockets, through both of its sides.

    python tunnel.py path/to/tunnel
"""

import contextlib
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import tempfile
import threading

from checks import run, same

PROGRAM = sys.argv[1]
SIZE = 50_000_000


@contextlib.contextmanager
def program(*arguments):
    """Starts a side of the tunnel, and yields the address on which it listens."""
    side = subprocess.Popen(
        [PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield side.stdout.readline().removeprefix("listening on ").strip()
    finally:
        side.kill()
        side.wait()


@contextlib.contextmanager
def tunnel(to):
    """Starts both sides, and yields the host and the port for TCP clients."""
    with program("serve", "127.0.0.1:0", "--to", to) as url:
        with program("connect", url.replace("http", "ws", 1), "--listen", "127.0.0.1:0") as address:
            host, port = address.split(":")
            yield host, int(port)


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Files(http.server.BaseHTTPRequestHandler):
    """Answers GET with the bytes of `sent`, and PUT with the digest of its body."""

    protocol_version = "HTTP/1.1"
    sent = os.urandom(SIZE)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(self.sent)

    def do_PUT(self):
        self.answer(digest(self.rfile.read(int(self.headers["Content-Length"]))).encode())

    def log_message(self, *_):
        pass


def curl(address, *arguments):
    url = "http://%s:%s/" % address
    command = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"]
    return subprocess.run([*command, *arguments, url], stdout=subprocess.PIPE, check=True).stdout


@contextlib.contextmanager
def to_files():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with tunnel("127.0.0.1:%d" % server.server_address[1]) as address:
            yield address
    finally:
        server.shutdown()


def download():
    with to_files() as address:
        same(digest(curl(address)), digest(Files.sent))


def upload():
    with to_files() as address, tempfile.NamedTemporaryFile() as file:
        file.write(Files.sent)
        file.flush()
        same(curl(address, "--upload-file", file.name).decode(), digest(Files.sent))


def side_by_side():
    with to_files() as address:
        digests = []
        threads = [threading.Thread(target=lambda: digests.append(digest(curl(address)))) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        same(digests, [digest(Files.sent)] * 5)


@contextlib.contextmanager
def pair():
    """Yields the sockets of a TCP client and of a TCP server, with the tunnel between them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        with tunnel("127.0.0.1:%d" % listener.getsockname()[1]) as address:
            with socket.create_connection(address, timeout=10) as client:
                server, _ = listener.accept()
                server.settimeout(10)
                with server:
                    yield client, server


def receive(stream, size):
    data = bytearray()
    while len(data) < size and (part := stream.recv(65_536)):
        data += part
    return bytes(data)


def exchanges():
    with pair() as (client, server):
        for index in range(1000):
            line = b"%d" % index
            client.sendall(line)
            same(receive(server, len(line)), line)
            server.sendall(line)
            same(receive(client, len(line)), line)


def both_ways():
    with pair() as (client, server):
        received = {}
        threads = []
        for stream in client, server:
            threads.append(threading.Thread(target=stream.sendall, args=(Files.sent,)))
            threads.append(
                threading.Thread(target=lambda stream=stream: received.update({stream: receive(stream, SIZE)}))
            )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        same([digest(received[stream]) for stream in (client, server)], [digest(Files.sent)] * 2)


def server_ends():
    with pair() as (client, server):
        server.sendall(b"bye")
        server.close()
        same(receive(client, 100), b"bye")


def client_ends():
    with pair() as (client, server):
        client.sendall(b"bye")
        client.close()
        same(receive(server, 100), b"bye")


def unreachable():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with tunnel(f"127.0.0.1:{port}") as address:
        with socket.create_connection(address, timeout=10) as client:
            same(receive(client, 100), b"")


CHECKS = {
    "curl downloads 50 MB": download,
    "curl uploads 50 MB": upload,
    "five downloads run side by side": side_by_side,
    "1,000 exchanges": exchanges,
    "50 MB in each direction at once": both_ways,
    "the client sees the end of the server": server_ends,
    "the server sees the end of the client": client_ends,
    "a server that cannot be reached ends the client's connection": unreachable,
}


run("tunnel", CHECKS)
