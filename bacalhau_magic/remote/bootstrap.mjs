/* Runs a JavaScript or TypeScript cell in a job: `node .bacalhau/bootstrap.mjs OUTPUTS`; the rest stands in request.json
 * beside it. Two processes, as in bootstrap.py: this one owns the real stdout, copies what the cell writes and writes
 * the packets; the cell runs as an ES module in a child. The module's file is copied into the work folder, so that
 * `./inputs/x.mjs` can be imported and line numbers are the cell's own. Node.js 18 or newer; 22.18 for TypeScript.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import util from "node:util";
import zlib from "node:zlib";

const OWN = fileURLToPath(import.meta.url);
const HERE = path.dirname(OWN);
const PIECE = 12000;
const GRACE = 250;
const LAST = 2000;
const WHY_KILLED = { SIGKILL: ", as happens when memory runs out" };

function readRequest() {
  return JSON.parse(fs.readFileSync(path.join(HERE, "request.json"), "utf8"));
}

function writeAll(fd, data) {
  let at = 0;
  while (at < data.length) {
    try {
      at += fs.writeSync(fd, data, at);
    } catch (error) {
      if (error.code === "EPIPE") return; // nobody reads the log; the cell still runs to its end
      if (error.code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
    }
  }
}

class Recorder {
  constructor(nonce, limit, streams = {}, redactor = null) {
    this.nonce = nonce;
    this.streams = streams;
    this.redactor = redactor;
    this.seq = 0;
    this.atLineStart = true;
    this.kept = { stdout: [], stderr: [] };
    this.room = { stdout: limit, stderr: limit };
    this.truncated = new Set();
  }

  copy(stream, data, last = false) {
    if (this.streams[stream]) data = this.streams[stream].feed(data, last);
    if (!data.length) return;
    if (stream === "stdout") this.atLineStart = data[data.length - 1] === 10;
    writeAll(stream === "stdout" ? 1 : 2, data);
    const room = this.room[stream];
    if (data.length > room) this.truncated.add(stream);
    if (room) this.kept[stream].push(Buffer.from(data.subarray(0, room)));
    this.room[stream] = Math.max(0, room - data.length);
  }

  packet(kind, payload) {
    const sum = createHash("sha256").update(payload).digest("hex").slice(0, 16);
    const flag = this.atLineStart ? "-" : "n";
    const line = `@bacalhau ${this.nonce} ${this.seq} ${kind} ${flag} ${sum} ${payload.toString("base64")}\n`;
    writeAll(1, Buffer.from(this.atLineStart ? line : "\n" + line));
    this.seq += 1;
    this.atLineStart = true;
  }

  started(language) {
    this.packet("s", Buffer.from(JSON.stringify({ language, version: process.versions.node })));
  }

  blob(header) {
    for (const stream of Object.keys(this.streams)) this.copy(stream, Buffer.alloc(0), true);
    if (this.redactor) header = this.redactor.facts(header);
    const parts = ["stdout", "stderr"].map((name) => [name, Buffer.concat(this.kept[name])]);
    header.parts = parts.map(([name, data]) => ({ name, size: data.length }));
    header.truncated = [...this.truncated];
    const head = Buffer.from(JSON.stringify(header));
    const size = Buffer.alloc(4);
    size.writeUInt32BE(head.length);
    const whole = Buffer.concat([Buffer.from("BMR1"), size, head, ...parts.map(([, data]) => data)]);
    const blob = zlib.deflateSync(whole, { level: 1 });
    let pieces = 0;
    for (let at = 0; at < blob.length; at += PIECE, pieces++) this.packet("d", blob.subarray(at, at + PIECE));
    const sha256 = createHash("sha256").update(blob).digest("hex");
    this.packet("e", Buffer.from(JSON.stringify({ size: blob.length, sha256, pieces })));
  }
}

/** A recorder that takes the job's secrets out of what it copies, where the job has some. */
async function makeRecorder(request) {
  if (!request.secrets?.length) return new Recorder(request.nonce, request.max_result);
  const { Stream, ofJob } = await import(pathToFileURL(path.join(HERE, "redaction.mjs")).href);
  const redactor = ofJob(request);
  const streams = { stdout: new Stream(redactor), stderr: new Stream(redactor) };
  return new Recorder(request.nonce, request.max_result, streams, redactor);
}

