/** Help on the magic line: what is wrong on it, what could stand there, what a word of it means. Pure. */

import { IMagicLine, IWord, MAGIC } from "./magicline";
import { IOption, nearest, OPTIONS } from "./optionlist";
import type { ITranslate } from "./words";

export interface IProblem {
  readonly from: number;
  readonly to: number;
  readonly sentence: string;
}

export interface IProposal {
  readonly label: string;
  readonly insert: string;
  readonly help: string;
}

/** What is wrong with a line, as far as its text tells; the kernel has the last word. */
export function problems(line: IMagicLine, trans: ITranslate): IProblem[] {
  const found: IProblem[] = [];
  const seen = new Set<string>();
  line.words.forEach((word, n) => {
    const say = (sentence: string): void => void found.push({ from: word.from, to: word.to, sentence });
    const { option } = word;
    const before = line.words[n - 1];
    // What stands behind a mistyped option is most likely its value.
    const isItsValue = before?.kind === "unknown" && before.value.startsWith("-") && !word.value.startsWith("-");
    if (word.kind === "unknown") {
      if (!isItsValue) say(unknown(word.value, trans));
    } else if (option && word.kind === "option") {
      const next = line.words[n + 1];
      if (option.metavar && !(next?.kind === "value" && next.option === option))
        say(trans.__("%1 needs a value: %2.", word.value, option.metavar));
      else if (!option.repeatable && seen.has(option.name)) say(trans.__("%1 is given twice.", word.value));
      seen.add(option.name);
    } else if (option && word.kind === "value" && !isVariable(word.value)) {
      const name = option.words.at(-1) ?? "";
      if (option.values.length && !option.values.includes(word.value))
        say(trans.__("%1: expected %2, not %3.", name, list(option.values, trans), word.value));
      else if (option.pattern && !new RegExp(option.pattern).test(word.value))
        say(
          trans.__("%1: expected a value such as %2, not %3.", name, list(option.examples, trans), word.value || "''"),
        );
    }
  });
  return found;
}

function unknown(word: string, trans: ITranslate): string {
  const head = word.split("=")[0] ?? word;
  const near = nearest(
    head.startsWith("-") ? `--${head.replace(/^-+/, "")}` : `--${head}`,
    head.startsWith("-") ? 0.6 : 0.8,
  );
  const what = head.startsWith("-") ? trans.__("There is no option %1.", head) : trans.__("%1 is not an option.", head);
  return near ? `${what} ${trans.__("Did you mean %1?", near)}` : what;
}

/** `{name}` as a whole value stands for a variable. */
function isVariable(value: string): boolean {
  return /^\{[^\W\d]\w*\}$/u.test(value);
}

function list(words: readonly string[], trans: ITranslate): string {
  return words.length < 2 ? words.join("") : trans.__("%1 or %2", words.slice(0, -1).join(", "), words.at(-1) ?? "");
}

/** What could stand at an offset of the line: options that are not given yet, or the values of one; null elsewhere. */
export function proposals(
  line: IMagicLine,
  at: number,
  trans: ITranslate,
): { from: number; to: number; items: IProposal[] } | null {
  if (at < line.from + MAGIC.length + 1 || at > line.to) return null;
  const here = line.words.find((word) => word.from <= at && at <= word.to);
  if (here?.kind === "argument" || line.words.some((word) => word.kind === "separator" && word.to <= at)) return null;
  const before = line.words.filter((word) => word.to < at || (word.to === at && word !== here)).at(-1);
  const owner = here ? (here.kind === "value" ? here.option : undefined) : wants(before);
  if (here && !owner && !here.value.startsWith("-")) return null;
  const begun = here?.value.slice(0, at - here.from) ?? "";
  const items = (owner ? valuesFor(owner, trans) : optionsBeside(line, here, trans)).filter(({ label }) =>
    label.startsWith(begun),
  );
  return { from: here?.from ?? at, to: here?.to ?? at, items };
}

function valuesFor(option: IOption, trans: ITranslate): IProposal[] {
  const help = trans.__(option.help);
  return [...option.values, ...option.examples].map((value) => ({ label: value, insert: value, help }));
}

/** The options that a line may still get, besides the word that is being written. */
function optionsBeside(line: IMagicLine, here: IWord | undefined, trans: ITranslate): IProposal[] {
  const given = new Set(line.words.filter((word) => word !== here).map((word) => word.option?.name));
  return OPTIONS.filter((option) => option.repeatable || !given.has(option.name)).flatMap((option) =>
    [option.words.at(-1) ?? "", option.negated]
      .filter(Boolean)
      .map((word) => ({ label: word, insert: word, help: helpOf(option, trans) })),
  );
}

/** The option that a word leaves open: it takes a value, and none stands behind it. */
function wants(word: IWord | undefined): IOption | undefined {
  return word?.kind === "option" && word.option?.metavar ? word.option : undefined;
}

/** What a hover over an offset says: a problem, or the option's help. */
export function explain(
  line: IMagicLine,
  at: number,
  trans: ITranslate,
): { from: number; to: number; sentence: string } | null {
  const problem = problems(line, trans).find(({ from, to }) => from <= at && at <= to);
  if (problem) return problem;
  const word = line.words.find(({ from, to }) => from <= at && at <= to);
  return word?.option ? { from: word.from, to: word.to, sentence: helpOf(word.option, trans) } : null;
}

/** An option's help in one text: how it is written, what it means, what it is by default. */
export function helpOf(option: IOption, trans: ITranslate): string {
  const usage =
    [...option.words, ...(option.negated ? [option.negated] : [])].join(", ") +
    (option.metavar ? ` ${option.metavar}` : "");
  const fallback = option.default ? ` ${trans.__("Default: %1.", option.default)}` : "";
  return `${usage}\n${trans.__(option.help)}${fallback}`;
}
