// Makes the screenshots of examples/chat, of a phone and a desk, light and dark. Look at them after a change.
//
//     CHROMIUM=/usr/bin/chromium node chat_screenshots.mjs path/to/chat path/to/clients/rooms FOLDER

import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { Chat, Person, Program } from "./chat_pages.mjs";

const [program, folder, output] = process.argv.slice(2, 5).map((path) => resolve(path));
const SIZES = { phone: [390, 780, true], desk: [1280, 800, false] };

const chat = new Chat(program);
const cleo = new Person("Cleo");
const { browser } = cleo;

let time = Date.parse("2026-05-12T09:12:00");
/** The times of messages are made up, so that the screenshots are always the same. */
const say = (who, text) => who.room.send({ text, time: (time += 40_000) });

async function shoot(name) {
  for (const [size, [width, height, mobile]] of Object.entries(SIZES)) {
    await browser.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile });
    for (const scheme of ["light", "dark"]) {
      await browser.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
      const { data } = await browser.call("Page.captureScreenshot", { format: "png" });
      writeFileSync(join(output, `${name}-${size}-${scheme}.png`), Buffer.from(data, "base64"));
    }
  }
}

await chat.start();
const [ann, bo, gardener] = [
  await Program.enter(chat, folder, "Ann"), await Program.enter(chat, folder, "Bo"),
  await Program.enter(chat, folder, "Ann", "garden"),
];
await cleo.enter(chat);
await browser.evaluate(`Date.now = () => Date.parse("2026-05-12T09:16:00")`);
await say(ann, "Good morning! Is anybody in today?");
await say(bo, "Just came in. The train stood in a tunnel for ten minutes.");
await say(ann, "And the chat?");
await say(bo, "Was back before the train.");
await say(bo, "Every message that I had missed was there, in order.");
await cleo.reads("Every message that I had missed was there, in order.");
await cleo.say("Nice. My phone said nothing about a gap, either.");
await cleo.reads("Nice. My phone said nothing about a gap, either.");
await say(gardener, "The tomatoes need water.");
await say(gardener, "Anyone?");
await cleo.until(`document.title.startsWith("(2)")`);
await ann.room.send({ typing: true }, { fleeting: true });
await cleo.until(`document.querySelector("#typing").textContent`);
await shoot("chat");

await browser.evaluate(`document.querySelector("#who").click()`);
await shoot("people");
await browser.evaluate(`document.querySelector("#who").click()`);

chat.cut();
await cleo.until(`document.querySelector("#status").dataset.state === "waiting"`);
await cleo.say("Is this on?");
await cleo.until(`document.querySelector(".pending .note").textContent`);
await shoot("away");

await chat.kill();
await chat.start();
chat.mend();
await cleo.reconnect();
await cleo.reads("Is this on?");
await shoot("gap");

await browser.evaluate(`location.hash = "workshop"`);
await cleo.until(`document.title.includes("workshop")`);
await shoot("empty");

[ann, bo, gardener].forEach((program) => program.end());
await Promise.allSettled([chat.kill(), browser.end()]);
process.exit();
