/** A job's log as lines of plain text, as a terminal would leave them. Pure. */

import type { Piece } from "./protocol";

export interface ILogLine {
  readonly text: string;
  readonly stream: "stdout" | "stderr";
}

// Escape sequences and control characters, in both their seven-bit and their eight-bit forms; a sequence may be cut off.
const CONTROL =
  // eslint-disable-next-line no-control-regex
  /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x9c|\x1b\\)?|\x1b[ -/]*[0-~]?|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]/g;

const STEP = /(\n|\r|[\b])/;

/** Each stream's lines are its own: a line's end may come later than the other stream's text. */
export function logLines(pieces: readonly Piece[]): ILogLine[] {
  const lines: { text: string; stream: "stdout" | "stderr"; overwrite: boolean }[] = [];
  const open = new Map<string, (typeof lines)[0]>();
  for (const [stream, text] of pieces)
    for (const part of text.replace(CONTROL, "").split(STEP)) {
      if (!part) continue;
      let line = open.get(stream);
      if (!line) {
        line = { text: "", stream, overwrite: false };
        lines.push(line);
        open.set(stream, line);
      }
      if (part === "\n") open.delete(stream);
      else if (part === "\r") line.overwrite = true;
      else if (part === "\b") line.text = line.text.slice(0, -1);
      else {
        line.text = line.overwrite ? part : line.text + part;
        line.overwrite = false;
      }
    }
  return lines.map(({ text, stream }) => ({ text, stream }));
}

/** A line cut at what was searched for: [before, found, between, found, …, after]; upper and lower case are one. */
export function cutAt(text: string, wanted: string): string[] {
  if (!wanted) return [text];
  const parts: string[] = [];
  const [low, key] = [text.toLowerCase(), wanted.toLowerCase()];
  let from = 0;
  if (low.length !== text.length) return [text]; // a letter whose lower case is longer: places would not fit
  for (let at = low.indexOf(key); at >= 0; at = low.indexOf(key, from)) {
    parts.push(text.slice(from, at), text.slice(at, at + key.length));
    from = at + key.length;
  }
  return [...parts, text.slice(from)];
}
