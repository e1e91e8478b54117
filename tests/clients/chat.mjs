// Tests examples/chat with two people at pages in headless Chromium, and programs that use the module in Node.
//
//     CHROMIUM=/usr/bin/chromium node chat.mjs path/to/chat path/to/clients/rooms

import assert from "node:assert/strict";
import { resolve } from "node:path";
import { run } from "./checks.mjs";
import { Chat, Person, Program } from "./chat_pages.mjs";
import { contrasts, focusOrder, namelessControls } from "./accessible.mjs";

const chat = new Chat(resolve(process.argv[2]));
const folder = resolve(process.argv[3] ?? "../../clients/rooms");
const ann = new Person("Ann");
const bo = new Person("Bo");
const numbered = (count, from = 0) => Array.from({ length: count }, (_, index) => `message ${from + index}`);
const unique = (texts) => assert.equal(new Set(texts).size, texts.length, "a message is there twice");
const gaps = (person) => person.all(".log:not([hidden]) .gap");

const checks = {
  "two people enter and see each other": async () => {
    await chat.start();
    await Promise.all([ann.enter(chat), bo.enter(chat)]);
    await Promise.all([ann.sees("Ann", "Bo"), bo.sees("Ann", "Bo")]);
    assert.deepEqual(await ann.all(".log:not([hidden]) .empty"), ["Nobody has said anything yet."]);
  },
  "both see all messages once, in one order": async () => {
    const talk = async (person) => {
      for (let index = 0; index < 20; index++) await person.say(`${person.name} ${index}`);
    };
    await Promise.all([talk(ann), talk(bo)]);
    for (const person of [ann, bo]) await person.until(`document.querySelectorAll(".message:not(.pending)").length === 40`);
    const texts = await ann.texts();
    assert.deepEqual(texts, await bo.texts());
    unique(texts);
    for (const name of ["Ann", "Bo"]) {
      const own = texts.filter((text) => text.startsWith(name));
      assert.deepEqual(own, Array.from({ length: 20 }, (_, index) => `${name} ${index}`));
    }
  },
  "markup stays text": async () => {
    await ann.say("<img src=x onerror=alert(1)><b>bold</b>");
    await bo.reads("<img src=x onerror=alert(1)><b>bold</b>");
    assert.deepEqual(await bo.all(".log img, .log b"), []);
  },
  "typing is shown until the message arrives": async () => {
    await ann.browser.type("#text", "half a sen");
    await bo.until(`document.querySelector("#typing").textContent === "Ann is typing …"`);
    await ann.press("Enter");
    await bo.reads("half a sen");
    await bo.until(`document.querySelector("#typing").textContent === ""`);
    assert.deepEqual(await ann.all("#typing"), [""]);
  },
  "two tabs are one person, who leaves with the last one": async () => {
    await bo.browser.attach();
    await bo.browser.goto(chat.base);
    await bo.connected();
    assert.deepEqual(await ann.members(), ["Ann", "Bo"]);
    const program = await Program.enter(chat, folder, "Cleo");
    await ann.sees("Ann", "Bo", "Cleo");
    // The first tab of Bo is still open.
    await bo.browser.call("Page.close").catch(() => {});
    program.end();
    await ann.sees("Ann", "Bo");
    await bo.browser.end();
    await ann.sees("Ann");
  },
  "a new page shows the last 50": async () => {
    const program = await Program.enter(chat, folder, "Cleo");
    for (const text of numbered(60)) await program.say(text);
    await ann.reads("message 59");
    await ann.browser.call("Page.reload");
    await ann.reads("message 59");
    assert.deepEqual(await ann.texts(), numbered(50, 10));
    // They are not new, and a screen reader does not read them.
    assert.deepEqual(await ann.all(".new, .unread:not([hidden])"), []);
    program.end();
  },
  "rooms that are not shown count unread messages": async () => {
    const program = await Program.enter(chat, folder, "Cleo", "garden");
    await program.say("water, please");
    await program.say("now");
    await ann.until(`document.title === "(2) lobby – Chat"`);
    assert.deepEqual(await ann.all("#rooms a"), ["lobby0 unread", "garden2 unread", "workshop0 unread"]);
    await ann.browser.click(`#rooms a[href="#garden"]`);
    await ann.until(`document.title === "garden – Chat"`);
    assert.deepEqual(await ann.all(".log:not([hidden]) > *:first-child"), ["New messages"]);
    assert.deepEqual(await ann.texts(), ["water, please", "now"]);
    await ann.browser.evaluate(`history.back()`);
    await ann.until(`document.title === "lobby – Chat"`);
    program.end();
  },
  "rooms can be added and left": async () => {
    await ann.browser.type("#add-name", "kitchen");
    await ann.press("Enter");
    await ann.until(`document.title === "kitchen – Chat" && document.querySelector("#members").childElementCount`);
    assert.equal((await ann.all("#rooms a")).length, 4);
    await ann.browser.click("#leave");
    await ann.until(`document.title === "lobby – Chat"`);
    assert.equal((await ann.all("#rooms a")).length, 3);
    const program = await Program.enter(chat, folder, "Cleo", "kitchen");
    while (!program.room.count) await new Promise(setImmediate);
    assert.deepEqual(program.room.members.map(({ key }) => key), ["Cleo"]);
    program.end();
  },
  "a connection that is cut is resumed: nothing is missing, nothing is there twice": async () => {
    const program = await Program.enter(chat, folder, "Cleo");
    const before = await ann.texts();
    for (const round of [0, 1, 2]) {
      chat.cut();
      await ann.until(`document.querySelector("#status").dataset.state === "waiting"`);
      for (const text of numbered(30)) await program.say(`${round} ${text}`);
      chat.mend();
      await ann.reconnect();
      await program.say(`after ${round}`);
      await ann.reads(`after ${round}`);
    }
    const rounds = [0, 1, 2].flatMap((round) => [...numbered(30).map((text) => `${round} ${text}`), `after ${round}`]);
    assert.deepEqual(await ann.texts(), [...before, ...rounds]);
    assert.deepEqual(await gaps(ann), []);
    program.end();
  },
  "a message written without a connection is sent later, once": async () => {
    const program = await Program.enter(chat, folder, "Cleo");
    chat.cut();
    await ann.until(`document.querySelector("#status").dataset.state === "waiting"`);
    await ann.say("from the tunnel");
    await ann.until(`document.querySelector(".pending .note").textContent === "Waiting for the connection"`);
    chat.mend();
    await ann.reconnect();
    await ann.reads("from the tunnel");
    await ann.until(`!document.querySelector(".pending")`);
    await ann.say("and again");
    await ann.reads("and again");
    assert.deepEqual(program.texts, ["from the tunnel", "and again"]);
    program.end();
  },
  "a message whose answer was lost is found in the history": async () => {
    const program = await Program.enter(chat, folder, "Cleo");
    chat.isMute = true;
    await ann.say("did you hear me?");
    while (program.texts.at(-1) !== "did you hear me?") await new Promise(setImmediate);
    assert.equal((await ann.all(".pending")).length, 1);
    chat.cut();
    chat.mend();
    await ann.reconnect();
    await ann.reads("did you hear me?");
    await ann.until(`!document.querySelector(".pending")`);
    await program.say("yes");
    await ann.reads("yes");
    const texts = await ann.texts();
    assert.equal(texts.filter((text) => text === "did you hear me?").length, 1);
    assert.deepEqual(program.texts, ["did you hear me?", "yes"]);
    program.end();
  },
  "a page that stalls is told what it has missed": async () => {
    const program = await Program.enter(chat, folder, "Cleo");
    // Another connection of the page counts.
    await ann.browser.evaluate(`(async () => {
      const { connect } = await import("/rooms.js");
      const connection = connect("/ws?name=Dan");
      window.counted = { connection, fillers: 0, lost: 0, reasons: new Set(), isEnd: false };
      const room = connection.join("lobby", {
        onMessage({ data }) {
          if (data.filler) counted.fillers++;
          counted.isEnd ||= data.text === "after the stall";
        },
        onGap({ reason, lost }) {
          counted.reasons.add(reason);
          counted.lost += lost;
        },
      });
      await room.ready;
    })()`);
    await ann.browser.call("Debugger.enable");
    await ann.browser.call("Debugger.pause");
    // The page pauses in the next script.
    const paused = ann.browser.evaluate("0");
    chat.stall(true);
    // It is not shown, because it is no text. 22 MB are more than all buffers on the way.
    const filler = { filler: "x".repeat(15_000) };
    for (let batch = 0; batch < 15; batch++) {
      await Promise.all(Array.from({ length: 100 }, () => program.room.send(filler)));
    }
    chat.stall(false);
    await ann.browser.call("Debugger.resume");
    await paused;
    await ann.browser.call("Debugger.disable");
    await ann.until(`document.querySelector(".log:not([hidden]) .gap")`);
    await program.say("after the stall");
    await ann.reads("after the stall");
    unique(await ann.texts());
    await ann.until(`counted.isEnd`);
    const { fillers, lost, reasons } = await ann.browser.evaluate(`({ ...counted, connection: 0, reasons: [...counted.reasons] })`);
    console.log(`      chat: received ${fillers}, lost ${lost}: ${reasons}`);
    // On a very slow machine, the stall was so long that the server gave the connection up.
    if (reasons.every((reason) => reason === "slow")) assert.equal(fillers + lost, 1500);
    await ann.browser.evaluate(`counted.connection.close()`);
    program.end();
  },
  "a server that was killed and started again leaves a gap": async () => {
    const before = (await gaps(ann)).length;
    await chat.kill();
    await ann.until(`document.querySelector("#status").dataset.state === "waiting"`);
    await chat.start();
    await ann.reconnect();
    await ann.until(`document.querySelectorAll(".log:not([hidden]) .gap").length === ${before + 1}`);
    assert.match((await gaps(ann)).at(-1), /^The server was restarted/);
    await ann.say("new times");
    await ann.reads("new times");
    unique(await ann.texts());
    assert.equal((await gaps(ann)).length, before + 1);
  },
  "all texts have the contrast of WCAG AA, in light and dark": async () => {
    for (const width of [390, 1280]) {
      for (const scheme of ["light", "dark"]) {
        assert.deepEqual(await contrasts(ann.browser, width, scheme), [], `${scheme}, ${width} pixels`);
      }
    }
  },
  "the keyboard reaches everything, in the order of the page": async () => {
    assert.deepEqual(await focusOrder(ann, 1280), ["#lobby", "#garden", "#workshop", "add-name", "Join this room", "leave", "Messages in lobby", "text", "Send", "rename"]);
    assert.deepEqual(await focusOrder(ann, 390), ["#lobby", "#garden", "#workshop", "add-name", "Join this room", "leave", "who", "Messages in lobby", "text", "Send"]);
  },
  "all controls have names, and messages are a live log": async () => {
    const { nameless, log } = await namelessControls(ann.browser);
    assert.deepEqual(nameless, []);
    assert.deepEqual(log, ["Messages in lobby"]);
  },
  "a page of 320 pixels does not scroll sideways": async () => {
    const metrics = { width: 320, height: 568, deviceScaleFactor: 1, mobile: true };
    await ann.browser.call("Emulation.setDeviceMetricsOverride", metrics);
    assert.equal(await ann.browser.evaluate(`document.documentElement.scrollWidth`), 320);
  },
  "the page reported no error": async () => assert.deepEqual(ann.errors(), []),
};

await run("chat", checks, async () => {
  await Promise.allSettled([chat.kill(), ann.browser.end()]);
});
