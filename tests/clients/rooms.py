"""A client of `rooms.v1.json`, written from the guide's page `json_rooms`: it reconnects, resumes, and tells gaps."""

import asyncio
import contextlib
import itertools
import json
import random

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException


def identity(member):
    """Connections with the same key are one member, and its id may change."""
    return ("key", member["key"]) if "key" in member else ("id", member["id"])


class Rooms:
    def __init__(self, url):
        self.url, self.socket, self.ids = url, None, itertools.count(1)
        self.at, self.members = {}, {}  # By room: the position, and the members.
        self.asked, self.heard = {}, asyncio.Queue()

    async def run(self):
        failures = 0
        while True:
            with contextlib.suppress(OSError, WebSocketException):
                async with connect(self.url, subprotocols=["rooms.v1.json"], proxy=None) as self.socket:
                    failures = 0
                    for room in list(self.at):
                        await self.say(join=room, after=self.at[room], last=50)
                    async for text in self.socket:
                        self.hear(json.loads(text))
            for answer in self.asked.values():
                answer.cancel()
            failures, self.asked = failures + 1, {}
            await asyncio.sleep(random.uniform(0, min(30, 0.1 * 2**failures)))

    async def say(self, **request):
        number, answer = next(self.ids), asyncio.get_running_loop().create_future()
        self.asked[number] = answer
        if "join" in request:
            self.at.setdefault(request["join"])
        await self.socket.send(json.dumps({**request, "id": number}))
        return answer

    def hear(self, heard):
        room, answer = heard.get("room"), self.asked.pop(heard.get("id"), None)
        if answer and not answer.done():
            answer.set_result(heard)
        if welcome := heard.get("welcome"):
            # Until the messages of the past have come, the old position counts.
            self.at[room] = self.at.get(room) if "messages" in welcome else welcome.get("at")
        if "left_room" in heard or heard.get("error") == "forbidden":
            self.at.pop(room, None)
        if "data" in heard and "at" in heard:
            self.at[room] = heard["at"]
        there = {} if "members" in heard else self.members.get(room, {})
        self.members[room] = there
        for member in itertools.chain(*(heard.get(name, []) for name in ("members", "joined", "updated"))):
            there[identity(member)] = member["value"]
        for member in heard.get("left", []):
            there.pop(identity(member), None)
        if "data" in heard or "gap" in heard or welcome:
            self.heard.put_nowait(heard)
