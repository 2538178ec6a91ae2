/** What a job leaves in a notebook, drawn from the output and its metadata: no kernel is needed; with one, its live card. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import { ITranslator, nullTranslator, TranslationBundle } from "@jupyterlab/translation";
import { ISignal, Signal } from "@lumino/signaling";
import { PanelLayout, Widget } from "@lumino/widgets";

import { failure, IReceipt, Outcome, outcome, receipt } from "../protocol";
import { NAME, PluginIDs } from "../tokens";

const MIME_TYPE = "application/vnd.bacalhau.job+json";
const WIDGET_TYPE = "application/vnd.jupyter.widget-view+json";
/** Before ipywidgets (-10), whose view of a widget without a kernel says no more than that it is loading. */
const RANK = -20;
const ICONS: Record<Outcome, string> = { completed: "✓", failed: "✕", stopped: "■", submitted: "↗" };
const TONES: Record<Outcome, string> = { completed: "ok", failed: "bad", stopped: "quiet", submitted: "run" };
const GONE = ["autorestarting", "dead", "restarting", "terminating"];

type Renderer = ReturnType<IRenderMimeRegistry["createRenderer"]>;
type Model = Parameters<Renderer["renderModel"]>[0];

export const receipts: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.receipt,
  description: "Draws what a job leaves in a notebook.",
  autoStart: true,
  requires: [IRenderMimeRegistry],
  optional: [ITranslator, INotebookTracker],
  activate: (
    app: JupyterFrontEnd,
    registry: IRenderMimeRegistry,
    translator: ITranslator | null,
    notebooks: INotebookTracker | null,
  ) => {
    const trans = (translator ?? nullTranslator).load(NAME);
    const add = (to: IRenderMimeRegistry, make: () => Renderer): void => {
      to.addFactory({ safe: true, mimeTypes: [MIME_TYPE], createRenderer: make }, RANK);
    };
    add(registry, () => new Receipt(trans));
    // Each notebook has renderers of its own, and among them that of its kernel's widgets.
    const follow = (panel: NotebookPanel): void => {
      const { rendermime } = panel.content;
      const gone = ended(panel);
      // A widget that is drawn before ipywidgets has met the kernel never comes; it does so once the kernel is ready, and we after it.
      const ready = Promise.all([app.restored, panel.sessionContext.ready]).then(
        () => new Promise((resolve) => setTimeout(resolve)),
      );
      add(rendermime, () => new LiveCard(trans, rendermime, ready, gone));
    };
    notebooks?.forEach(follow);
    notebooks?.widgetAdded.connect((_, panel) => {
      follow(panel);
    });
  },
};

/** Emitted when a notebook's kernel ends, or begins anew: its widgets end with it, without a word. */
function ended(panel: NotebookPanel): ISignal<NotebookPanel, void> {
  const gone = new Signal<NotebookPanel, void>(panel);
  panel.sessionContext.statusChanged.connect((_, status) => {
    if (GONE.includes(status)) gone.emit();
  });
  panel.sessionContext.kernelChanged.connect((_, { oldValue }) => {
    if (oldValue) gone.emit();
  });
  return gone;
}

/** What a finished job left, or one that was sent and that nobody watches. */
class Receipt extends Widget {
  constructor(private readonly trans: TranslationBundle) {
    super();
    this.addClass("bj-receipt");
  }

  renderModel(model: Model): Promise<void> {
    const facts = receipt(model.metadata);
    const data = model.data[MIME_TYPE];
    const said = outcome(data);
    // A background job's output says for ever that it was sent; how it ended stands beside it.
    const known = said === "submitted" ? (facts.outcome ?? said) : said;
    this.node.replaceChildren(drawn(known, failure(data) || facts.failure, facts, this.trans));
    return Promise.resolve();
  }
}

