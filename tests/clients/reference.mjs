// The browser's client of docs/REALTIME.md, to the letter, with what a browser would have around it.
// Usage: reference.mjs ADDRESS TOPICS TOKEN. Prints what it hears, one message a line.
import { readFileSync } from "node:fs";
import { WebSocket as Socket } from "ws";

const [address, topics, token] = process.argv.slice(2);
const page = readFileSync(new URL("../../docs/REALTIME.md", import.meta.url), "utf8");
const source = /```js\n([^]*?)```/.exec(page)[1];
const location = { host: address };
const inPage = (path, options) => fetch(`http://${address}${path}`, options);
class WebSocket extends Socket {
  constructor(url) {
    // Pages of the real site are served over TLS.
    super(url.replace("wss:", "ws:"));
    this.on("error", () => {});
  }
}
const listen = new Function("location", "fetch", "WebSocket", `${source}; return listen;`)(location, inPage, WebSocket);
const print = (message) => console.log(JSON.stringify(message));
await listen(topics.split(","), print, token && (async () => token));
