"""Checks the answers to handshakes through nginx and haproxy.

    python3 check.py SERVER_LOG NAME=PORT…
"""

import re
import socket
import struct
import sys
import time

LOG = sys.argv[1]
PORTS = dict(argument.split("=") for argument in sys.argv[2:])
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
failed = []


def ask(proxy, path, *fields, host="app.example"):
    """Makes a handshake. Returns the status, the text of the answer, and the echo of a message."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
        *fields,
        "",
        "",
    ]
    with socket.create_connection(("127.0.0.1", int(PORTS[proxy])), timeout=10) as stream:
        stream.sendall("\r\n".join(lines).encode())
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = stream.recv(65536)
            if not chunk:
                return 0, "closed", None
            received += chunk
        head, _, rest = received.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status != 101:
            length = re.search(rb"content-length: *(\d+)", head.lower())
            while chunk := (length is None or len(rest) < int(length[1])) and stream.recv(65536):
                rest += chunk
            return status, rest.decode(), None
        if ACCEPT.encode() not in head:
            return status, "another Sec-WebSocket-Accept", None
        mask = b"\x01\x02\x03\x04"
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(b"Hello"))
        stream.sendall(struct.pack("!BB", 0x81, 0x80 | len(payload)) + mask + payload)
        while len(rest) < 7:
            rest += stream.recv(65536)
        return status, "", rest[2:7].decode()


def expect(proxy, path, *fields, status, text="", log=None, **options):
    what = f"{proxy} {path[:60]} {' '.join(field[:60] for field in fields)}"
    got = ask(proxy, path, *fields, **options)
    wanted = (101, "", "Hello") if status == 101 else (status, text, None)
    fits = got[0] == wanted[0] and got[2] == wanted[2] and re.fullmatch(wanted[1], got[1])
    if not fits:
        failed.append(what)
        print(f"FAILED {what}: expected {wanted}, got {got}")
        return
    if log is not None:
        for _ in range(100):
            with open(LOG, encoding="utf-8") as lines:
                if any("INFO" in line and re.search(log, line) for line in lines):
                    break
            time.sleep(0.05)
        else:
            failed.append(what)
            print(f"FAILED {what}: no line at info level has {log!r}")
            return
    print(f"{status} {what}")


OWN = "Origin: https://app.example"
EVIL = "Origin: https://evil.example"
SPOOFED = "X-Forwarded-Host: evil.example"
SPOOFED_RFC = "Forwarded: host=evil.example"
UPSTREAM = r"127\.0\.0\.1:\d+"

# A proxy that keeps `Host`.
for proxy in ["nginx", "haproxy"]:
    expect(proxy, "/ws", status=101)
    expect(proxy, "/ws", OWN, status=101)
    expect(proxy, "/ws", "Origin: wss://app.example", status=101)
    expect(proxy, "/ws", "Origin: https://app.example:8443", status=101, host="app.example:8443")
    refused = r"pages of https://evil\.example may not connect to app\.example"
    expect(proxy, "/ws", EVIL, status=403, text=refused, log=refused)
    expect(proxy, "/ws", EVIL, SPOOFED, SPOOFED_RFC, status=403, text=refused)
    expect(proxy, "/missing", status=404)

# A proxy that rewrites `Host`.
for proxy, upstream in [
    ("nginx_rewriting", UPSTREAM),
    ("haproxy_rewriting", r"upstream\.internal"),
]:
    refused = f"pages of https://app\\.example may not connect to {upstream}"
    expect(proxy, "/ws", OWN, status=403, text=refused)
    for path in ["/x-forwarded-host", "/forwarded"]:
        expect(proxy, path, OWN, status=101)
        expect(proxy, path, OWN, status=101, host="app.example:443")
        expect(proxy, path, OWN, SPOOFED, SPOOFED_RFC, status=101)
        refused = r"pages of https://evil\.example may not connect to app\.example"
        expect(proxy, path, EVIL, SPOOFED, SPOOFED_RFC, status=403, text=refused)
        # An unterminated string, which tries to swallow the proxy's element.
        swallowing = 'Forwarded: host=evil.example;x="'
        expect(proxy, path, EVIL, swallowing, status=403, text=refused)

# Two proxies: the outer one replaces the client's field, the inner one appends to it.
expect("chain", "/two-proxies", OWN, status=101)
expect("chain", "/two-proxies", OWN, SPOOFED, status=101)
refused = r"pages of https://evil\.example may not connect to app\.example"
expect("chain", "/two-proxies", EVIL, SPOOFED, status=403, text=refused)
expect("chain", "/two-proxies", EVIL, f"{SPOOFED}, evil.example", status=403, text=refused)

# Large heads, which the proxies pass on.
large = f"Cookie: {'x' * 20000}"
for proxy in ["nginx", "haproxy"]:
    text = r"target and header fields have 20\d\d\d bytes, 16384 are allowed; cookie has most"
    expect(proxy, "/ws", large, status=431, text=text, log="see `WebSocketLayer::max_head_size`")
    text = text.replace("cookie has", "the target has")
    expect(proxy, f"/ws?{'x' * 20000}", status=431, text=text)

# Proxies that drop `Upgrade`.
text = r"this websocket handshake has no `Upgrade: websocket`: does a proxy drop it\?"
told = r"without `Upgrade: websocket` is taken for a plain request"
expect("nginx_dropping", "/ws", status=426, text=text, log=told)
expect("haproxy_dropping", "/ws", status=426, text=text)
text = (
    r"a websocket needs HTTP/1\.1, and this handshake came over HTTP/1\.0: does a proxy speak that\?"
)
expect("nginx_old", "/ws", status=426, text=text)

if failed:
    sys.exit(f"{len(failed)} failed")
