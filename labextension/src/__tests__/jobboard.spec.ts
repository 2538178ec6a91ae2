import messages from "../../../tests/data/labextension/messages.json";
import { IKernel, JobBoard } from "../jobboard";
import { chosen, counts, elapsed, heading, icon, line, quoted, seconds } from "../joblist";
import { COMM_ID, IJob, Wish } from "../protocol";
import { english } from "./english";

/** A kernel at the other end of a comm. */
class Kernel implements IKernel {
  readonly wishes: Wish[] = [];
  disposed = 0;
  constructor(
    readonly id: string,
    readonly path: string,
    private readonly known = true,
  ) {}

  knows(comm: string): Promise<boolean> {
    return Promise.resolve(this.known && comm === COMM_ID);
  }

  connect(_comm: string, onMessage: (data: unknown) => void): { send(data: Wish): void; dispose(): void } {
    this.say = onMessage;
    return { send: (data) => this.wishes.push(data), dispose: () => this.disposed++ };
  }

  say: (data: unknown) => void = () => undefined;

  tell(jobs: readonly unknown[], whole = false): void {
    this.say({ version: 1, kind: "jobs", now: Date.now() / 1000, whole, jobs });
  }
}

const [running, waiting, completed] = messages.heard[0]?.jobs as unknown as [IJob, IJob, IJob];
const [past] = messages.heard[1]?.jobs as unknown as [IJob];
const over = (job: IJob): IJob => ({ ...job, snapshot: { ...completed.snapshot } });

async function one(): Promise<[JobBoard, Kernel]> {
  const board = new JobBoard(english);
  const kernel = new Kernel("k", "a.ipynb");
  await board.attach(kernel);
  return [board, kernel];
}

async function two(): Promise<[JobBoard, Kernel, Kernel]> {
  const board = new JobBoard(english);
  const kernels: [Kernel, Kernel] = [new Kernel("1", "a.ipynb"), new Kernel("2", "b.ipynb")];
  for (const kernel of kernels) await board.attach(kernel);
  return [board, ...kernels];
}

describe("the board", () => {
  test("a kernel that knows the comm is asked once for all its jobs", async () => {
    const [board, kernel] = await one();
    kernel.tell([running]);
    expect(kernel.wishes).toEqual([{ kind: "hello" }]);
    expect(board.jobs.map((job) => job.key)).toEqual(["a"]);
    expect(board.job("a")?.path).toBe("a.ipynb");
  });

  test("a kernel without our extension is left in peace until it speaks", async () => {
    const board = new JobBoard(english);
    const kernel = new Kernel("k", "a.ipynb", false);
    await board.attach(kernel);
    expect(kernel.wishes).toEqual([]);
    kernel.tell([running]);
    kernel.tell([running]);
    expect(kernel.wishes).toEqual([{ kind: "hello" }]);
  });

  test("jobs of two kernels stand side by side, and each is stopped at its own", async () => {
    const [board, first, second] = await two();
    first.tell([running], true);
    second.tell([waiting], true);
    board.stop("b");
    expect(board.jobs.map((job) => job.path).sort()).toEqual(["a.ipynb", "b.ipynb"]);
    expect(first.wishes).toEqual([{ kind: "hello" }]);
    expect(second.wishes).toContainEqual({ kind: "stop", key: "b" });
  });

  test("a restart keeps what was last known, and says that it can't be reached", async () => {
    const [board, kernel] = await one();
    kernel.tell([running], true);
    board.detach("k");
    expect(kernel.disposed).toBe(1);
    expect(board.job("a")?.reachable).toBe(false);
    await board.attach(kernel);
    kernel.tell([{ ...past, id: running.id, key: running.id, cell: "cell-1" }]);
    expect(board.jobs.map((job) => [job.key, job.reachable])).toEqual([[running.id, true]]);
  });

  test("a job that another kernel's ledger knows too stays as its own kernel tells it", async () => {
    const [board, first, second] = await two();
    first.tell([running], true);
    second.tell([{ ...past, id: running.id, key: running.id }]);
    expect(board.jobs.map((job) => job.key)).toEqual(["a"]);
  });

  test("a job that the ledger told of before its kernel knew its id is one job", async () => {
    const [board, kernel] = await one();
    kernel.tell([{ ...running, id: "" }], true);
    kernel.tell([{ ...past, id: running.id, key: running.id }]);
    kernel.tell([running]);
    expect(board.jobs.map((job) => job.key)).toEqual(["a"]);
  });

  test("an end is told once, and only of a job that was seen before its end", async () => {
    const [board, kernel] = await one();
    const ended: string[] = [];
    board.ended.connect((_, job) => ended.push(job.key));
    kernel.tell([running, completed], true);
    kernel.tell([over(running)]);
    kernel.tell([over(running)]);
    expect(ended).toEqual(["a"]);
  });

  test("a followed log grows, and begins anew when it is followed again", async () => {
    const [board, kernel] = await one();
    kernel.tell([running], true);
    board.follow("a", true);
    kernel.say(messages.heard[2]);
    kernel.say({ version: 1, kind: "log", key: "a", start: 16, pieces: [["stdout", "more"]], over: true });
    expect(board.log("a").over).toBe(true);
    expect(board.log("a").pieces.map(([, text]) => text)).toEqual(["epoch 1\n", "<script>", "more"]);
    board.follow("a", true);
    expect(board.log("a").pieces).toEqual([]);
  });

  test("a question is answered by its own answer, or with its problem", async () => {
    const [board, kernel] = await one();
    const nodes = board.ask({ path: "a.ipynb" }, "nodes", "");
    const spec = board.ask({ path: "a.ipynb" }, "spec", "a");
    for (const wish of kernel.wishes) {
      if (wish.kind !== "ask") continue;
      const problem = wish.what === "spec" ? "No such job." : "";
      kernel.say({ version: 1, kind: "answer", request: wish.request, value: [wish.what], problem });
    }
    await expect(nodes).resolves.toEqual(["nodes"]);
    await expect(spec).rejects.toThrow("No such job.");
    await expect(board.ask({ key: "none" }, "spec", "")).rejects.toThrow("not running");
  });

  test("a question to a kernel that does not listen yet waits until it does", async () => {
    const board = new JobBoard(english);
    const kernel = new Kernel("k", "a.ipynb", false);
    await board.attach(kernel);
    const nodes = board.ask({ path: "a.ipynb" }, "nodes", "");
    expect(kernel.wishes).toEqual([]);
    kernel.tell([], true);
    const [wish] = kernel.wishes;
    if (wish?.kind !== "ask") throw new Error("not asked");
    kernel.say({ version: 1, kind: "answer", request: wish.request, value: [], problem: "" });
    await expect(nodes).resolves.toEqual([]);
  });

  test("what was kept over a reload is shown until a kernel tells more", async () => {
    const [before, kernel] = await one();
    kernel.tell([running], true);
    const after = new JobBoard(english);
    after.restore(JSON.parse(JSON.stringify(before)));
    after.restore("nonsense");
    expect(after.jobs.map((job) => [job.key, job.path, job.reachable])).toEqual([["a", "a.ipynb", false]]);
    await after.attach(kernel);
    kernel.tell([running], true);
    expect(after.job("a")?.reachable).toBe(true);
  });

  test("what is not a message changes nothing", async () => {
    const [board, kernel] = await one();
    kernel.say({ version: 1, kind: "jobs", jobs: "all" });
    kernel.say(null);
    expect(board.jobs).toEqual([]);
  });
});

