/** The options of a cell, as the Python package has them, and their spellings. Pure. */

import generated from "./options.json";

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

/** Each option by every word that means it. */
export const SPELLINGS = new Map<string, IOption>(
  OPTIONS.flatMap((option) =>
    [...option.words, ...(option.negated ? [option.negated] : [])].map((word) => [word, option]),
  ),
);

/** The known long spelling that is nearest to a word, "" where none is near. */
export function nearest(word: string, cutoff: number): string {
  let best = "";
  let score = cutoff;
  for (const known of SPELLINGS.keys()) {
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
