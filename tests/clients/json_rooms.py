"""Tests examples/json_rooms with a client in Python, through cut connections and a restarted server.

    python json_rooms.py path/to/json_rooms
"""

import asyncio
import contextlib
import subprocess
import sys

from checks import run, same
from rooms import Rooms

PROGRAM = sys.argv[1]


class Server:
    def __init__(self):
        self.address = "127.0.0.1:0"
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [PROGRAM, self.address], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.address = self.process.stdout.readline().removeprefix("listening on http://").strip().rstrip("/")

    def kill(self):
        self.process.kill()
        self.process.wait()


@contextlib.asynccontextmanager
async def clients(*names):
    server = Server()
    clients = [Rooms(f"ws://{server.address}/rooms?{name}") for name in names]
    tasks = [asyncio.create_task(client.run()) for client in clients]
    try:
        for client in clients:
            while client.socket is None:
                await asyncio.sleep(0.01)
        yield server, *clients
        for task in tasks:
            same(task.done(), False)
    finally:
        for task in tasks:
            task.cancel()
        server.kill()


async def ask(client, **request):
    return await (await client.say(**request))


async def data(client, count):
    return [(await client.heard.get())["data"] for _ in range(count)]


async def talk():
    async with clients("ann", "bob") as (_, ann, bob):
        for client in (ann, bob):
            same((await ask(client, join="lobby"))["welcome"]["recovery"], "fresh")
            await client.heard.get()
        same((await ask(ann, send="lobby", data=1))["sent"]["members"], 2)
        same((await ask(bob, send="lobby", data=2, others=True))["sent"]["members"], 1)
        heard = [await ann.heard.get() for _ in range(2)]
        same([(message["data"], message["key"]) for message in heard], [(1, "ann"), (2, "bob")])
        same(await data(bob, 1), [1])
        while sorted(ann.members["lobby"].values()) != ["ann", "bob"]:
            await asyncio.sleep(0.01)
        same((await ask(bob, leave="lobby"))["left_room"], "left")
        while list(ann.members["lobby"].values()) != ["ann"]:
            await asyncio.sleep(0.01)
        same((await ask(bob, ping=True))["pong"], True)


async def tabs():
    async with clients("ann", "ann", "bob") as (_, first, second, bob):
        for client in (first, second, bob):
            await ask(client, join="lobby")
        while sorted(bob.members["lobby"].values()) != ["ann", "bob"]:
            await asyncio.sleep(0.01)
        heard, hear = [], bob.hear
        bob.hear = lambda news: (heard.append(news), hear(news))
        await ask(first, leave="lobby")
        while not any("updated" in news for news in heard):
            await asyncio.sleep(0.01)
        same(sorted(bob.members["lobby"].values()), ["ann", "bob"])
        await ask(second, leave="lobby")
        while list(bob.members["lobby"].values()) != ["bob"]:
            await asyncio.sleep(0.01)


async def refusals():
    async with clients("ann") as (_, ann):
        same((await ask(ann, join="staff"))["error"], "forbidden")
        same((await ask(ann, send="lobby", data=1))["error"], "not_joined")
        await ask(ann, join="news")
        same((await ask(ann, send="news", data=1))["error"], "read_only")
        same((await ask(ann, hello=1))["error"], "bad_request")


async def cut_connections():
    async with clients("ann", "bob") as (_, ann, bob):
        for client in (ann, bob):
            await ask(client, join="lobby")
            await client.heard.get()
        heard = []
        for number in range(60):
            if number % 20 == 5:
                bob.socket.transport.abort()
            await ask(ann, send="lobby", data=number)
        while len(heard) < 60:
            message = await bob.heard.get()
            if welcome := message.get("welcome"):
                same(welcome["recovery"], "recovered")
            else:
                heard.append(message["data"])
        same(heard, list(range(60)))
        same(await data(ann, 60), heard)


async def restart():
    async with clients("ann") as (server, ann):
        await ask(ann, join="lobby")
        await ask(ann, send="lobby", data="before")
        server.kill()
        server.start()
        while (message := await ann.heard.get()).get("welcome", {}).get("recovery") != "gap":
            pass
        same(message["welcome"]["reason"], "epoch")
        await ask(ann, send="lobby", data="after")
        same(await data(ann, 1), ["after"])


async def last():
    async with clients("ann", "bob") as (_, ann, bob):
        await ask(ann, join="lobby")
        for number in range(5):
            await ask(ann, send="lobby", data=number)
        same((await ask(bob, join="lobby", last=3))["welcome"]["messages"], 3)
        await bob.heard.get()
        same(await data(bob, 3), [2, 3, 4])


CHECKS = {
    "two clients talk, and see each other": talk,
    "two tabs are one member, who leaves with the last one": tabs,
    "a refused request keeps the connection": refusals,
    "a cut connection is resumed: nothing is missing, nothing comes twice": cut_connections,
    "a restarted server is a gap": restart,
    "the newest messages of the past": last,
}

run("json_rooms", CHECKS)
