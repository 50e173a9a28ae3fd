"use strict";
// node main.js LANGUAGE CONNECTION_FILE: serve one client until killed.

const crypto = require("node:crypto");
const fs = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");
const util = require("node:util");
const vm = require("node:vm");
const { Worker } = require("node:worker_threads");

const { Evaluator } = require("./evaluate.js");
const { rewriteModules, stripTypes } = require("./rewrite.js");
const zmtp = require("./zmtp.js");

const [, , language, connectionFile] = process.argv;
const connection = JSON.parse(fs.readFileSync(connectionFile, "utf8"));
const amaro = language === "typescript" ? require(process.env.ATOLL_AMARO) : null;
delete process.env.ATOLL_AMARO;
process.argv.length = 1;

const DELIMITER = Buffer.from("<IDS|MSG>");
const IMAGES = { png: "image/png", jpeg: "image/jpeg", svg: "image/svg+xml", html: "text/html", json: "application/json" };
const evaluator = new Evaluator();
let parent = {};
let count = 0;
let silent = false;
let serving = false;
const waiting = [];

function frames(kind, content) {
  const header = {
    msg_id: crypto.randomUUID(), msg_type: kind, session: "node", username: "user",
    date: new Date().toISOString(), version: "5.3",
  };
  return [DELIMITER, Buffer.alloc(0), ...[header, parent, {}, content].map((part) => Buffer.from(JSON.stringify(part)))];
}

const output = zmtp.listen(`${connection.ip}-${connection.iopub_port}`, "PUB", () => {});
const publish = (kind, content) => output.publish([Buffer.from(kind), ...frames(kind, content)]);

zmtp.listen(`${connection.ip}-${connection.shell_port}`, "ROUTER", (parts, answer) => {
  const start = parts.findIndex((part) => part.equals(DELIMITER));
  const header = JSON.parse(parts[start + 2]);
  const content = JSON.parse(parts[start + 5]);
  waiting.push([header, content, answer]);
  serveNext();
});

function serveNext() {
  if (serving || !waiting.length) return;
  serving = true;
  serve(...waiting.shift()).finally(() => {
    serving = false;
    setImmediate(serveNext);
  });
}

async function serve(header, content, answer) {
  parent = header;
  publish("status", { execution_state: "busy" });
  if (header.msg_type === "kernel_info_request") {
    const info = { name: language, version: process.versions.node, mimetype: "text/javascript", file_extension: ".js" };
    answer(frames("kernel_info_reply", {
      status: "ok", protocol_version: "5.3", implementation: "atoll_node", implementation_version: "1",
      language_info: info, banner: `Node.js ${process.version}`,
    }));
  } else if (header.msg_type === "execute_request") {
    answer(frames("execute_reply", await execute(content)));
  } else {
    answer(frames(header.msg_type.replace("_request", "_reply"), { status: "error", ename: "NotSupported" }));
  }
  publish("status", { execution_state: "idle" });
}

async function execute(content) {
  silent = content.silent;
  if (!silent) publish("execute_input", { code: content.code, execution_count: ++count });
  try {
    const source = rewriteModules(amaro ? stripTypes(content.code, amaro) : content.code);
    const value = await evaluator.run(source);
    if (!silent && value !== undefined) publish("execute_result", { execution_count: count, data: bundle(value), metadata: {} });
    return { status: "ok", execution_count: count, user_expressions: {} };
  } catch (error) {
    const failure = describe(error);
    if (!silent) publish("error", failure);
    return { status: "error", execution_count: count, ...failure };
  }
}

function describe(error) {
  if (!(error instanceof Error) && !(error && typeof error.stack === "string")) {
    const text = util.inspect(error);
    return { ename: "Error", evalue: text, traceback: [`Uncaught ${text}`] };
  }
  const all = String(error.stack).split("\n");
  const ours = all.findIndex((line) => /^\s+at .*(node_kernel|node:inspector)/.test(line));
  const lines = ours < 0 ? all : all.slice(0, Math.max(ours, 1));
  const rest = lines.slice(0, -1).map((line) => line + "\n");
  return { ename: String(error.name), evalue: String(error.message), traceback: [...rest, lines[lines.length - 1] || ""] };
}

/** MIME bundle of a value: Jupyter's and IJavascript's conventions, else its text. */
function bundle(value) {
  const text = typeof value === "string" ? value : util.inspect(value, { maxArrayLength: null, maxStringLength: null });
  const found = { "text/plain": text };
  try {
    if (value && typeof value[Symbol.for("Jupyter.display")] === "function") return value[Symbol.for("Jupyter.display")]();
    if (value && typeof value._toMime === "function") return { ...found, ...value._toMime() };
    for (const [name, mime] of Object.entries(IMAGES)) {
      const method = "_to" + name[0].toUpperCase() + name.slice(1);
      if (value && typeof value[method] === "function") found[mime] = value[method]();
    }
  } catch {
    // a value without that form has just not that form
  }
  return found;
}

// --- what the code finds

const show = (data) => publish("display_data", { data, metadata: {}, transient: {} });
const tools = { mime: show, text: (value) => show({ "text/plain": String(value) }) };
for (const [name, mime] of Object.entries(IMAGES)) tools[name] = (value) => show({ [mime]: value });
const here = path.join(process.cwd(), "[code]");
globalThis.require = createRequire(here);
globalThis.display = (value) => show(bundle(value));
globalThis.$$ = tools;
globalThis[Symbol.for("atoll.import")] = new vm.Script("(name) => import(name)", {
  filename: here,
  importModuleDynamically: vm.constants && vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
}).runInThisContext();

for (const name of ["stdout", "stderr"]) {
  process[name].write = (chunk, encoding, callback) => {
    const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8");
    if (text && !silent) publish("stream", { name, text });
    const done = typeof encoding === "function" ? encoding : callback;
    if (done) process.nextTick(done);
    return true;
  };
}

const seen = new Int32Array(new SharedArrayBuffer(4));
const listener = new Worker(path.join(__dirname, "interrupt.js"), {
  workerData: { path: `${connection.ip}-${connection.control_port}`, seen },
  stdin: false, stdout: true, stderr: true, resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 },
});
listener.on("message", () => {
  Atomics.store(seen, 0, 1);
  Atomics.notify(seen, 0);
  evaluator.interrupt();
});
process.on("SIGINT", () => {}); // interrupts come as messages
process.on("uncaughtException", (error) => process.stderr.write(describe(error).traceback.join("") + "\n"));
process.on("unhandledRejection", (error) => process.stderr.write(describe(error).traceback.join("") + "\n"));