function makeWork(given) {
  let work;
  for (const parent of [os.tmpdir(), "/tmp", "/var/tmp", process.cwd()]) {
    try {
      work = path.join(parent, "work-" + randomBytes(8).toString("hex"));
      fs.mkdirSync(work, { mode: 0o700 });
      break;
    } catch {
      work = undefined;
    }
  }
  if (!work) throw new Error("bacalhau: no writable folder for the cell");
  const kind = process.platform === "win32" ? "junction" : "dir";
  let outputs = given;
  try {
    fs.mkdirSync(outputs, { recursive: true });
    fs.symlinkSync(path.resolve(outputs), path.join(work, "outputs"), kind);
  } catch {
    outputs = path.join(work, "outputs");
    fs.mkdirSync(outputs, { recursive: true });
  }
  fs.symlinkSync(path.dirname(HERE), path.join(work, "inputs"), kind);
  return work;
}

function stripsTypes() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  return major > 23 || (major === 22 && minor >= 18) || (major === 23 && minor >= 6);
}

/** Runs the cell's child; resolves with how it ended. */
function runChild(request, work, recorder) {
  return new Promise((resolve) => {
    const typed = request.file.endsWith("ts");
    const flags = typed ? ["--disable-warning=ExperimentalWarning"] : [];
    const child = spawn(process.execPath, [...flags, OWN, "--cell", work], {
      cwd: work,
      detached: process.platform !== "win32",
      stdio: ["ignore", "pipe", "pipe", "pipe"],
    });
    const kill = () => {
      try {
        process.kill(process.platform === "win32" ? child.pid : -child.pid, "SIGKILL");
      } catch {
        /* it is gone */
      }
    };
    for (const name of ["SIGTERM", "SIGHUP"]) {
      process.on(name, () => {
        kill();
        process.exit(143);
      });
    }
    const said = [];
    let begun = process.hrtime.bigint();
    let timedOut = false;
    let timer, patience, over;
    const finish = () => {
      clearTimeout(timer);
      clearTimeout(patience);
      for (const stream of [child.stdout, child.stderr, child.stdio[3]]) stream.destroy();
      kill(); // what outlived the cell
      resolve({ ...over, timedOut, said: Buffer.concat(said), seconds: Number(process.hrtime.bigint() - begun) / 1e9 });
    };
    const patient = () => {
      if (!over) return;
      clearTimeout(patience);
      const left = over.at + LAST - Date.now();
      patience = setTimeout(finish, Math.max(0, Math.min(GRACE, left)));
    };
    child.stdio[3].on("data", (data) => {
      if (!said.length) {
        begun = process.hrtime.bigint();
        recorder.started(request.language);
        if (request.timeout) {
          timer = setTimeout(() => {
            timedOut = true;
            kill();
          }, Math.min(request.timeout * 1000, 2 ** 31 - 1));
        }
      }
      said.push(data);
    });
    for (const stream of ["stdout", "stderr"]) {
      child[stream].on("data", (data) => {
        recorder.copy(stream, data);
        patient();
      });
    }
    child.on("error", (error) => {
      over = { code: 70, signal: null, problem: String(error), at: Date.now() };
      finish();
    });
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      over = { code, signal, at: Date.now() };
      patient();
    });
    child.on("close", () => {
      if (over) finish();
    });
  });
}

function verdict(request, ended) {
  const header = { outcome: "ok", exit_code: 0, error: null, unsendable: {}, missing: [], displays: [], python: "" };
  let error;
  try {
    error = JSON.parse(ended.said.subarray(1).toString("utf8") || "null");
  } catch {
    error = null;
  }
  if (ended.timedOut) {
    const evalue = `The cell ran longer than its time limit of ${request.timeout} seconds.`;
    Object.assign(header, { outcome: "timeout", exit_code: 124, error: { ename: "TimeoutError", evalue, traceback: "", mro: [] } });
  } else if (error) {
    Object.assign(header, { outcome: "error", exit_code: 1, error });
  } else if (ended.signal) {
    const evalue = `The cell's process was killed by ${ended.signal}${WHY_KILLED[ended.signal] ?? ""}.`;
    const code = 128 + (os.constants.signals[ended.signal] ?? 0);
    Object.assign(header, { outcome: "exit", exit_code: code, error: { ename: ended.signal, evalue, traceback: evalue + "\n", mro: [] } });
  } else if (ended.code !== 0) {
    Object.assign(header, { outcome: "exit", exit_code: ended.code });
  }
  header.phases = { run: ended.seconds };
  return header;
}

