// An EventSource as browsers have it: it comes back by itself, with `Last-Event-ID`. Usage: eventsource.mjs ADDRESS TOPICS.
// Prints what it hears, one message a line.
import { EventSource } from "eventsource";

const [address, topics] = process.argv.slice(2);
const source = new EventSource(`http://${address}/api/v1/notifications/stream?topics=${topics}`);
for (const kind of ["hello", "snapshot", "subscribed", "drop_started", "restocked", "drop_ended", "close"]) {
  source.addEventListener(kind, (event) => console.log(event.data));
}
