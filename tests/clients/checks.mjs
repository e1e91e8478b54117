// Runs the checks of a test that needs no browser.

/** Runs the checks in order, each for at most 20 s, and then ends this process. */
export async function run(name, checks) {
  const failed = [];
  for (const [what, check] of Object.entries(checks)) {
    let timer;
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("not done within 20 s")), 20_000);
    });
    try {
      await Promise.race([check(), timeout]);
      console.log(`ok    ${name}: ${what}`);
    } catch (error) {
      console.log(`FAIL  ${name}: ${what}: ${error.message.replace(/\s+/g, " ").slice(0, 300)}`);
      failed.push(what);
    } finally {
      clearTimeout(timer);
    }
  }
  if (failed.length) console.log(`${name}: ${failed.length} failed: ${failed.join("; ")}`);
  // Exit explicitly: a connection that hangs would keep the process alive.
  process.exit(failed.length ? 1 : 0);
}