async function supervise() {
  const request = readRequest();
  const recorder = await makeRecorder(request);
  if (request.file.endsWith("ts") && !stripsTypes()) {
    const evalue = `TypeScript needs Node.js 22.18 or newer; where the cell runs it is ${process.versions.node}. Choose an --image that has it, such as node:24-slim.`;
    const error = { ename: "Error", evalue, traceback: `Error: ${evalue}\n`, mro: ["Error"] };
    recorder.blob({ outcome: "error", exit_code: 1, error, unsendable: {}, missing: [], displays: [], phases: {}, python: "" });
    return 1;
  }
  const work = makeWork(process.argv[2] ?? "outputs");
  let header;
  try {
    fs.copyFileSync(path.join(HERE, request.file), path.join(work, request.file));
    header = verdict(request, await runChild(request, work, recorder));
  } finally {
    fs.rmSync(work, { recursive: true, force: true });
  }
  recorder.blob(header);
  return { ok: 0, error: 1, timeout: 124 }[header.outcome] ?? header.exit_code & 255;
}

/** The error as facts; frames of ours and of Node.js itself are left out, the cell's file has the cell's name. */
function described(error, request, file) {
  const url = pathToFileURL(file).href;
  const isError = error instanceof Error || util.types.isNativeError(error);
  let ename = isError ? String(error.name || error.constructor?.name || "Error") : "Error";
  let evalue = isError ? String(error.message) : `the cell threw ${util.inspect(error)}`;
  let told = isError ? util.inspect(error, { colors: false }) : `Uncaught ${util.inspect(error)}`;
  if (isError && error.name === "SyntaxError" && !told.includes(url + ":")) {
    const flags = file.endsWith("ts") ? ["--disable-warning=ExperimentalWarning"] : [];
    const checked = spawnSync(process.execPath, [...flags, "--check", file], { encoding: "utf8" });
    if (checked.stderr?.includes("SyntaxError")) told = checked.stderr.replace(/\n+Node\.js v[^\n]*\n*$/, "");
  }
  const lines = [];
  for (const line of told.split("\n")) {
    if (!/^\s+at /.test(line) || !/node:|bootstrap\.mjs/.test(line)) lines.push(line);
    else if (line.endsWith(" {") && lines.length) lines[lines.length - 1] += " {"; // the error's own properties follow
  }
  const traceback = lines.join("\n").trimEnd().replaceAll(url, request.filename).replaceAll(file, request.filename) + "\n";
  const mro = [];
  for (let kind = isError ? error.constructor : null; kind && kind.name; kind = Object.getPrototypeOf(kind)) mro.push(kind.name);
  return { ename, evalue: evalue.replaceAll(url, request.filename), traceback, mro };
}

async function cell(work) {
  const request = readRequest();
  const file = path.join(work, request.file);
  const url = pathToFileURL(file).href;
  const report = (error) => {
    writeAll(3, Buffer.from(JSON.stringify(described(error, request, file))));
    process.exit(1);
  };
  process.argv = ["node", file, ...request.args];
  for (const name of Object.keys(request.text_vars ?? {})) process.env[name] ??= request.text_vars[name];
  const inputs = {};
  for (const name of request.json_vars ?? []) {
    let known, value;
    const get = () => {
      if (!known) value = JSON.parse(fs.readFileSync(path.join(HERE, "..", `${name}.json`), "utf8"));
      known = true;
      return value;
    };
    Object.defineProperty(inputs, name, { get, enumerable: true });
  }
  const fixed = { enumerable: false, writable: false, configurable: true };
  Object.defineProperty(globalThis, "inputs", { value: Object.freeze(inputs), ...fixed });
  Object.defineProperty(globalThis, "require", { value: createRequire(url), ...fixed, writable: true });
  process.on("uncaughtException", (error) => {
    if (process.listenerCount("uncaughtException") === 1) report(error);
  });
  writeAll(3, Buffer.from("S"));
  try {
    await import(url);
  } catch (error) {
    report(error);
  }
}

if (process.argv[2] === "--cell") {
  await cell(process.argv[3]);
} else {
  process.exit(await supervise());
}
