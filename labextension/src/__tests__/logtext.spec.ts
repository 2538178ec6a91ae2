import { cutAt, logLines } from "../logtext";

const texts = (...pieces: ["stdout" | "stderr", string][]): string[] => logLines(pieces).map(({ text }) => text);

test("each stream's lines are its own, in the order in which they began", () => {
  expect(
    logLines([
      ["stdout", "a"],
      ["stderr", "x\ny"],
      ["stdout", "b\n"],
      ["stderr", "z"],
    ]),
  ).toEqual([
    { text: "ab", stream: "stdout" },
    { text: "x", stream: "stderr" },
    { text: "yz", stream: "stderr" },
  ]);
});

test("a carriage return begins the line anew, a backspace takes one back, an empty line stays", () => {
  expect(texts(["stdout", "10 %\r20 %\r\n\nab\x08c"])).toEqual(["20 %", "", "ac"]);
});

test("colours and other sequences leave no trace, whole or cut off", () => {
  expect(texts(["stdout", "\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x9b1mb\x00\x1b["])).toEqual([
    "red link b",
  ]);
});

test("a search cuts a line at every place, whatever the case", () => {
  expect(cutAt("Loss and loss", "LOSS")).toEqual(["", "Loss", " and ", "loss", ""]);
  expect(cutAt("none", "x")).toEqual(["none"]);
  expect(cutAt("aaa", "")).toEqual(["aaa"]);
  expect(cutAt("İx", "x")).toEqual(["İx"]);
});
