// Checks a page for people who see badly or use the keyboard: contrasts, the order of the focus, and names.

const resize = (browser, width) =>
  browser.call("Emulation.setDeviceMetricsOverride", { width, height: 800, deviceScaleFactor: 1, mobile: false });

/** Returns the texts whose contrast is below 4.5 (WCAG 2.2, 1.4.3), with it. All are judged as small ones. */
export async function contrasts(browser, width, scheme) {
  await resize(browser, width);
  await browser.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  const weak = await browser.evaluate(`(${weakTexts})()`);
  await browser.call("Emulation.setEmulatedMedia", { features: [] });
  return weak;
}

/** Runs in the page. */
function weakTexts() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  // The canvas turns every notation of a colour into numbers.
  const numbers = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (color) => {
    const [red, green, blue] = numbers(color).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (numbers(color)[3] === 255) return color;
    }
    return "Canvas";
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const weak = [];
  const judge = (element, what, ...pseudo) => {
    const color = getComputedStyle(element, ...pseudo).color;
    const own = getComputedStyle(element, ...pseudo).backgroundColor;
    const behind = pseudo.length && numbers(own)[3] === 255 ? own : background(element);
    const result = contrast(color, behind);
    if (result < 4.5) weak.push(`${what}: ${result.toFixed(2)} of ${color} on ${behind}`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { parentElement, textContent } = texts.currentNode;
    if (textContent.trim() && parentElement.checkVisibility()) judge(parentElement, textContent.trim());
  }
  for (const field of document.querySelectorAll("[placeholder]")) judge(field, field.placeholder, "::placeholder");
  for (const item of document.querySelectorAll("[data-initial]")) judge(item, item.dataset.initial, "::before");
  return weak;
}

/** Returns the elements that Tab reaches, from the start of the page: their addresses, ids, labels or texts. */
export async function focusOrder(person, width) {
  const { browser } = person;
  await resize(browser, width);
  // Tab goes on from the last focus, also without a focus now.
  await browser.evaluate(`document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute("tabindex")`);
  const order = [];
  for (;;) {
    await person.press("Tab");
    const [at, hasRing] = await browser.evaluate(`(() => {
      const one = document.activeElement;
      const name = one.getAttribute("href") ?? (one.id || (one.ariaLabel ?? one.textContent));
      return [one === document.body ? null : name, one.matches(":focus-visible")];
    })()`);
    if (at === null || order.includes(at) || order.length > 50) return order;
    if (!hasRing) throw new Error(`${at} has no focus ring`);
    order.push(at);
  }
}

/** Returns the roles of controls without a name, and the names of logs, as a screen reader gets them. */
export async function namelessControls(browser) {
  await browser.call("Accessibility.enable");
  const { nodes } = await browser.call("Accessibility.getFullAXTree");
  const shown = nodes.filter(({ ignored }) => !ignored);
  const controls = shown.filter(({ role }) => ["button", "link", "textbox", "log", "dialog"].includes(role.value));
  const nameless = controls.filter(({ name }) => !name?.value).map(({ role }) => role.value);
  return { nameless, log: controls.filter(({ role }) => role.value === "log").map(({ name }) => name.value) };
}