/** A background job's live card where its kernel has one; else, and until it is there, the receipt. */
class LiveCard extends Widget {
  constructor(
    trans: TranslationBundle,
    private readonly rendermime: IRenderMimeRegistry,
    private readonly ready: Promise<unknown>,
    gone: ISignal<NotebookPanel, void>,
  ) {
    super();
    this.receipt = new Receipt(trans);
    this.places.addWidget(this.receipt);
    this.layout = this.places;
    gone.connect(this.end, this);
  }

  async renderModel(model: Model): Promise<void> {
    await this.receipt.renderModel(model);
    const view = model.data[WIDGET_TYPE];
    const key = JSON.stringify(view ?? null);
    if (key === this.shown) return; // the same card: only its receipt is another
    this.shown = key;
    this.end();
    if (!view || !model.trusted) return;
    void this.ready.then(() => {
      if (!this.isDisposed && this.shown === key && !this.card) this.begin(model);
    });
  }

  private begin(model: Model): void {
    if (!this.rendermime.mimeTypes.includes(WIDGET_TYPE)) return;
    const card = (this.card = this.rendermime.createRenderer(WIDGET_TYPE));
    card.hide();
    this.places.addWidget(card);
    new MutationObserver((_, observer) => {
      if (card.isDisposed) observer.disconnect();
      else if (card.node.querySelector(".bm-card")) {
        observer.disconnect();
        card.show();
        this.receipt.hide();
      }
    }).observe(card.node, { childList: true, subtree: true });
    void card.renderModel(model);
  }

  override dispose(): void {
    if (!this.isDisposed) Signal.disconnectReceiver(this);
    super.dispose();
  }

  private readonly end = (): void => {
    this.card?.dispose();
    this.card = null;
    this.receipt.show();
  };

  private readonly places = new PanelLayout();
  private readonly receipt: Receipt;
  private card: Renderer | null = null;
  private shown = "null";
}

function drawn(said: Outcome | null, failed: string, facts: IReceipt, trans: TranslationBundle): HTMLElement {
  const titles: Record<Outcome, string> = {
    completed: trans.__("Completed"),
    failed: failed || trans.__("Failed"),
    stopped: trans.__("Stopped"),
    submitted: trans.__("Submitted"),
  };
  const card = part("section", "bj-card", "");
  card.dataset["tone"] = said ? TONES[said] : "quiet";
  card.setAttribute("aria-label", trans.__("Bacalhau job"));
  const icon = part("span", "bj-icon", said ? ICONS[said] : "?");
  icon.setAttribute("aria-hidden", "true");
  const node = facts.node.slice(0, 10);
  const short = [facts.seconds === null ? "" : trans.__("in %1 s", facts.seconds), node ? trans.__("on %1", node) : ""];
  const brought = said === "completed" ? facts.result : "";
  const back = said === "submitted" && facts.job ? `%bacalhau attach ${facts.job.slice(0, 10)}` : "";
  const head = [
    icon,
    part("b", "", said ? titles[said] : trans.__("A job of a later version")),
    part("span", "bj-dim", [short.filter(Boolean).join(" "), brought].filter(Boolean).join(" · ")),
  ];
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
  card.append(known.length ? details(head, trans.__("Details"), known) : line("div", head));
  if (back) {
    const again = part("div", "bj-receipt-back bj-dim", `${trans.__("How it goes on:")} `);
    again.append(part("code", "", back));
    card.append(again);
  }
  return card;
}

function part(tag: string, className: string, text: string): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** What is said in one line. */
function line(tag: string, parts: readonly HTMLElement[]): HTMLElement {
  const made = part(tag, "bj-receipt-head", "");
  made.append(...parts);
  return made;
}

/** The line, and at its end what unfolds the rest. */
function details(
  head: readonly HTMLElement[],
  title: string,
  lines: readonly (readonly [string, string])[],
): HTMLElement {
  const made = document.createElement("details");
  const list = document.createElement("dl");
  for (const [name, value] of lines) list.append(part("dt", "", name), part("dd", "", value));
  made.append(line("summary", [...head, part("span", "bj-unfold", title)]), list);
  return made;
}
