/** A job's log in a panel of its own, with search, following its end. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { MainAreaWidget } from "@jupyterlab/apputils";
import { ITranslator, nullTranslator, TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget } from "@jupyterlab/ui-components";
import React from "react";

import { bacalhauIcon } from "../icon";
import type { JobBoard } from "../jobboard";
import { heading } from "../joblist";
import { cutAt, logLines } from "../logtext";
import { CommandIDs, IJobBoard, NAME, PluginIDs } from "../tokens";

/** Lines that are drawn; older ones are counted. */
const SHOWN = 5000;

export const joblog: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.log,
  description: "A job's log, with search.",
  autoStart: true,
  requires: [IJobBoard],
  optional: [ITranslator],
  activate: (app: JupyterFrontEnd, board: JobBoard, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load(NAME);
    const open = new Map<string, MainAreaWidget>();
    app.commands.addCommand(CommandIDs.log, {
      label: trans.__("Logs"),
      describedBy: {
        args: { type: "object", properties: { key: { type: "string", description: "The job's key on the board." } } },
      },
      execute: (args) => {
        const key = args["key"];
        const job = typeof key === "string" ? board.job(key) : undefined;
        if (!job) return;
        let widget = open.get(job.key);
        if (!widget || widget.isDisposed) {
          widget = new MainAreaWidget({ content: new JobLog(board, job.key, trans) });
          closeOnEscape(widget, document.activeElement);
          widget.id = `bacalhau-log-${job.key}`;
          widget.title.label = trans.__("Log: %1", heading(job));
          widget.title.caption = widget.title.label;
          widget.title.icon = bacalhauIcon;
          widget.title.closable = true;
          open.set(job.key, widget);
          // Below the notebook: the main area of Notebook 7 holds one widget, and silently no other.
          app.shell.add(widget, "down");
        }
        app.shell.activateById(widget.id);
      },
    });
  },
};

/** Escape closes a log, and the focus goes back to where it was; in a search it first empties the search, as everywhere. */
function closeOnEscape(widget: MainAreaWidget, before: Element | null): void {
  widget.node.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || (event.target instanceof HTMLInputElement && event.target.value)) return;
    widget.dispose();
    if (before instanceof HTMLElement) before.focus();
  });
}

class JobLog extends ReactWidget {
  constructor(
    private readonly board: JobBoard,
    private readonly key: string,
    private readonly trans: TranslationBundle,
  ) {
    super();
    this.addClass("bj-log");
    board.follow(key, true);
  }

  override dispose(): void {
    if (!this.isDisposed) this.board.follow(this.key, false);
    super.dispose();
  }

  protected override render(): React.ReactElement {
    return <Log board={this.board} id={this.key} trans={this.trans} />;
  }
}

interface IProps {
  board: JobBoard;
  id: string;
  trans: TranslationBundle;
}

function Log({ board, id, trans }: IProps): React.ReactElement {
  const [, redraw] = React.useReducer((count: number) => count + 1, 0);
  const [wanted, setWanted] = React.useState("");
  const [follow, setFollow] = React.useState(true);
  const end = React.useRef<HTMLPreElement>(null);
  React.useEffect(() => {
    const heard = (_: JobBoard, key: string): void => {
      if (key === id) redraw();
    };
    board.logged.connect(heard);
    return () => {
      board.logged.disconnect(heard);
    };
  }, [board, id]);
  React.useEffect(() => {
    if (follow && end.current) end.current.scrollTop = end.current.scrollHeight;
  });
  const { pieces, over } = board.log(id);
  const lines = React.useMemo(() => logLines(pieces), [pieces]);
  const cut = lines.slice(-SHOWN).map((line) => ({ ...line, parts: cutAt(line.text, wanted) }));
  const found = cut.reduce((sum, { parts }) => sum + (parts.length - 1) / 2, 0);
  return (
    <>
      <div className="bj-bar">
        <input
          type="search"
          placeholder={trans.__("Search")}
          aria-label={trans.__("Search the log")}
          value={wanted}
          onChange={(event) => {
            setWanted(event.target.value);
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter") next(end.current, event.shiftKey);
          }}
        />
        <span role="status">{wanted ? trans._n("%1 found", "%1 found", found) : ""}</span>
        <label>
          <input
            type="checkbox"
            checked={follow}
            onChange={(event) => {
              setFollow(event.target.checked);
            }}
          />
          {trans.__("Follow")}
        </label>
        <span className="bj-dim">{over ? trans.__("ended") : trans.__("live")}</span>
      </div>
      <pre ref={end} role="log" aria-live="off" aria-label={trans.__("Log of the job")} tabIndex={0}>
        {lines.length > SHOWN ? (
          <div className="bj-dim">{trans.__("… %1 earlier lines", lines.length - SHOWN)}</div>
        ) : null}
        {cut.map(({ parts, stream }, n) => (
          <div key={n} data-stream={stream} title={stream === "stderr" ? "stderr" : undefined}>
            {parts.map((part, m) => (m % 2 ? <mark key={m}>{part}</mark> : part))}
          </div>
        ))}
        {lines.length ? null : <div className="bj-dim">{trans.__("Nothing was printed yet.")}</div>}
      </pre>
    </>
  );
}

/** Scroll to the next place that was found, or the one before. */
function next(log: HTMLElement | null, back: boolean): void {
  const places = [...(log?.querySelectorAll("mark") ?? [])];
  const here = places.findIndex((place) => place.classList.contains("bj-here"));
  const to = places[(here + (back ? -1 : 1) + places.length) % places.length];
  places[here]?.classList.remove("bj-here");
  to?.classList.add("bj-here");
  to?.scrollIntoView({ block: "center" });
}
