/** The jobs of all kernels at hand: comms in, signals out. No widget, no application, no DOM. */

import { ISignal, Signal } from "@lumino/signaling";

import { COMM_ID, Heard, heard, IJob, ILogMessage, isJob, Piece, Wish } from "./protocol";
import type { ITranslate } from "./words";

/** What the board needs of a kernel's comm. */
export interface IComm {
  send(data: Wish): void;
  dispose(): void;
}

/** What the board needs of a kernel; `plugins/board.ts` makes it of a kernel connection. */
export interface IKernel {
  readonly id: string;
  /** The path of the notebook or console that it serves. */
  readonly path: string;
  /** Whether a comm of this id is known there now. */
  knows(comm: string): Promise<boolean>;
  /** Listen to and speak on a comm of this id; it is not opened. */
  connect(comm: string, onMessage: (data: unknown) => void): IComm;
}

/** A job, the kernel that told of it, and the difference of their clocks. */
export interface IBoardJob extends IJob {
  readonly kernel: string;
  /** The path of the notebook that sent it. */
  readonly path: string;
  /** Browser's clock minus the kernel's, in seconds. */
  readonly skew: number;
  /** Whether the kernel that told of it is still there; otherwise this is the last that was known. */
  readonly reachable: boolean;
}

export interface ILog {
  readonly pieces: readonly Piece[];
  readonly over: boolean;
}

const QUESTION_TIME = 15_000;
const LOG_KEPT = 1_000_000;
const LOAD = "%load_ext bacalhau_magic";

interface IConnection {
  kernel: IKernel;
  comm: IComm;
  /** Whether it was asked for all of its jobs, or told them by itself. */
  greeted: boolean;
  /** What is to be said once the kernel is known to listen. */
  waiting: Wish[];
}

/** Keeps what the kernels tell. It asks each kernel once for all it has, and never polls. */
export class JobBoard {
  constructor(private readonly trans: ITranslate) {}

  /** Emitted when a job is new or has news, and when a kernel comes or goes. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Emitted when a live job ends that was not over when it was first heard of. */
  get ended(): ISignal<this, IBoardJob> {
    return this._ended;
  }

  /** Emitted with a job's key when its followed log grew. */
  get logged(): ISignal<this, string> {
    return this._logged;
  }

  /** All jobs, the newest first. */
  get jobs(): readonly IBoardJob[] {
    return [...this._jobs.values()].sort((a, b) => b.started - a.started);
  }

  job(key: string): IBoardJob | undefined {
    return this._jobs.get(key);
  }

  log(key: string): ILog {
    return this._logs.get(key) ?? { pieces: [], over: false };
  }

  /** Listen to a kernel; called again for the same id (after a restart) it begins anew. */
  async attach(kernel: IKernel): Promise<void> {
    this.detach(kernel.id);
    const comm = kernel.connect(COMM_ID, (data) => {
      this._hear(connection, data);
    });
    const connection: IConnection = { kernel, comm, greeted: false, waiting: [] };
    this._kernels.set(kernel.id, connection);
    if (await kernel.knows(COMM_ID)) this._greet(connection);
  }

  /** A kernel is gone or begins anew: its jobs stay as they were last known. */
  detach(id: string): void {
    const connection = this._kernels.get(id);
    if (!connection) return;
    this._kernels.delete(id);
    connection.comm.dispose();
    for (const job of this._jobs.values()) if (job.kernel === id) this._keep({ ...job, reachable: false });
    this._changed.emit();
  }

  stop(key: string): void {
    this._wish(key, { kind: "stop", key });
  }

  follow(key: string, follow: boolean): void {
    if (follow) this._logs.delete(key);
    this._wish(key, { kind: "log", key, follow });
  }

