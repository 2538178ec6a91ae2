/**
 * What the kernel and the page say to each other over one comm, and the guards that everything heard passes first.
 * Python's side is `progress/_comm.py`; `tests/data/labextension/messages.json` holds both to the same messages.
 * All texts come from nodes, jobs and users: they are shown as text, never as HTML.
 */

/** The comm's id and its target's name. */
export const COMM_ID = "bacalhau-jobs";

export type Phase =
  | "packing"
  | "sent"
  | "waiting"
  | "pulling"
  | "starting"
  | "installing"
  | "running"
  | "fetching"
  | "completed"
  | "failed"
  | "stopped";

export type Tone = "run" | "warn" | "bad" | "ok" | "quiet";

/** What the shown time counts: since when (unix seconds), of how many, and the words behind it. */
export interface IClock {
  since: number;
  limit: number | null;
  words: string;
}

/** Finished sentences about a job; a page places them. */
export interface ISnapshot {
  phase: Phase;
  tone: Tone;
  title: string;
  step: number;
  place: string;
  clock: IClock | null;
  /** How long it took in all, once it is over: "1.8 s". */
  time: string;
  /** How far it is: "40 %". */
  progress: string;
  /** What it brought back: "bound: scores (list of 3)". */
  brought: string;
  /** What it was given: "2 CPU · 4 GB". */
  resources: string;
  problem: string;
  lines: string[];
  hint: string;
  notices: string[];
  over: boolean;
}

export interface IJob {
  key: string;
  id: string;
  name: string;
  language: string;
  notebook: string;
  cell: string;
  prompt: number | null;
  started: number;
  background: boolean;
  outputs: string[];
  /** Whether this kernel has the job at hand; false for a job that an earlier kernel sent. */
  live: boolean;
  snapshot: ISnapshot;
}

export type Piece = [stream: "stdout" | "stderr", text: string];

/** Some jobs, or, with `whole`, all of this kernel's own; `now` is the kernel's clock in unix seconds. */
export interface IJobsMessage {
  kind: "jobs";
  now: number;
  whole: boolean;
  jobs: IJob[];
}

/** A part of a job's log, from its `start`-th character on. */
export interface ILogMessage {
  kind: "log";
  key: string;
  start: number;
  pieces: Piece[];
  over: boolean;
}

export interface IAnswerMessage {
  kind: "answer";
  request: string;
  value: unknown;
  problem: string;
}

/** What a kernel says. */
export type Heard = IJobsMessage | ILogMessage | IAnswerMessage;

/** What a page says. */
export type Wish =
  | { kind: "hello" }
  | { kind: "stop"; key: string }
  | { kind: "log"; key: string; follow: boolean }
  | { kind: "ask"; request: string; what: "spec" | "nodes" | "names"; about: string };

type Guard<T> = (value: unknown) => value is T;

/** A job's id as it goes into cells that run: nothing else than an id, or nothing. */
const isId = (value: unknown): value is string =>
  typeof value === "string" && /^([A-Za-z0-9][\w.-]{0,99})?$/.test(value);
const isText = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
const isNothing = (value: unknown): value is null => value === null;
const either =
  <A, B>(a: Guard<A>, b: Guard<B>): Guard<A | B> =>
  (value): value is A | B =>
    a(value) || b(value);
const listOf =
  <T>(of: Guard<T>): Guard<T[]> =>
  (value): value is T[] =>
    Array.isArray(value) && value.every(of);
const oneOf =
  <T extends string>(...words: T[]): Guard<T> =>
  (value): value is T =>
    words.some((word) => word === value);

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A guard of an object whose named fields pass their own; further fields are a later version's, and no harm. */
function shape<T>(fields: { [K in keyof T]-?: Guard<T[K]> }): Guard<T> {
  const checks = Object.entries<Guard<unknown>>(fields);
  return (value): value is T => isRecord(value) && checks.every(([name, guard]) => guard(value[name]));
}

const isClock = shape<IClock>({ since: isNumber, limit: either(isNumber, isNothing), words: isText });

