// Runs the checks of a test.

/** Waits for `work`, for at most this many seconds. */
export async function within(seconds, work) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

// Returns a short error text in one line, because a difference of two large messages is long.
const brief = ({ message }) => message.replace(/\s+/g, " ").slice(0, 300);

/** Runs the checks in order, each for at most 20 s. Then calls `end`, and ends this process. */
export async function run(name, checks, end = () => {}) {
  const failed = [];
  for (const [what, check] of Object.entries(checks)) {
    try {
      await within(20, check());
      console.log(`ok    ${name}: ${what}`);
    } catch (error) {
      console.log(`FAIL  ${name}: ${what}: ${brief(error)}`);
      failed.push(what);
    }
  }
  await end();
  if (failed.length) console.log(`${name}: ${failed.length} failed: ${failed.join("; ")}`);
  // Exit explicitly: a connection that hangs would keep the process alive.
  process.exit(failed.length ? 1 : 0);
}
