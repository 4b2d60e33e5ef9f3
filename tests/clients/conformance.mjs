// What Node's `ws` thinks of the server. Usage: conformance.mjs ADDRESS DROP.
import assert from "node:assert/strict";
import { on, once } from "node:events";
import { WebSocket } from "ws";

const [address, drop] = process.argv.slice(2);
const url = `ws://${address}/api/v1/notifications`;
setTimeout(() => assert.fail("it takes too long"), 120_000).unref();

const open = async () => {
  const socket = new WebSocket(url);
  // From here on none is missed, whenever it is asked for.
  socket.messages = on(socket, "message");
  await until(socket, "hello");
  return socket;
};
const until = async (socket, type) => {
  for (;;) {
    const { value } = await socket.messages.next();
    const message = JSON.parse(value[0]);
    if (message.type === type) return message;
  }
};
const closes = async (socket, code) => {
  const [got, reason] = await once(socket, "close");
  assert.equal(got, code, `${got} ${reason}`);
};

let socket = await open();
socket.send('{"op":"subscribe",', { fin: false });
socket.ping("between");
assert.equal((await once(socket, "pong"))[0].toString(), "between");
const subscribed = until(socket, "subscribed");
socket.send(`"topics":["drop:${drop}"]}`, { fin: true });
assert.deepEqual((await subscribed).topics, [{ topic: `drop:${drop}`, recovered: false }]);
socket.close(1000, "bye");
await closes(socket, 1000);

socket = await open();
socket.close(4999);
await closes(socket, 4999);

for (const [code, send] of [
  [1009, (s) => s.send("x".repeat((64 << 10) + 1))],
  [4400, (s) => s.send(Buffer.from("{}"), { binary: true })],
  [4400, (s) => s.send("[]")],
  [1007, (s) => s.send(Buffer.from([0xc3, 0x28]), { binary: false })],
  [1002, (s) => s._socket.write(Buffer.from([0xc1, 0x80, 0, 0, 0, 0]))],
  [1002, (s) => s._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]))],
]) {
  socket = await open();
  const closed = closes(socket, code);
  send(socket);
  await closed;
}
console.log("ws: as it should be");
process.exit(0);
