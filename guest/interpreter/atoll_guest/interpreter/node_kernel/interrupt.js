"use strict";
// A worker thread that listens for interrupts: the main thread may be in an endless loop. (Node.js' own way, a signal
// with `breakOnSigint`, has moments in which the signal ends the process.)

const inspector = require("node:inspector");
const { parentPort, workerData } = require("node:worker_threads");

const zmtp = require("./zmtp.js");

const SEEN_MS = 100;
const session = new inspector.Session();
session.connectToMainThread();

zmtp.listen(workerData.path, "ROUTER", (parts, answer) => {
  answer(parts);
  Atomics.store(workerData.seen, 0, 0);
  parentPort.postMessage("interrupt");
  // A main thread that waits sees the message at once; one that does not is running code: end that.
  Atomics.wait(workerData.seen, 0, 0, SEEN_MS);
  if (!Atomics.load(workerData.seen, 0)) session.post("Runtime.terminateExecution");
});
