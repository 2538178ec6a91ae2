/** The magic line as text: what stands on it, what is wrong, what could stand there, how it is changed. Pure. */

import generated from "./options.json";
import type { ITranslate } from "./words";

export const MAGIC = "%%bacalhau";

/** An option as the schema defines it; `metavar` is "" for a switch. */
export interface IOption {
  readonly name: string;
  readonly group: string;
  readonly words: readonly string[];
  readonly negated: string;
  readonly metavar: string;
  readonly repeatable: boolean;
  readonly values: readonly string[];
  /** What a value must look like, "" where that is not known here. */
  readonly pattern: string;
  readonly examples: readonly string[];
  readonly default: string;
  readonly help: string;
}

export const OPTIONS: readonly IOption[] = generated.options;

/** A word of the line; `value` is without its quotes. Offsets count from the cell's beginning. */
export interface IWord {
  readonly kind: "option" | "value" | "argument" | "separator" | "unknown";
  readonly value: string;
  readonly from: number;
  readonly to: number;
  /** The option that it names or belongs to. */
  readonly option?: IOption;
}

export interface IMagicLine {
  /** Where the line begins and ends. */
  readonly from: number;
  readonly to: number;
  readonly words: readonly IWord[];
}

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

interface IRaw {
  value: string;
  from: number;
  to: number;
  closed: boolean;
}

const spellings = new Map<string, IOption>(
  OPTIONS.flatMap((option) =>
    [...option.words, ...(option.negated ? [option.negated] : [])].map((word) => [word, option]),
  ),
);

/** A cell's magic line, or null where the cell is none of ours. Empty lines above it are no matter, as in IPython. */
export function magicLine(source: string): IMagicLine | null {
  const start = source.search(/\S/);
  if (start < 0 || !source.startsWith(MAGIC, start) || source.lastIndexOf("\n", start) !== start - 1) return null;
  const end = source.indexOf("\n", start);
  const to = end < 0 ? source.length : end;
  const after = start + MAGIC.length;
  if (after < to && !/\s/.test(source.charAt(after))) return null;
  return { from: start, to, words: meanings(split(source.slice(after, to), after)) };
}

/** A cell's language: what `--lang` says, else Python. */
export function language(line: IMagicLine): string {
  return valueOf(line, "lang") ?? "python";
}

/** The value that the line gives to an option, the last one where it is given more than once. */
export function valueOf(line: IMagicLine, name: string): string | undefined {
  return valuesOf(line, name).pop();
}

/** All values that the line gives to an option; a switch's is its word. */
export function valuesOf(line: IMagicLine, name: string): string[] {
  return line.words
    .filter((word) => word.option?.name === name && word.kind === (word.option.metavar ? "value" : "option"))
    .map((word) => word.value);
}

/** Words as a POSIX shell splits them. */
function split(text: string, offset: number): IRaw[] {
  const words: IRaw[] = [];
  let word: IRaw | null = null;
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    if (!quote && /\s/.test(char)) {
      word = null;
      continue;
    }
    if (!word) {
      word = { value: "", from: offset + i, to: 0, closed: true };
      words.push(word);
    }
    if (quote ? char === quote : char === "'" || char === '"') {
      quote = quote ? "" : char;
      word.closed = !quote;
    } else if (char === "\\" && quote !== "'") {
      i++;
      const next = text.charAt(i);
      word.value += quote && next !== quote && next !== "\\" ? char + next : next;
      if (!next) word.closed = false;
    } else word.value += char;
    word.to = offset + i + 1;
  }
  return words;
}

/** What each word is: an option, its value, a program's argument, or nothing that is known. */
function meanings(raw: readonly IRaw[]): IWord[] {
  const words: IWord[] = [];
  const rest = [...raw];
  for (let word = rest.shift(); word; word = rest.shift()) {
    const { value, from, to } = word;
    if (value === "--") {
      words.push({ kind: "separator", value, from, to });
      words.push(...rest.splice(0).map((argument): IWord => ({ ...argument, kind: "argument" })));
      break;
    }
    const [head = "", ...tail] = value.split("=");
    const option = spellings.get(head);
    if (option) {
      const at = from + head.length;
      words.push({ kind: "option", value: head, from, to: tail.length ? at : to, option });
      if (tail.length) words.push({ kind: "value", value: tail.join("="), from: at + 1, to, option });
      else if (option.metavar && rest[0] && !looksLikeOption(rest[0].value)) {
        const given = rest.shift() as IRaw;
        words.push({ kind: "value", value: given.value, from: given.from, to: given.to, option });
      }
    } else words.push(...joined(word));
  }
  return words;
}

