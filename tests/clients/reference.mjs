// `livedrop.js` with what a browser would have around it. Usage: reference.mjs ADDRESS TOPICS TOKEN. Prints what it hears, one message a line.
import { WebSocket as Socket } from "ws";
import { LiveDrop } from "../../src/http/api/operations/browser/livedrop.js";

const [address, topics, token] = process.argv.slice(2);
globalThis.WebSocket = class extends Socket {
  constructor(url) {
    super(url);
    this.on("error", () => {});
  }
};
const base = `http://${address}`;
const login = { access_token: token, refresh_token: "", user: { id: "", email: "", display_name: "", role: "" } };
const kept = new Map([[`livedrop:${base}:login`, JSON.stringify(login)]]);
const storage = { length: 0, key: () => null, getItem: (name) => kept.get(name) ?? null, setItem: (name, text) => kept.set(name, text), removeItem: (name) => kept.delete(name) };
new LiveDrop({ base, storage }).watch(topics.split(","), (message) => console.log(JSON.stringify(message)));