describe("the list", () => {
  const place = { kernel: "k", path: "work/train.ipynb", skew: 2, reachable: true };
  const run = { ...running, ...place };
  const wait = { ...waiting, ...place, path: "prep.ipynb" };
  const done = { ...completed, ...place };
  const jobs = [run, wait, done];

  test("a row says where it came from, how it is, and for how long", () => {
    expect(heading(run)).toBe("train.ipynb [12] python");
    expect(line(run)).toBe("Running on n-2e2b7e09 · 40 %");
    expect(line(wait)).toBe("Waiting for a node: No node can take it now: it asks for 1 GPU.");
    expect(line(done)).toBe("Completed · bound: scores (list)");
    expect([icon(run), icon(wait), icon(done)]).toEqual(["▶", "◷", "✓"]);
    expect(elapsed(run, 1_700_000_074)).toBe("1 min 10 s");
    expect(elapsed(done, 1_700_000_074)).toBe("1.8 s");
    expect(elapsed({ ...run, reachable: false }, 1_700_000_074)).toBe("");
    expect(quoted(run)).toEqual(["train", "j-54785d3f", "on n-2e2b7e09", "2 CPU · 4 GB"]);
    expect(seconds(7325)).toBe("2 h 2 min");
  });

  test("an earlier kernel's job has its whole time, or counts on since it was sent", () => {
    const [unknown, ended, going] = (messages.heard[1]?.jobs as unknown as IJob[]).map((job) => ({ ...job, ...place }));
    if (!unknown || !ended || !going) throw new Error("not told");
    expect([unknown, ended, going].map((job) => elapsed(job, 103))).toEqual(["", "1 min 15 s", "1 min 40 s"]);
    expect(line(going)).toBe("Running");
  });

  test("a choice filters by notebook and by words, and sorts", () => {
    const all = { path: null, filter: "", order: "newest" } as const;
    expect(chosen(jobs, { ...all, path: "prep.ipynb" })).toEqual([wait]);
    expect(chosen(jobs, { ...all, filter: "gpu BASH" })).toEqual([wait]);
    expect(chosen(jobs, { ...all, filter: "no such" })).toEqual([]);
    expect(chosen(jobs, { ...all, order: "state" })).toEqual([wait, run, done]);
    expect(chosen(jobs, { ...all, order: "name" })[0]).toBe(wait);
  });

  test("running and waiting are counted, what is over or out of reach is not", () => {
    expect(counts(jobs)).toEqual({ running: 1, waiting: 1 });
    expect(counts(jobs.map((job) => ({ ...job, reachable: false })))).toEqual({ running: 0, waiting: 0 });
  });
});
