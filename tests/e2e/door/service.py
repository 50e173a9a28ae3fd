"""Runs inside a sandbox: one small HTTP server on several addresses, standard library only.

    service.py ADDRESS:PORT[:tls]…

/headers  the request's headers as JSON          /echo      what was posted
/events   server-sent events: one at once, then one for every line that arrives at /say
/ws       a WebSocket that sends back every message        /bytes?N   N zero bytes
"""

import asyncio
import base64
import hashlib
import json
import ssl
import subprocess
import sys

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
said = asyncio.Condition()
lines = []


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            target = first.split(" ")[1]
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in rest if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path, _, query = target.partition("?")
            await ROUTES.get(path, missing)(reader, writer, headers, body, query)
    except (OSError, EOFError):
        pass
    finally:
        writer.close()


async def answer(writer, body, kind="text/plain"):
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body)
    await writer.drain()


async def headers(reader, writer, headers, body, query):
    await answer(writer, json.dumps(headers).encode(), "application/json")


async def echo(reader, writer, headers, body, query):
    await answer(writer, body)


async def missing(reader, writer, headers, body, query):
    await answer(writer, b"hello")


async def say(reader, writer, headers, body, query):
    async with said:
        lines.append(body.decode())
        said.notify_all()
    await answer(writer, b"ok")


async def events(reader, writer, headers, body, query):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    seen = len(lines)
    left = asyncio.create_task(reader.read())
    left.add_done_callback(lambda _: writer.transport.abort())
    event(writer, "open")
    while True:
        await writer.drain()
        async with said:
            while len(lines) == seen:
                await said.wait()
        for line in lines[seen:]:
            event(writer, line)
            seen += 1


def event(writer, text):
    data = f"data: {text}\n\n".encode()
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def send_bytes(reader, writer, headers, body, query):
    left = int(query)
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
    piece = bytes(256 * 1024)
    while left:
        writer.write(piece[:left])
        left -= min(left, len(piece))
        await writer.drain()


async def websocket(reader, writer, headers, body, query):
    proof = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + MAGIC).digest()).decode()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {proof}\r\n\r\n".encode()
    )
    while True:
        first, size = await reader.readexactly(2)
        size &= 0x7F
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        mask = await reader.readexactly(4)
        data = bytes(b ^ mask[i % 4] for i, b in enumerate(await reader.readexactly(size)))
        length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
        writer.write(bytes([first]) + length + data)
        await writer.drain()
        if first & 0x0F == 8:
            raise EOFError


ROUTES = {
    "/headers": headers,
    "/echo": echo,
    "/say": say,
    "/events": events,
    "/bytes": send_bytes,
    "/ws": websocket,
}


def certificate():
    openssl = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=inside -keyout key.pem -out cert.pem"
    subprocess.run(openssl.split(), check=True, stderr=subprocess.DEVNULL)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain("cert.pem", "key.pem")
    return context


async def main(places):
    for place in places:
        address, port, *tls = place.split(":")
        await asyncio.start_server(serve, address, int(port), ssl=certificate() if tls else None, backlog=512)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1:]))
