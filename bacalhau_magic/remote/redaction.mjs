/* Takes the values of a job's secrets out of what its cell writes: the same forms and rules as redaction.py, for Node.js. */
export const MARK = "••••";
const MARK_BYTES = Buffer.from(MARK);
const SHORTEST = 4;
const CODED = 6;
const LINE = 12;
const PLAIN = /[A-Za-z0-9\-._~]/;
const SAFE = ["", "/", "!*'()", "!*'();/?:@&=+$,#"];

const latin = (bytes) => bytes.toString("latin1");

/** Every byte string that a secret's value may stand as, longest first. */
export function forms(value) {
  const found = new Map();
  const add = (form, shortest = CODED) => {
    const bytes = Buffer.isBuffer(form) ? form : Buffer.from(form, "latin1");
    if (bytes.length >= shortest) found.set(latin(bytes), bytes);
  };
  const lines = value.split(/\r\n|\r|\n/);
  const pieces = [value, value.trim()].concat(lines.length > 1 ? lines.filter((line) => Buffer.byteLength(line) >= LINE) : []);
  for (const piece of pieces) {
    add(Buffer.from(piece), SHORTEST);
    addForms(Buffer.from(piece), piece, add);
  }
  return [...found.values()].sort((one, other) => other.length - one.length);
}

function addForms(raw, text, add) {
  const json = JSON.stringify(text).slice(1, -1);
  add(Buffer.from(json));
  add(Buffer.from(json.replace(/[\u007f-\uffff]/g, (char) => "\\u" + char.charCodeAt(0).toString(16).padStart(4, "0"))));
  add(Buffer.from(json.replaceAll('\\"', '"').replaceAll("'", "\\'"))); // as util.inspect writes it
  const html = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
  for (const apostrophe of ["'", "&#x27;", "&#39;"]) add(Buffer.from(html.replaceAll("'", apostrophe)));
  for (const safe of SAFE) {
    for (const upper of [true, false]) {
      let quoted = "";
      for (const byte of raw) {
        const char = String.fromCharCode(byte);
        const digits = byte.toString(16).padStart(2, "0");
        quoted += byte < 128 && (PLAIN.test(char) || safe.includes(char)) ? char : "%" + (upper ? digits.toUpperCase() : digits);
      }
      add(quoted);
      add(quoted.replaceAll("%20", "+"));
    }
  }
  add(raw.toString("hex"));
  add(raw.toString("hex").toUpperCase());
  const coded = [raw.toString("base64")];
  for (let before = 0; before < 3; before++) {
    const shifted = Buffer.concat([Buffer.alloc(before), raw]);
    coded.push(shifted.toString("base64").slice(Math.ceil((8 * before) / 6), Math.floor((8 * shifted.length) / 6)));
  }
  for (const text of coded) {
    add(text);
    add(text.replaceAll("+", "-").replaceAll("/", "_"));
  }
}

function joined(spans) {
  const whole = [];
  for (const [start, end] of spans.sort((one, other) => one[0] - other[0] || one[1] - other[1])) {
    const last = whole.at(-1);
    if (last && start <= last[1]) last[1] = Math.max(last[1], end);
    else whole.push([start, end]);
  }
  return whole;
}

/** Knows the values of secrets and takes them out of bytes and texts. */
export class Redactor {
  constructor(values) {
    this.forms = Object.values(values).flatMap(forms);
    this.longest = Math.max(0, ...this.forms.map((form) => form.length));
    this.firsts = new Set(this.forms.map((form) => form[0]));
  }

  spans(data) {
    const found = [];
    for (const form of this.forms) {
      for (let at = data.indexOf(form); at >= 0; at = data.indexOf(form, at + 1)) found.push([at, at + form.length]);
    }
    return joined(found);
  }

  /** Where the earliest beginning of a form is that the end of `data` cuts off; its length where there is none. */
  begins(data) {
    for (let at = Math.max(0, data.length - this.longest + 1); at < data.length; at++) {
      if (!this.firsts.has(data[at])) continue;
      const rest = data.subarray(at);
      if (this.forms.some((form) => form.length > rest.length && form.subarray(0, rest.length).equals(rest))) return at;
    }
    return data.length;
  }

  /** Texts, lists and objects of them without the secrets. */
  facts(value) {
    if (typeof value === "string") return new Stream(this).feed(Buffer.from(value), true).toString();
    if (Array.isArray(value)) return value.map((item) => this.facts(item));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.facts(item)]));
    return value;
  }
}

/** One stream of output in pieces: what may be the beginning of a secret is held back until more comes. */
export class Stream {
  constructor(redactor) {
    this.redactor = redactor;
    this.held = Buffer.alloc(0);
    this.masked = 0; // bytes at the beginning of what is held that belong to a secret whose mark went out
  }

  feed(piece, last = false) {
    const data = Buffer.concat([this.held, piece]);
    let spans = this.redactor.spans(data);
    if (this.masked) spans = joined([...spans, [0, this.masked]]);
    const stop = last ? data.length : this.redactor.begins(data);
    const pieces = [];
    let at = 0;
    let masked = stop === 0 ? this.masked : 0;
    for (const [start, end] of spans) {
      if (start >= stop) break;
      pieces.push(data.subarray(at, start));
      if (start || !this.masked) pieces.push(MARK_BYTES);
      at = Math.min(end, stop);
      masked = Math.max(0, end - stop);
    }
    pieces.push(data.subarray(at, stop));
    this.held = Buffer.from(data.subarray(stop));
    this.masked = masked;
    return Buffer.concat(pieces);
  }
}

/** The redactor of a job's secrets, whose values stand in its environment. */
export function ofJob(request) {
  const values = {};
  for (const name of request.secrets) if (process.env[name]) values[name] = process.env[name];
  return new Redactor(values);
}
