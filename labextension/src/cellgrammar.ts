/** A cell as a language: the magic line, and below it another language's own grammar. No grammar is bundled. */

import { defineLanguageFacet, Language, LanguageSupport } from "@codemirror/language";
import { Input, NodeSet, NodeType, Parser, parseMixed, PartialParse, Tree, TreeFragment } from "@lezer/common";
import { styleTags, tags } from "@lezer/highlight";

import { MAGIC, magicLine } from "./magicline";

interface IRange {
  from: number;
  to: number;
}

const names = ["MagicCell", "MagicName", "MagicOption", "MagicValue", "MagicArgument", "MagicBody"] as const;
const styles = styleTags({
  MagicName: tags.meta,
  MagicOption: tags.propertyName,
  MagicValue: tags.string,
  MagicArgument: tags.string,
});
const nodes = new NodeSet(names.map((name, id) => NodeType.define({ id, name, top: id === 0 }))).extend(styles);
const type = (name: (typeof names)[number]): NodeType => nodes.types[names.indexOf(name)] ?? NodeType.none;
const KINDS = {
  option: "MagicOption",
  value: "MagicValue",
  argument: "MagicArgument",
  separator: "MagicOption",
} as const;

/** The cell's own tree: the words of the magic line, and the body as one node. */
function outer(source: string): Tree {
  const children: Tree[] = [];
  const positions: number[] = [];
  const add = (name: (typeof names)[number], from: number, to: number): void => {
    if (to <= from) return;
    children.push(new Tree(type(name), [], [], to - from));
    positions.push(from);
  };
  const line = magicLine(source);
  if (line) {
    add("MagicName", line.from, line.from + MAGIC.length);
    for (const word of line.words) if (word.kind !== "unknown") add(KINDS[word.kind], word.from, word.to);
  }
  add("MagicBody", line ? Math.min(line.to + 1, source.length) : 0, source.length);
  return new Tree(type("MagicCell"), children, positions, source.length);
}

class CellParser extends Parser {
  constructor(private readonly nest: ReturnType<typeof parseMixed>) {
    super();
  }

  override createParse(input: Input, fragments: readonly TreeFragment[], ranges: readonly IRange[]): PartialParse {
    return this.nest(new Whole(input, ranges), input, fragments, ranges);
  }
}

/** A parse in one step: a cell's outer tree costs a few microseconds. */
class Whole implements PartialParse {
  readonly parsedPos: number;
  stoppedAt: number | null = null;

  constructor(
    private readonly input: Input,
    ranges: readonly IRange[],
  ) {
    this.parsedPos = ranges.at(-1)?.to ?? 0;
  }

  advance(): Tree {
    return outer(this.input.read(0, this.parsedPos));
  }

  stopAt(position: number): void {
    this.stoppedAt = position;
  }
}

/** A language's support, with the magic line above it. */
export function cellLanguage(name: string, inner: LanguageSupport | undefined): LanguageSupport {
  const body = inner?.language.parser;
  const nest = parseMixed((node) => (node.name === "MagicBody" && body ? { parser: body } : null));
  return new LanguageSupport(new Language(defineLanguageFacet(), new CellParser(nest), [], name), inner?.support ?? []);
}
