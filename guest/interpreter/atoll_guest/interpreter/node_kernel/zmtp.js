"use strict";
// ZMTP 3.0, listening side, NULL security, over unix sockets (ZeroMQ RFC 23). A ROUTER or PUB with few peers.

const fs = require("node:fs");
const net = require("node:net");

const GREETING = Buffer.concat([
  Buffer.from([0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0]),
  Buffer.from("NULL".padEnd(20, "\0")),
  Buffer.alloc(32),
]);
const MORE = 1, LONG = 2, COMMAND = 4;
const pause = new Int32Array(new SharedArrayBuffer(4));

function ready(socketType) {
  const property = (name, value) => {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(value.length);
    return Buffer.concat([Buffer.from([name.length]), Buffer.from(name), size, Buffer.from(value)]);
  };
  const body = Buffer.concat([Buffer.from("\x05READY"), property("Socket-Type", socketType), property("Identity", "")]);
  return Buffer.concat([Buffer.from([COMMAND, body.length]), body]);
}

function encode(parts) {
  const pieces = [];
  parts.forEach((part, index) => {
    const flags = index < parts.length - 1 ? MORE : 0;
    if (part.length > 255) {
      const head = Buffer.alloc(9);
      head[0] = flags | LONG;
      head.writeBigUInt64BE(BigInt(part.length), 1);
      pieces.push(head, part);
    } else {
      pieces.push(Buffer.from([flags, part.length]), part);
    }
  });
  return Buffer.concat(pieces);
}

class Decoder {
  constructor() {
    this.buffer = Buffer.alloc(0);
    this.parts = [];
    this.greeted = false;
  }

  /** Whole messages that `data` completes. */
  feed(data) {
    this.buffer = this.buffer.length ? Buffer.concat([this.buffer, data]) : data;
    const messages = [];
    if (!this.greeted) {
      if (this.buffer.length < GREETING.length) return messages;
      this.buffer = this.buffer.subarray(GREETING.length);
      this.greeted = true;
    }
    for (;;) {
      if (this.buffer.length < 2) return messages;
      const flags = this.buffer[0];
      const start = flags & LONG ? 9 : 2;
      if (this.buffer.length < start) return messages;
      const size = flags & LONG ? Number(this.buffer.readBigUInt64BE(1)) : this.buffer[1];
      if (this.buffer.length < start + size) return messages;
      const body = this.buffer.subarray(start, start + size);
      this.buffer = this.buffer.subarray(start + size);
      if (flags & COMMAND) continue;
      this.parts.push(body);
      if (!(flags & MORE)) {
        messages.push(this.parts);
        this.parts = [];
      }
    }
  }
}

/** Listen on a path. `onMessage(parts, answer)` gets each message and a function that answers its sender. */
function listen(path, socketType, onMessage) {
  const peers = new Set();
  const server = net.createServer((socket) => {
    const decoder = new Decoder();
    socket.write(Buffer.concat([GREETING, ready(socketType)]));
    socket.on("data", (data) => {
      for (const parts of decoder.feed(data)) {
        peers.add(socket); // a subscription, or a request: from now on it may be sent to
        onMessage(parts, (answer) => writeAll(socket, encode(answer)));
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => peers.delete(socket));
  });
  server.listen(path);
  return {
    /** To every peer; returns when the operating system has taken it all, so code that prints waits for a slow reader. */
    publish(parts) {
      const data = encode(parts);
      for (const socket of peers) writeAll(socket, data);
    },
  };
}

function writeAll(socket, data) {
  const descriptor = socket._handle && socket._handle.fd;
  let offset = 0;
  while (descriptor >= 0 && offset < data.length) {
    try {
      offset += fs.writeSync(descriptor, data, offset);
    } catch (error) {
      if (error.code !== "EAGAIN") return; // the reader has gone
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}

module.exports = { listen };
