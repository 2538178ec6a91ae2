/** What the panel shows of jobs: which, in which order, in which words. Pure. */

import type { IBoardJob } from "./jobboard";
import type { Tone } from "./protocol";

export type Order = "newest" | "state" | "name";

export interface IChoice {
  /** Only jobs of the notebook at this path; null: all. */
  readonly path: string | null;
  readonly filter: string;
  readonly order: Order;
}

export interface ICounts {
  readonly running: number;
  readonly waiting: number;
}

const ICONS: Record<Tone, string> = { run: "▶", warn: "◷", bad: "✕", ok: "✓", quiet: "■" };
const URGENCY: Record<Tone, number> = { warn: 0, run: 1, bad: 2, quiet: 3, ok: 4 };
/** Steps before this one are a wait: packing, queue, image. */
const RUNS = 4;

export function icon(job: IBoardJob): string {
  const { tone, step } = job.snapshot;
  return tone === "run" && step < RUNS ? ICONS.warn : ICONS[tone];
}

/** A span of time as a live clock shows it: whole seconds. */
export function seconds(count: number): string {
  const whole = Math.max(0, Math.floor(count));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 60)} h`;
}

/** The time behind a job's name: what its clock shows at browser time `now` (unix seconds), at the end the whole time. */
export function elapsed(job: IBoardJob, now: number): string {
  const { clock, time } = job.snapshot;
  return clock && job.reachable ? seconds(now - job.skew - clock.since) : time;
}

/** The file of a path: "work/train.ipynb" → "train.ipynb"; the id that a server puts behind a session's name is left out. */
export function file(path: string): string {
  const name = path.split("/").pop() ?? path;
  return name.replace(/-[0-9a-f]{8}-[0-9a-f-]{27}$/, "");
}

/** Where it came from: "train.ipynb [12] python". */
export function heading(job: IBoardJob): string {
  const prompt = job.prompt === null ? "" : `[${job.prompt}]`;
  return [file(job.path), prompt, job.language].filter(Boolean).join(" ");
}

/** The state in one line: "Running on n-2e2b7e09 · 40 %", "Out of memory: …". */
export function line(job: IBoardJob): string {
  const { title, place, progress, problem, brought, over } = job.snapshot;
  if (problem) return problem.startsWith(title) ? problem : `${title}: ${problem}`;
  if (over) return [title, brought].filter(Boolean).join(" · ");
  return [`${title} ${place}`.trim(), progress].filter(Boolean).join(" · ");
}

/** Whether all words of a filter stand somewhere in what is shown of a job. */
function matches(job: IBoardJob, filter: string): boolean {
  const text = [heading(job), line(job), job.name, job.id, job.snapshot.phase].join(" ").toLowerCase();
  return filter
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

/** The jobs that a choice shows, in its order. `jobs` come newest first. */
export function chosen(jobs: readonly IBoardJob[], choice: IChoice): IBoardJob[] {
  const shown = jobs.filter(
    (job) => (choice.path === null || isOf(job, choice.path)) && (!choice.filter || matches(job, choice.filter)),
  );
  if (choice.order === "state") shown.sort((a, b) => URGENCY[a.snapshot.tone] - URGENCY[b.snapshot.tone]);
  if (choice.order === "name") shown.sort((a, b) => heading(a).localeCompare(heading(b), undefined, { numeric: true }));
  return shown;
}

/** Whether a job is of the notebook at a path; an earlier kernel's jobs name their notebook by an absolute path. */
export function isOf(job: IBoardJob, path: string): boolean {
  return job.path === path || (!job.live && file(job.path) === file(path));
}

/** What people quote of a job: its name and id, where and with what it ran. */
export function quoted(job: IBoardJob): string[] {
  const { place, resources } = job.snapshot;
  return [job.name, job.id.slice(0, 10), place, resources].filter(Boolean);
}

/** How many are running, and how many wait for something. */
export function counts(jobs: readonly IBoardJob[]): ICounts {
  const open = jobs.filter((job) => !job.snapshot.over && job.live && job.reachable);
  const running = open.filter((job) => job.snapshot.step >= RUNS).length;
  return { running, waiting: open.length - running };
}