/** Short switches in one word (-qn), or a short option with its value (-ovalue); else a word that is not known. */
function joined({ value, from, to }: IRaw): IWord[] {
  const letters = value
    .slice(1)
    .split("")
    .map((letter) => spellings.get(`-${letter}`));
  if (/^-[A-Za-z]{2,}$/.test(value) && letters.every((option) => option && !option.metavar))
    return letters.map((option, n) => ({
      kind: "option",
      value: `-${value.charAt(n + 1)}`,
      from: n ? from + n + 1 : from,
      to: from + n + 2,
      option,
    }));
  const short = /^-[A-Za-z]./.test(value) ? spellings.get(value.slice(0, 2)) : undefined;
  if (short?.metavar && !nearest(`-${value}`, 0.8))
    return [
      { kind: "option", value: value.slice(0, 2), from, to: from + 2, option: short },
      { kind: "value", value: value.slice(2), from: from + 2, to, option: short },
    ];
  return [{ kind: "unknown", value, from, to }];
}

function looksLikeOption(word: string): boolean {
  return word.startsWith("-") && word !== "-" && !/^-\d+(\.\d+)?\w*$/.test(word);
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

/** The known long spelling that is nearest to a word, "" where none is near. */
function nearest(word: string, cutoff: number): string {
  let best = "";
  let score = cutoff;
  for (const known of spellings.keys()) {
    if (!known.startsWith("--")) continue;
    const alike = 1 - distance(word, known) / Math.max(word.length, known.length);
    if (alike >= score) [best, score] = [known, alike];
  }
  return best;
}

/** Levenshtein's distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, swap));
    }
    row = next;
  }
  return row[b.length] ?? 0;
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

/** Some values as one text, and back: words as a shell has them, in quotes where they need them. */
export const asText = (values: readonly string[]): string => values.map(quoted).join(" ");
export const asValues = (text: string): string[] => split(text, 0).map(({ value }) => value);

/** A value as the line takes it: in quotes where a shell would need them. */
export function quoted(value: string): string {
  if (/^[\w@%+=:,./{}-]+$/.test(value)) return value;
  return `'${value.replaceAll("'", "'\\''")}'`;
}

/**
 * A cell's source with some options set (a list of values; [] takes the option out; [""] sets a switch), the rest of the
 * line as it stands. A cell without our magic gets it.
 */
export function withOptions(source: string, values: Readonly<Record<string, readonly string[]>>): string {
  const line = magicLine(source);
  if (!line) return withOptions(`${MAGIC}\n${source}`, values);
  const kept: string[] = [];
  let argued = "";
  for (const word of line.words) {
    const text = source.slice(word.from, word.to);
    if (word.kind === "separator") argued = source.slice(word.from, line.to).trimEnd();
    if (word.kind === "separator" || word.kind === "argument") continue;
    if (word.option && word.option.name in values) continue;
    const last = kept.length - 1;
    if (word.kind === "value" && source.charAt(word.from - 1) === "=") kept[last] = `${kept[last] ?? ""}=${text}`;
    else kept.push(text);
  }
  for (const option of OPTIONS)
    for (const value of values[option.name] ?? []) {
      const word = option.words.at(-1) ?? "";
      if (!option.metavar) kept.push(value === "no" ? option.negated : word);
      else kept.push(value.startsWith("-") ? `${word}=${quoted(value)}` : `${word} ${quoted(value)}`);
    }
  const made = [MAGIC, ...kept, argued].filter(Boolean).join(" ");
  return source.slice(0, line.from) + made + source.slice(line.to);
}
