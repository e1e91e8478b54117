// Tests examples/board with headless Chromium: the page, on links of different speeds.
//
//     CHROMIUM=/usr/bin/chromium node board.mjs http://127.0.0.1:3000/
//
// With SHOTS=DIR it also takes pictures of the page, at 390 and 1280 pixels, light and dark.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Browser, run } from "./chromium.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const browser = new Browser();

const now = async () => (await fetch(new URL("/now", base))).json();
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const click = (speed) => browser.click(`input[value="${speed}"]`);
/** Returns the number of the report that the page shows of each sensor. */
const shown = async () => new Map(await browser.evaluate(
  `[...document.querySelectorAll("#sensors li")].map((li) => [li.querySelector("b").firstChild.data, Number(li.dataset.number)])`,
));
const text = (id) => browser.evaluate(`document.getElementById("${id}").textContent`);
const seconds = async () => Number.parseFloat(await text("oldest"));
const skipped = async () => Number((await text("skipped")).replaceAll(",", ""));

/** Waits until the page shows no reading that is older than those that the server has now. Returns the seconds. */
async function catchUp() {
  const { readings } = await now();
  const start = performance.now();
  for (;;) {
    const page = await shown();
    if (readings.every(({ key, number }) => page.get(key) >= number)) return (performance.now() - start) / 1000;
    await pause(0.02);
  }
}

async function picture(name) {
  if (!process.env.SHOTS) return;
  mkdirSync(process.env.SHOTS, { recursive: true });
  for (const width of [390, 1280]) {
    for (const scheme of ["light", "dark"]) {
      const metrics = { width, height: 844, deviceScaleFactor: 1, mobile: width < 500 };
      await browser.call("Emulation.setDeviceMetricsOverride", metrics);
      await browser.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
      await pause(0.2);
      const { data } = await browser.call("Page.captureScreenshot", { captureBeyondViewport: true });
      writeFileSync(join(process.env.SHOTS, `${name}-${width}-${scheme}.png`), Buffer.from(data, "base64"));
    }
  }
  await browser.call("Emulation.clearDeviceMetricsOverride");
}

const checks = {
  "shows all sensors, none older than a second": async () => {
    await browser.goto(base.href);
    await browser.until(`document.querySelectorAll("#sensors li").length === 50`);
    await pause(1.5);
    assert.ok((await seconds()) < 1, await text("oldest"));
    assert.equal(await skipped(), 0);
    await picture("full");
  },
  "a slow link shows values that are a little older, and no backlog": async () => {
    await click("16");
    await pause(6);
    const before = await shown();
    // 2,000 bytes a second are 33 messages, so a turn of all 50 takes 1.5 s, after at most 0.3 s in the outbox.
    assert.ok((await seconds()) < 4, await text("oldest"));
    const took = await catchUp();
    assert.ok(took < 4, `${took} s`);
    assert.ok((await skipped()) > 200, await text("skipped"));
    assert.ok((await now()).superseded > 200);
    assert.equal(await text("behind"), "1 of 1");
    const after = await shown();
    for (const [key, number] of before) assert.ok(after.get(key) > number, `${key} stays at ${number}`);
    console.log(`      board: at 16 kbit/s it is up to date ${took.toFixed(1)} s later`);
    await picture("slow");
  },
  "after a tunnel, the newest values come at once": async () => {
    await click("full");
    await pause(1);
    await browser.click("#tunnel");
    await pause(4);
    const stale = await seconds();
    assert.ok(stale > 3, `${stale} s`);
    await picture("tunnel");
    await browser.until(`!document.querySelector("#tunnel").disabled`);
    const took = await catchUp();
    assert.ok(took < 2, `${took} s`);
    await pause(1);
    assert.ok((await seconds()) < 1, await text("oldest"));
    console.log(`      board: ${stale} s old in the tunnel, and up to date ${took.toFixed(2)} s after it`);
  },
  "the page reported no error": async () => {
    const errors = browser.events
      .filter(({ method, params }) => method === "Runtime.exceptionThrown" || params.entry?.level === "error")
      .map(({ params }) => params.entry?.text ?? params.exceptionDetails.text);
    assert.deepEqual(errors, []);
  },
};

await run("board", browser, checks);
