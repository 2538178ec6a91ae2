import lines from "../../../tests/data/labextension/lines.json";
import { explain, problems, proposals } from "../linehelp";
import { asText, asValues, IMagicLine, language, magicLine, quoted, valuesOf, withOptions } from "../magicline";
import { OPTIONS } from "../optionlist";
import { english } from "./english";

function line(source: string): IMagicLine {
  const found = magicLine(source);
  if (!found) throw new Error(`no magic line: ${source}`);
  return found;
}

const wrong = (source: string): string[] => problems(line(source), english).map(({ sentence }) => sentence);
const labels = (source: string, at = source.length): string[] =>
  (proposals(line(source), at, english)?.items ?? []).map(({ label }) => label);

describe("finding the line", () => {
  test.each(["x = 1", "", "  %%bacalhau", "x\n%%bacalhau", "%%bacalhaux", "%bacalhau", "# %%bacalhau"])(
    "none in %j",
    (source) => {
      expect(magicLine(source)).toBeNull();
    },
  );

  test("empty lines may stand above it", () => {
    expect(line("\n\n%%bacalhau --bg\n1")).toMatchObject({ from: 2, to: 17 });
  });

  test("words are split as a shell does, and know what they are", () => {
    const words = line("%%bacalhau --name 'a b' -o x,y --cpu=2 -qn -ix --bg -- -x --cpu").words;
    expect(words.map(({ kind, value }) => [kind, value])).toEqual([
      ["option", "--name"],
      ["value", "a b"],
      ["option", "-o"],
      ["value", "x,y"],
      ["option", "--cpu"],
      ["value", "2"],
      ["option", "-q"],
      ["option", "-n"],
      ["option", "-i"],
      ["value", "x"],
      ["option", "--bg"],
      ["separator", "--"],
      ["argument", "-x"],
      ["argument", "--cpu"],
    ]);
  });

  test("offsets cover the words as they stand", () => {
    const source = '%%bacalhau --name "a b" --lang=bash\ndate';
    expect(line(source).words.map(({ from, to }) => source.slice(from, to))).toEqual([
      "--name",
      '"a b"',
      "--lang",
      "bash",
    ]);
  });

  test("the language is what --lang says, else Python", () => {
    expect(language(line("%%bacalhau"))).toBe("python");
    expect(language(line("%%bacalhau --lang bash\nls"))).toBe("bash");
    expect(language(line("%%bacalhau -- --lang bash"))).toBe("python");
  });
});

describe("problems", () => {
  test("a good line has none", () => {
    expect(wrong("%%bacalhau --gpu 1 --network {net} -e A=1 -e B=2 --no-logs --priority 5 -- anything --goes")).toEqual(
      [],
    );
  });

  test.each([
    ["%%bacalhau --memroy 4GB", "There is no option --memroy. Did you mean --memory?"],
    ["%%bacalhau --network some", "--network: expected none, http or full, not some."],
    ["%%bacalhau --cpu --bg", "--cpu needs a value: N."],
    ["%%bacalhau --cpu 1 --cpu 2", "--cpu is given twice."],
    ["%%bacalhau zzz", "zzz is not an option."],
  ])("%s", (source, sentence) => {
    expect(wrong(source)[0]).toBe(sentence);
  });
});

describe("the same lines as Python's parser", () => {
  test.each(lines.good)("good: %s", (options) => {
    expect(wrong(`%%bacalhau ${options}\n1`)).toEqual([]);
  });

  test.each(lines.bad)("bad: %s", (options) => {
    expect(wrong(`%%bacalhau ${options}\n1`)).not.toEqual([]);
  });
});

describe("proposals", () => {
  test("options that are not given yet, each by its long word", () => {
    const found = labels("%%bacalhau --cpu 2 ");
    expect(found).toContain("--memory");
    expect(found).toContain("--no-logs");
    expect(found).not.toContain("--cpu");
    expect(found).toContain("--env");
  });

  test("an option's values, when it is open or begun", () => {
    expect(labels("%%bacalhau --network ")).toEqual(["none", "http", "full"]);
    expect(labels("%%bacalhau --network f")).toEqual(["full"]);
    expect(labels("%%bacalhau --netw")).toEqual(["--network"]);
    expect(labels("%%bacalhau --lang=")).toContain("bash");
    expect(labels("%%bacalhau --lang ")).toContain("typescript");
  });

  test("nothing in the name, behind --, or below the line", () => {
    expect(proposals(line("%%bacalhau"), 5, english)).toBeNull();
    expect(proposals(line("%%bacalhau -- -"), 15, english)).toBeNull();
    expect(proposals(line("%%bacalhau\n--"), 13, english)).toBeNull();
  });

  test("a begun option is replaced as a whole", () => {
    expect(proposals(line("%%bacalhau --mem"), 14, english)).toMatchObject({ from: 11, to: 16 });
  });
});

describe("help", () => {
  test("an option and its value are explained, a wrong one's problem comes first", () => {
    expect(explain(line("%%bacalhau --cpu 2"), 13, english)?.sentence).toBe(
      "--cpu N\nCPUs: 2, 0.5 or 500m. Default: 1.",
    );
    expect(explain(line("%%bacalhau --cpu 2"), 17, english)?.sentence).toContain("CPUs");
    expect(explain(line("%%bacalhau --cup 2"), 13, english)?.sentence).toContain("Did you mean --cpu?");
    expect(explain(line("%%bacalhau --cpu 2"), 3, english)).toBeNull();
  });
});

describe("writing", () => {
  test("a plain cell gets the magic", () => {
    expect(withOptions("x = 1", { gpu: ["1"], bg: [""] })).toBe("%%bacalhau --gpu 1 --bg\nx = 1");
  });

  test("what is set is replaced, the rest stays, arguments come last", () => {
    const source = '%%bacalhau --cpu=1 -o a --name "a b" --whatever -- -x "y z"\nbody';
    expect(withOptions(source, { cpu: ["4"], outputs: ["b,c"], memory: ["4GB"] })).toBe(
      '%%bacalhau --name "a b" --whatever --outputs b,c --cpu 4 --memory 4GB -- -x "y z"\nbody',
    );
  });

  test("an empty list takes an option out", () => {
    expect(withOptions("%%bacalhau --gpu 1 --bg\n", { gpu: [], bg: [] })).toBe("%%bacalhau\n");
  });

  test("what was written is read back, whatever it is", () => {
    for (const value of ["a b", "it's", '"', "$x", "ü", "a\\b", "-5"]) {
      expect(valuesOf(line(withOptions("1", { name: [value] })), "name")).toEqual([value]);
    }
    expect(quoted("s3://bucket/key")).toBe("s3://bucket/key");
  });

  test("several values are one text and come back, spaces and quotes and all", () => {
    const values = ["a b", "it's", "x", "", "K='v w'", "*.csv"];
    expect(asValues(asText(values))).toEqual(values);
    expect(asValues("x 'a b' \"c d\"  y")).toEqual(["x", "a b", "c d", "y"]);
    expect(asText(["x", "a b"])).toBe("x 'a b'");
    expect(asValues("x 'a b")).toEqual(["x", "a b"]);
  });

  test("every option can be written and read", () => {
    for (const option of OPTIONS) {
      const value = option.values[0] ?? option.examples[0] ?? "1";
      const written = line(withOptions("1", { [option.name]: [option.metavar ? value : ""] }));
      expect(problems(written, english)).toEqual([]);
      expect(valuesOf(written, option.name)).toHaveLength(1);
    }
  });
});
