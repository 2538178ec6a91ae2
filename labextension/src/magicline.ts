/** The magic line as text: what stands on it, and how it is changed. Pure. */

import { IOption, nearest, OPTIONS, SPELLINGS } from "./optionlist";

export const MAGIC = "%%bacalhau";

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

interface IRaw {
  value: string;
  from: number;
  to: number;
  closed: boolean;
}

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
    const option = SPELLINGS.get(head);
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
    .map((letter) => SPELLINGS.get(`-${letter}`));
  if (/^-[A-Za-z]{2,}$/.test(value) && letters.every((option) => option && !option.metavar))
    return letters.map((option, n) => ({
      kind: "option",
      value: `-${value.charAt(n + 1)}`,
      from: n ? from + n + 1 : from,
      to: from + n + 2,
      option,
    }));
  const short = /^-[A-Za-z]./.test(value) ? SPELLINGS.get(value.slice(0, 2)) : undefined;
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
