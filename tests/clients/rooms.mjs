// Tests the module in clients/rooms: its cases in Node and in headless Chromium, its size, its types, and its package.
//
//     CHROMIUM=/usr/bin/chromium node rooms.mjs path/to/clients/rooms

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { minify } from "terser";
import { Browser, run } from "./chromium.mjs";

const MAX_SIZE = 6 * 1024;

const folder = resolve(process.argv[2] ?? "../../clients/rooms");
const read = (path) => readFileSync(join(folder, path), "utf8");
const browser = new Browser();

/** Runs all cases. In a page, it is the same function. */
async function runCases(base) {
  const { World } = await import(`${base}/test/world.js`);
  const groups = await import(`${base}/test/cases.js`);
  const results = { passed: 0, failed: [] };
  for (const [name, run] of Object.values(groups).flatMap(Object.entries)) {
    const world = new World();
    try {
      await run(world);
      results.passed++;
    } catch (error) {
      results.failed.push(`${name}: ${error.message}`);
    } finally {
      world.end();
    }
  }
  return results;
}

/** Serves the folder. */
const server = createServer(({ url }, response) => {
  if (url === "/") return response.setHeader("Content-Type", "text/html").end("<!doctype html>");
  if (!url.endsWith(".js")) return response.writeHead(404).end();
  response.setHeader("Content-Type", "text/javascript").end(read(url));
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const base = `http://127.0.0.1:${server.address().port}`;

const checks = {
  "the cases pass in Node": async () => {
    const { passed, failed } = await runCases(pathToFileURL(folder));
    assert.deepEqual(failed, []);
    assert.ok(passed > 50, `${passed} cases`);
  },
  "the cases pass in Chromium": async () => {
    await browser.goto(`${base}/`);
    const { passed, failed } = await browser.evaluate(`(${runCases})(${JSON.stringify(base)})`);
    assert.deepEqual(failed, []);
    assert.ok(passed > 50, `${passed} cases`);
  },
  "the minified module has at most 6 KB": async () => {
    const { code } = await minify(read("rooms.js"), { module: true, compress: { passes: 2 } });
    console.log(`      rooms: ${code.length} bytes minified`);
    assert.ok(code.length <= MAX_SIZE, `${code.length} bytes`);
  },
  "the types compile, and name what the module exports": async () => {
    const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
    execFileSync(process.execPath, [tsc, "--project", join(folder, "test")], { stdio: "inherit" });
    const declared = [...read("rooms.d.ts").matchAll(/^export (?:function|class) (\w+)/gm)].map(([, name]) => name);
    const exported = Object.keys(await import(pathToFileURL(join(folder, "rooms.js"))));
    assert.deepEqual(declared.sort(), exported.sort());
  },
  "the package has what it needs, and no more": async () => {
    const [{ files, name }] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json"], { cwd: folder }));
    const paths = files.map(({ path }) => path).sort();
    assert.deepEqual([name, ...paths], [
      "tower-websocket-rooms", "LICENSE", "README.md", "package.json", "rooms.d.ts", "rooms.js",
    ]);
    assert.deepEqual(JSON.parse(read("package.json")).dependencies, undefined);
  },
};

await run("rooms", browser, checks);
