"""What Python's `websockets` thinks of the server: fragments, pings, closes, sizes, text that is none.

Usage: conformance.py ADDRESS DROP. Exits with an error at the first thing that is not as RFC 6455 and docs/REALTIME.md say.
"""

import asyncio
import json
import os
import socket
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

ADDRESS, DROP = sys.argv[1:]
URI = f"ws://{ADDRESS}/api/v1/notifications"


async def until(ws, kind):
    while True:
        message = json.loads(await asyncio.wait_for(ws.recv(), 30))
        if message["type"] == kind:
            return message


async def closes(ws, code, retry=False):
    try:
        while True:
            await asyncio.wait_for(ws.recv(), 30)
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd is not None, f"no close frame, but {code}"
        assert closed.rcvd.code == code, f"{closed.rcvd.code} and not {code}"
        reason = json.loads(closed.rcvd.reason)
        assert ("retry_ms" in reason) == retry, reason


async def raw(ws, send):
    """Past the library's own checks."""
    async with ws.send_context():
        send(ws.protocol)


async def fragments():
    async with connect(URI) as ws:
        await until(ws, "hello")
        await ws.send(iter(['{"op":"sub', 'scribe","topics":', f'["drop:{DROP}"]', "}"]))
        assert (await until(ws, "snapshot"))["drops"][0]["drop_id"] == DROP
        await until(ws, "subscribed")
        # A control frame may come between fragments, and a character may be cut in two.
        await raw(ws, lambda protocol: protocol.send_text(b'{"op":"p', fin=False))
        pong = await ws.ping(b"between")
        await asyncio.wait_for(pong, 30)
        await raw(ws, lambda protocol: protocol.send_continuation(b'ing"}', fin=True))
        await until(ws, "pong")
        word = '{"op":"é"}'.encode()
        await raw(ws, lambda protocol: protocol.send_text(word[:8], fin=False))
        await raw(ws, lambda protocol: protocol.send_continuation(word[8:], fin=True))
        assert (await until(ws, "error"))["code"] == "validation_failed"
        await closes(ws, 4400)


async def pings():
    async with connect(URI) as ws:
        for payload in [b"", b"x" * 125]:
            pong = await ws.ping(payload)
            await asyncio.wait_for(pong, 30)


async def normal_close():
    ws = await connect(URI)
    await until(ws, "hello")
    await ws.close(1000, "bye")
    assert ws.close_code == 1000, ws.close_code
    ws = await connect(URI)
    await ws.close(3000)
    assert ws.close_code == 3000, ws.close_code


async def refused(code, send):
    ws = await connect(URI)
    await until(ws, "hello")
    await raw(ws, send)
    await closes(ws, code)


async def sizes():
    async with connect(URI, max_size=None) as ws:
        await ws.send(json.dumps({"op": "ping"}).ljust(64 << 10))
        await until(ws, "pong")
        await ws.send(" " * ((64 << 10) + 1))
        await closes(ws, 1009)
    async with connect(URI) as ws:
        await ws.send(iter([" " * 40_000, " " * 40_000]))
        await closes(ws, 1009)


def unmasked():
    """A client that does not mask is cut off (RFC 6455, section 5.1). No library would send that."""
    host, port = ADDRESS.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as stream:
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        stream.sendall(
            f"GET /api/v1/notifications HTTP/1.1\r\nHost: {ADDRESS}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        stream.sendall(b"\x81\x02{}")
        received = b""
        while chunk := stream.recv(4096):
            received += chunk
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in received, "the key's answer of RFC 6455"
        assert received[received.rindex(b"\x88") + 2 :][:2] == (1002).to_bytes(2), received


async def main():
    await fragments()
    await pings()
    await normal_close()
    await refused(1007, lambda protocol: protocol.send_text(b"\xff\xfe"))
    await refused(1002, lambda protocol: protocol.send_frame(Frame(Opcode.CONT, b"x")))
    await refused(4400, lambda protocol: protocol.send_binary(b"{}"))
    await refused(4400, lambda protocol: protocol.send_text(b"{nonsense"))
    await refused(4401, lambda protocol: protocol.send_text(b'{"op":"auth","token":"a.b.c"}'))
    await sizes()
    await asyncio.to_thread(unmasked)
    print(f"websockets {websockets.__version__}: as it should be")


asyncio.run(asyncio.wait_for(main(), float(os.environ.get("PATIENCE", "120"))))
