// Drives a real Chromium for tests in Rust: reads commands from its standard input, one JSON object a line, and answers each on its output.
// Usage: chromium.mjs EXECUTABLE. It serves an empty page besides, for pages of another origin than the server's.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const host = createServer((request, response) => {
  response.setHeader("content-type", "text/html; charset=utf-8");
  response.end("<!doctype html><title>shop</title>");
});
await new Promise((resolve) => host.listen(0, "127.0.0.1", resolve));

// Names below `.test` are this machine, over plain HTTP: to a page there much is missing that a page on `localhost` has.
const options = ["--disable-quic", "--disable-background-networking", "--host-resolver-rules=MAP *.test 127.0.0.1"];
const browser = await chromium.launch({ executablePath: process.argv[2], args: options, chromiumSandbox: false });
const contexts = new Map();
const pages = new Map();

const commands = {
  // A page of a profile; pages of one profile share what they store. `first` runs before every script of the page.
  async open({ page, profile, url, first }) {
    if (!contexts.has(profile)) contexts.set(profile, await browser.newContext());
    const opened = await contexts.get(profile).newPage();
    opened.on("pageerror", (error) => console.error(`page ${page}: ${error}`));
    if (first) await opened.addInitScript(first);
    pages.set(page, opened);
    await opened.goto(url);
  },
  // The value of an asynchronous function's body.
  run: ({ page, script }) => pages.get(page).evaluate(`(async () => { ${script} })()`),
  reload: ({ page }) => pages.get(page).reload(),
};

const answer = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
answer({ port: host.address().port });
for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...rest } = JSON.parse(line);
  try {
    const value = await commands[command](rest);
    answer({ id, value: command === "run" ? value : null });
  } catch (error) {
    answer({ id, error: String(error) });
  }
}
await browser.close();
process.exit();
