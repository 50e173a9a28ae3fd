"use strict";
// Code → value. V8's inspector in console mode gives what a notebook needs: top-level await, and declarations that live
// on and may be repeated. It hands out handles; the value itself is fetched by a function called inside.

const inspector = require("node:inspector");

const TERMINATED = "Execution was terminated";
let give = null;
Object.defineProperty(globalThis, Symbol.for("atoll.give"), { get: () => give });

class Interrupted extends Error {
  constructor() {
    super("Execution interrupted");
    this.name = "KeyboardInterrupt";
    this.stack = "KeyboardInterrupt: Execution interrupted";
  }
}

class Evaluator {
  constructor() {
    this.session = new inspector.Session();
    this.session.connect();
    this.interruptWaiting = null;
    this.session.post("Runtime.evaluate", { expression: "globalThis" }, (_error, answer) => {
      this.globalId = answer.result.objectId;
    });
  }

  /** The value of the last expression; rejects with what the code threw, or Interrupted. */
  async run(code) {
    const interrupted = new Promise((_resolve, reject) => {
      this.interruptWaiting = () => setImmediate(reject, new Interrupted());
    });
    interrupted.catch(() => {});
    try {
      const { result, exceptionDetails } = await Promise.race([this.evaluate(code), interrupted]);
      if (exceptionDetails) throw this.value(exceptionDetails.exception || { value: exceptionDetails.text });
      return this.value(result);
    } finally {
      this.interruptWaiting = null;
      this.session.post("Runtime.releaseObjectGroup", { objectGroup: "atoll" });
    }
  }

  evaluate(expression) {
    const options = { expression, replMode: true, awaitPromise: true, objectGroup: "atoll" };
    return new Promise((resolve, reject) => {
      // In a turn of its own: what follows an ended execution in the same turn is ended with it.
      const settle = (error, answer) => {
        if (!error) resolve(answer);
        else reject(error.message === TERMINATED ? new Interrupted() : new Error(error.message));
      };
      this.session.post("Runtime.evaluate", options, (...outcome) => setImmediate(settle, ...outcome));
    });
  }

  /** The value behind a handle. */
  value(handle) {
    if (!handle.objectId && !("unserializableValue" in handle)) return handle.value;
    let found;
    give = (value) => (found = value);
    this.session.post("Runtime.callFunctionOn", {
      objectId: this.globalId,
      functionDeclaration: "function (value) { this[Symbol.for('atoll.give')](value); }",
      arguments: [handle.objectId ? { objectId: handle.objectId } : { unserializableValue: handle.unserializableValue }],
    });
    give = null;
    return found;
  }

  /** For code that waits for a promise; running code is ended by the engine (see interrupt.js). */
  interrupt() {
    if (this.interruptWaiting) this.interruptWaiting();
  }
}

module.exports = { Evaluator };
