import messages from "../../../tests/data/labextension/messages.json";
import { failure, heard, outcome, receipt } from "../protocol";

describe("what a kernel says", () => {
  test("every message of Python's golden file passes the guards", () => {
    expect(messages.heard.map((message) => heard(message)?.kind)).toEqual(["jobs", "jobs", "log", "answer", "answer"]);
  });

  test("finished sentences come as they are", () => {
    const message = heard(messages.heard[0]);
    if (message?.kind !== "jobs") throw new Error("not jobs");
    expect(message.jobs[0]?.snapshot.title).toBe("Running");
    expect(message.jobs[1]?.snapshot.problem).toBe("No node can take it now: it asks for 1 GPU.");
    expect(message.jobs[2]?.snapshot.clock).toBeNull();
  });

  test.each([
    null,
    "jobs",
    {},
    { version: 2, kind: "jobs", now: 1, whole: true, jobs: [] },
    { version: 1, kind: "jobs", now: "1", whole: true, jobs: [] },
    { version: 1, kind: "jobs", now: 1, whole: true, jobs: [{ key: 1 }] },
    { version: 1, kind: "log", key: "a", start: 0, pieces: [["stdin", "x"]], over: false },
    { version: 1, kind: "other" },
  ])("anything else is not heard: %j", (message) => {
    expect(heard(message)).toBeNull();
  });

  test("an id that is more than an id is not heard", () => {
    const [first] = messages.heard;
    const changed = JSON.parse(JSON.stringify(first).replace(/"id":"[^"]+"/, '"id":"j-1\\nimport os"')) as unknown;
    expect(JSON.stringify(changed)).toContain("import os");
    expect(heard(changed)).toBeNull();
  });

  test("a word that is no phase is not heard", () => {
    const [first] = messages.heard;
    const changed = JSON.parse(JSON.stringify(first).replace('"running"', '"flying"')) as unknown;
    expect(heard(changed)).toBeNull();
  });
});

describe("what an output holds", () => {
  test("outcome and receipt are read", () => {
    const [completed, submitted, failed] = messages.outputs;
    const key = "application/vnd.bacalhau.job+json";
    expect(outcome(completed?.data[key])).toBe("completed");
    expect(outcome(submitted?.data[key])).toBe("submitted");
    expect(outcome(failed?.data[key])).toBe("failed");
    expect(failure(failed?.data[key])).toBe("Timed out");
    expect(failure(completed?.data[key])).toBe("");
    expect(receipt(failed?.metadata)).toMatchObject({ outcome: "failed", failure: "Timed out" });
    expect(receipt(completed?.metadata)).toMatchObject({
      job: "j-1",
      node: "n-2e2b7e09",
      seconds: 1.8,
      outcome: "completed",
      result: "bound: scores (list)",
    });
  });

  test("what is not ours is refused or left empty", () => {
    expect(outcome({ version: 1, outcome: "<b>" })).toBeNull();
    expect(outcome([])).toBeNull();
    expect(failure({ version: 1, failure: 5 })).toBe("");
    const empty = {
      job: "",
      name: "",
      node: "",
      started: "",
      seconds: null,
      outcome: null,
      failure: "",
      result: "",
      route: "",
      notices: [],
    };
    expect(receipt({ bacalhau: { job: 5, seconds: "x", notices: [1] } })).toEqual(empty);
  });
});