  /** Ask a job's kernel, or the kernel of a notebook; rejects with the problem in a sentence. */
  ask(where: { key: string } | { path: string }, what: "spec" | "nodes" | "names", about: string): Promise<unknown> {
    const connection =
      "key" in where
        ? this._kernels.get(this._jobs.get(where.key)?.kernel ?? "")
        : [...this._kernels.values()].find(({ kernel }) => kernel.path === where.path);
    if (!connection) return Promise.reject(new Error(this.trans.__("Its kernel is not running.")));
    const request = `${Date.now().toString(36)}-${(this._asked++).toString(36)}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this._questions.delete(request);
        const sentence = connection.greeted
          ? this.trans.__("The kernel does not answer; it may be busy.")
          : this.trans.__("This kernel has not loaded the extension: %1", LOAD);
        reject(new Error(sentence));
      }, QUESTION_TIME);
      this._questions.set(request, (value, problem) => {
        clearTimeout(timer);
        if (problem) reject(new Error(problem));
        else resolve(value);
      });
      this._say(connection, { kind: "ask", request, what, about });
    });
  }

  /** The jobs as plain JSON, to be kept over a reload. */
  toJSON(): IJob[] {
    return this.jobs.slice(0, 100).map((job) => ({ ...job, notebook: job.path }));
  }

  /** Take in jobs that were kept over a reload; what a kernel told since is newer. */
  restore(kept: unknown): void {
    for (const job of Array.isArray(kept) ? (kept as unknown[]) : []) {
      if (!isJob(job) || this._known(job)) continue;
      this._keep({ ...job, kernel: "", path: job.notebook, skew: 0, reachable: false });
    }
    this._changed.emit();
  }

  /** Ask a kernel for all that it has, once. */
  private _greet(connection: IConnection): void {
    if (connection.greeted || this._kernels.get(connection.kernel.id) !== connection) return;
    connection.greeted = true;
    this._say(connection, { kind: "hello" });
    this._sayWaiting(connection);
  }

  private _sayWaiting(connection: IConnection): void {
    for (const wish of connection.waiting.splice(0)) this._say(connection, wish);
  }

  private _hear(connection: IConnection, data: unknown): void {
    const message = heard(data);
    if (!message) return;
    if (message.kind === "answer") {
      this._questions.get(message.request)?.(message.value, message.problem);
      this._questions.delete(message.request);
    } else if (message.kind === "log") this._hearLog(message);
    else this._hearJobs(connection, message);
  }

  private _hearJobs(connection: IConnection, message: Heard & { kind: "jobs" }): void {
    const { kernel } = connection;
    const skew = Date.now() / 1000 - message.now;
    const ended: IBoardJob[] = [];
    for (const told of message.jobs) {
      const path = told.live ? kernel.path || told.notebook : told.notebook;
      const job: IBoardJob = { ...told, kernel: kernel.id, path, skew, reachable: true };
      const twin = this._known(told);
      // A job that its own kernel has at hand is known better than one of another kernel's ledger.
      if (twin && twin.key !== told.key && twin.live && !told.live && (twin.reachable || twin.snapshot.over)) continue;
      if (twin && twin.key !== told.key) this._jobs.delete(twin.key);
      // What the ledger said of it before its own kernel knew its id.
      if (told.live && told.id !== told.key) this._jobs.delete(told.id);
      const before = this._jobs.get(told.key);
      this._keep(job);
      if (job.snapshot.over && before && !before.snapshot.over && job.live) ended.push(job);
    }
    if (message.whole) {
      connection.greeted = true;
      this._sayWaiting(connection);
    } else this._greet(connection);
    this._changed.emit();
    for (const job of ended) this._ended.emit(job);
  }

  private _hearLog(message: ILogMessage): void {
    const before = this.log(message.key);
    const length = before.pieces.reduce((sum, [, text]) => sum + text.length, 0);
    let pieces = message.start === 0 ? message.pieces : [...before.pieces, ...message.pieces];
    if (length > LOG_KEPT) pieces = pieces.slice(-Math.ceil(pieces.length / 2));
    this._logs.set(message.key, { pieces, over: message.over });
    this._logged.emit(message.key);
  }

  private _known(job: IJob): IBoardJob | undefined {
    return (
      this._jobs.get(job.key) ?? (job.id ? [...this._jobs.values()].find((known) => known.id === job.id) : undefined)
    );
  }

  private _keep(job: IBoardJob): void {
    this._jobs.set(job.key, job);
  }

  private _wish(key: string, wish: Wish): void {
    const connection = this._kernels.get(this._jobs.get(key)?.kernel ?? "");
    if (connection) this._say(connection, wish);
  }

  private _say(connection: IConnection, wish: Wish): void {
    // A kernel that does not know the comm would drop it, with a warning in the server's log.
    if (connection.greeted) connection.comm.send(wish);
    else connection.waiting.push(wish);
  }

  private readonly _changed = new Signal<this, void>(this);
  private readonly _ended = new Signal<this, IBoardJob>(this);
  private readonly _logged = new Signal<this, string>(this);
  private readonly _jobs = new Map<string, IBoardJob>();
  private readonly _logs = new Map<string, ILog>();
  private readonly _kernels = new Map<string, IConnection>();
  private readonly _questions = new Map<string, (value: unknown, problem: string) => void>();
  private _asked = 0;
}