const isSnapshot = shape<ISnapshot>({
  phase: oneOf(
    "packing",
    "sent",
    "waiting",
    "pulling",
    "starting",
    "installing",
    "running",
    "fetching",
    "completed",
    "failed",
    "stopped",
  ),
  tone: oneOf("run", "warn", "bad", "ok", "quiet"),
  title: isText,
  step: isNumber,
  place: isText,
  clock: either(isClock, isNothing),
  time: isText,
  progress: isText,
  brought: isText,
  resources: isText,
  problem: isText,
  lines: listOf(isText),
  hint: isText,
  notices: listOf(isText),
  over: isBoolean,
});

export const isJob = shape<IJob>({
  key: isText,
  id: isId,
  name: isText,
  language: isText,
  notebook: isText,
  cell: isText,
  prompt: either(isNumber, isNothing),
  started: isNumber,
  background: isBoolean,
  outputs: listOf(isText),
  live: isBoolean,
  snapshot: isSnapshot,
});

const isPiece = (value: unknown): value is Piece =>
  Array.isArray(value) && value.length === 2 && oneOf("stdout", "stderr")(value[0]) && isText(value[1]);

const isKind =
  <K extends string>(kind: K): Guard<K> =>
  (value): value is K =>
    value === kind;

const isJobs = shape<IJobsMessage>({ kind: isKind("jobs"), now: isNumber, whole: isBoolean, jobs: listOf(isJob) });
const isLog = shape<ILogMessage>({
  kind: isKind("log"),
  key: isText,
  start: isNumber,
  pieces: listOf(isPiece),
  over: isBoolean,
});
const isAnswer = shape<IAnswerMessage>({
  kind: isKind("answer"),
  request: isText,
  value: (value): value is unknown => value !== undefined,
  problem: isText,
});

/** A message of version 1 from a kernel; null for whatever else was said. */
export function heard(value: unknown): Heard | null {
  if (!isRecord(value) || value["version"] !== 1) return null;
  return isJobs(value) || isLog(value) || isAnswer(value) ? value : null;
}

/** The receipt beside a finished job's output: what `application/vnd.bacalhau.job+json`'s metadata tells. */
export interface IReceipt {
  job: string;
  name: string;
  node: string;
  started: string;
  seconds: number | null;
  /** How it ended; null where that is not known, as of a job that went on when its kernel ended. */
  outcome: Outcome | null;
  /** The title of a failure that has one of its own, such as "Timed out". */
  failure: string;
  /** What it brought back, such as "bound: scores (list of 3)". */
  result: string;
  route: string;
  notices: string[];
}

export type Outcome = "completed" | "failed" | "stopped" | "submitted";

const isOutcome = oneOf<Outcome>("completed", "failed", "stopped", "submitted");

/** An output's outcome, or null where the data is not ours. */
export function outcome(data: unknown): Outcome | null {
  if (!isRecord(data) || data["version"] !== 1) return null;
  return isOutcome(data["outcome"]) ? data["outcome"] : null;
}

/** The title of an output's failure, "" where it has none of its own. */
export function failure(data: unknown): string {
  return isRecord(data) && isText(data["failure"]) ? data["failure"] : "";
}

/** The receipt in an output's metadata; what is missing or of another type is left empty. */
export function receipt(metadata: unknown): IReceipt {
  const found = isRecord(metadata) && isRecord(metadata["bacalhau"]) ? metadata["bacalhau"] : {};
  const text = (name: string): string => {
    const value = found[name];
    return isText(value) ? value : "";
  };
  const seconds = found["seconds"];
  const notices = found["notices"];
  return {
    job: text("job"),
    name: text("name"),
    node: text("node"),
    started: text("started"),
    seconds: isNumber(seconds) ? seconds : null,
    outcome: isOutcome(found["outcome"]) ? found["outcome"] : null,
    failure: failure(found),
    result: text("result"),
    route: text("route"),
    notices: listOf(isText)(notices) ? notices : [],
  };
}
