/** What a finished job left in a notebook, drawn from the output and its metadata: no kernel is needed. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import { ITranslator, nullTranslator, TranslationBundle } from "@jupyterlab/translation";
import { Widget } from "@lumino/widgets";

import { Outcome, outcome, receipt } from "../protocol";
import { NAME, PluginIDs } from "../tokens";

const MIME_TYPE = "application/vnd.bacalhau.job+json";
const ICONS: Record<Outcome, string> = { completed: "✓", failed: "✕", stopped: "■", submitted: "↗" };
const TONES: Record<Outcome, string> = { completed: "ok", failed: "bad", stopped: "quiet", submitted: "run" };

type Model = Parameters<ReturnType<IRenderMimeRegistry["createRenderer"]>["renderModel"]>[0];

export const receipts: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.receipt,
  description: "Draws what a finished job left in a notebook.",
  autoStart: true,
  requires: [IRenderMimeRegistry],
  optional: [ITranslator],
  activate: (_app: JupyterFrontEnd, registry: IRenderMimeRegistry, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load(NAME);
    // Ranked above text/html, which the bundle has for front ends without us.
    registry.addFactory({ safe: true, mimeTypes: [MIME_TYPE], createRenderer: () => new Receipt(trans) }, 10);
  },
};

class Receipt extends Widget {
  constructor(private readonly trans: TranslationBundle) {
    super();
    this.addClass("bj-receipt");
  }

  renderModel(model: Model): Promise<void> {
    const { trans } = this;
    const found = outcome(model.data[MIME_TYPE]);
    const facts = receipt(model.metadata);
    const titles: Record<Outcome, string> = {
      completed: trans.__("Completed"),
      failed: trans.__("Failed"),
      stopped: trans.__("Stopped"),
      submitted: trans.__("Submitted"),
    };
    const card = part("section", "bj-card", "");
    card.dataset["tone"] = found ? TONES[found] : "quiet";
    card.setAttribute("aria-label", trans.__("Bacalhau job"));
    const icon = part("span", "bj-icon", found ? ICONS[found] : "?");
    icon.setAttribute("aria-hidden", "true");
    const head = part("div", "bj-receipt-head", "");
    const node = facts.node.slice(0, 10);
    const short = [
      facts.seconds === null ? "" : trans.__("in %1 s", facts.seconds),
      node ? trans.__("on %1", node) : "",
    ];
    head.append(
      icon,
      part("b", "", found ? titles[found] : trans.__("A job of a later version")),
      part("span", "bj-dim", short.filter(Boolean).join(" ")),
    );
    card.append(head);
    const started = new Date(facts.started);
    const lines: [string, string][] = [
      [trans.__("job"), facts.job],
      [trans.__("name"), facts.name],
      [trans.__("node"), facts.node],
      [trans.__("started"), Number.isNaN(started.getTime()) ? facts.started : started.toLocaleString()],
      [trans.__("route"), facts.route],
      ...facts.notices.map((notice): [string, string] => [trans.__("notice"), notice]),
    ];
    const known = lines.filter(([, value]) => value);
    if (known.length) card.append(details(trans.__("Details"), known));
    this.node.replaceChildren(card);
    return Promise.resolve();
  }
}

function part(tag: string, className: string, text: string): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function details(title: string, lines: readonly (readonly [string, string])[]): HTMLElement {
  const made = document.createElement("details");
  const list = document.createElement("dl");
  for (const [name, value] of lines) list.append(part("dt", "", name), part("dd", "", value));
  made.append(part("summary", "", title), list);
  return made;
}
