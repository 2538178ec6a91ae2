/** The jobs panel in the side bar. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ILayoutRestorer } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ITranslator, nullTranslator, TranslationBundle } from "@jupyterlab/translation";
import { ReactWidget } from "@jupyterlab/ui-components";
import type { CommandRegistry } from "@lumino/commands";
import { Menu } from "@lumino/widgets";
import React from "react";

import { bacalhauIcon } from "../icon";
import type { IBoardJob, JobBoard } from "../jobboard";
import { chosen, elapsed, heading, icon, IChoice, line, Order, quoted } from "../joblist";
import { Nodes } from "./nodes";
import { CommandIDs, IJobBoard, NAME, PluginIDs } from "../tokens";

const STEPS = [1, 2, 3, 4, 5, 6];

export const panel: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.panel,
  description: "The jobs of this notebook and all others, in the side bar.",
  autoStart: true,
  requires: [IJobBoard, INotebookTracker],
  optional: [ITranslator, ILayoutRestorer, ISettingRegistry, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    board: JobBoard,
    notebooks: INotebookTracker,
    translator: ITranslator | null,
    restorer: ILayoutRestorer | null,
    settings: ISettingRegistry | null,
    palette: ICommandPalette | null,
  ) => {
    const trans = (translator ?? nullTranslator).load(NAME);
    const widget = new JobsPanel(board, notebooks, app.commands, trans);
    const place = (side: unknown): void => {
      app.shell.add(widget, side === "right" ? "right" : "left", { rank: 450, type: "Bacalhau jobs" });
    };
    place("left");
    restorer?.add(widget, widget.id);
    app.commands.addCommand(CommandIDs.jobs, {
      label: trans.__("Show Jobs"),
      caption: trans.__("Show the jobs on Bacalhau"),
      describedBy: { args: { type: "object", properties: {} } },
      execute: () => {
        app.shell.activateById(widget.id);
        widget.activate(); // Notebook 7 only shows it
      },
    });
    palette?.addItem({ command: CommandIDs.jobs, category: "Bacalhau" });
    void settings?.load(PluginIDs.panel).then((loaded) => {
      let shown: unknown = "left";
      const move = (): void => {
        const side = loaded.get("side").composite;
        if (side !== shown) place((shown = side));
      };
      loaded.changed.connect(move);
      move();
    });
  },
};

class JobsPanel extends ReactWidget {
  constructor(
    private readonly board: JobBoard,
    private readonly notebooks: INotebookTracker,
    private readonly commands: CommandRegistry,
    private readonly trans: TranslationBundle,
  ) {
    super();
    this.id = "bacalhau-jobs";
    this.addClass("bj-panel");
    this.title.icon = bacalhauIcon;
    this.title.caption = trans.__("Bacalhau jobs");
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", trans.__("Bacalhau jobs"));
  }

  /** Who comes by keys goes on from here. */
  protected override onActivateRequest(): void {
    // Once the palette has closed: it hands the focus back to where it was.
    setTimeout(() => this.node.querySelector<HTMLElement>("[aria-pressed=true]")?.focus());
  }

  protected override render(): React.ReactElement {
    return <Jobs board={this.board} notebooks={this.notebooks} commands={this.commands} trans={this.trans} />;
  }
}

interface IProps {
  board: JobBoard;
  notebooks: INotebookTracker;
  commands: CommandRegistry;
  trans: TranslationBundle;
}

function Jobs({ board, notebooks, commands, trans }: IProps): React.ReactElement {
  const [, redraw] = React.useReducer((count: number) => count + 1, 0);
  const [tab, setTab] = React.useState<"mine" | "all" | "nodes">("mine");
  const all = tab === "all";
  const [filter, setFilter] = React.useState("");
  const [order, setOrder] = React.useState<Order>("newest");
  const [open, setOpen] = React.useState("");
  React.useEffect(() => {
    board.changed.connect(redraw);
    notebooks.currentChanged.connect(redraw);
    return () => {
      board.changed.disconnect(redraw);
      notebooks.currentChanged.disconnect(redraw);
    };
  }, [board, notebooks]);
  const choice: IChoice = { path: all ? null : (notebooks.currentWidget?.context.path ?? null), filter, order };
  const jobs = chosen(board.jobs, choice);
  useClock(jobs, redraw);
  const now = Date.now() / 1000;
  const tabs = [
    ["mine", trans.__("This notebook")],
    ["all", trans.__("All")],
    ["nodes", trans.__("Nodes")],
  ] as const;
  return (
    <>
      <div className="bj-bar">
        <div className="bj-seg" role="group" aria-label={trans.__("What is shown")}>
          {tabs.map(([name, label]) => (
            <button
              key={name}
              type="button"
              aria-pressed={tab === name}
              onClick={() => {
                setTab(name);
              }}
            >
              {label}
            </button>
          ))}
        </div>
        {tab === "nodes" ? null : (
          <>
            <input
              type="search"
              placeholder={trans.__("Filter")}
              aria-label={trans.__("Filter jobs")}
              value={filter}
              onChange={(event) => {
                setFilter(event.target.value);
              }}
            />
            <select
              aria-label={trans.__("Sort jobs")}
              value={order}
              onChange={(event) => {
                setOrder(event.target.value as Order);
              }}
            >
              <option value="newest">{trans.__("Newest")}</option>
              <option value="state">{trans.__("State")}</option>
              <option value="name">{trans.__("Name")}</option>
            </select>
          </>
        )}
      </div>
      {tab === "nodes" ? (
        <Nodes board={board} notebooks={notebooks} trans={trans} />
      ) : jobs.length ? (
        <ul className="bj-list" aria-label={trans.__("Jobs")} onKeyDown={walk}>
          {jobs.map((job) => (
            <Row
              key={job.key}
              job={job}
              now={now}
              open={job.key === open}
              toggle={() => {
                setOpen(job.key === open ? "" : job.key);
              }}
              commands={commands}
              trans={trans}
            />
          ))}
        </ul>
      ) : (
        <p className="bj-none">
          {filter
            ? trans.__("No job matches.")
            : all
              ? trans.__("No jobs yet.")
              : trans.__("This notebook has sent no jobs yet.")}
        </p>
      )}
    </>
  );
}

interface IRowProps {
  job: IBoardJob;
  now: number;
  open: boolean;
  toggle: () => void;
  commands: CommandRegistry;
  trans: TranslationBundle;
}

function Row({ job, now, open, toggle, commands, trans }: IRowProps): React.ReactElement {
  const { snapshot } = job;
  const act = (id: string) => () => {
    void commands.execute(id, { key: job.key });
  };
  const button = (id: string, shown: boolean): React.ReactElement | null =>
    shown ? (
      <button key={id} type="button" onClick={act(id)}>
        {commands.label(id, { key: job.key })}
      </button>
    ) : null;
  const stale = job.live && !job.reachable && !snapshot.over;
  return (
    <li className="bj-row" data-tone={stale ? "quiet" : snapshot.tone} data-phase={snapshot.phase} data-open={open}>
      <button type="button" className="bj-head" aria-expanded={open} onClick={toggle}>
        <span className="bj-icon" aria-hidden="true">
          {icon(job) + "\ufe0e"}
        </span>
        <span className="bj-name">{heading(job)}</span>
        <span className="bj-time">{elapsed(job, now)}</span>
        <span className="bj-line">{stale ? trans.__("Last known: %1", line(job)) : line(job)}</span>
      </button>
      {!snapshot.over && snapshot.step > 0 && !stale ? (
        <div className="bj-steps" aria-hidden="true">
          {STEPS.map((step) => (
            <i key={step} data-step={step < snapshot.step ? "on" : step === snapshot.step ? "now" : ""} />
          ))}
        </div>
      ) : null}
      {open ? (
        <div className="bj-more">
          <Details job={job} trans={trans} />
          <div className="bj-acts">
            {button(CommandIDs.stop, !snapshot.over && job.reachable)}
            {button(CommandIDs.log, job.reachable)}
            {button(CommandIDs.openResult, snapshot.phase === "completed" && job.id !== "")}
            {button(CommandIDs.goToCell, job.cell !== "")}
            {job.id ? <More job={job} commands={commands} trans={trans} /> : null}
          </div>
        </div>
      ) : null}
    </li>
  );
}

/** What is seldom wanted, in a menu. */
function More({ job, commands, trans }: Omit<IRowProps, "now" | "open" | "toggle">): React.ReactElement {
  const open = (event: React.MouseEvent<HTMLButtonElement>): void => {
    const button = event.currentTarget;
    const { left, bottom } = button.getBoundingClientRect();
    const menu = new Menu({ commands });
    for (const command of [CommandIDs.copyAttach, ...(job.reachable ? [CommandIDs.copySpec] : [])])
      menu.addItem({ command, args: { key: job.key } });
    menu.aboutToClose.connect(() => {
      button.focus();
      requestAnimationFrame(() => {
        menu.dispose();
      });
    });
    menu.open(left, bottom);
  };
  return (
    <button type="button" aria-haspopup="menu" aria-label={trans.__("More actions")} onClick={open}>
      ⋯
    </button>
  );
}

/** What a row says when it is open: all sentences, and the names that people quote. */
function Details({ job, trans }: { job: IBoardJob; trans: TranslationBundle }): React.ReactElement {
  const { snapshot } = job;
  return (
    <>
      {snapshot.lines.length || snapshot.notices.length ? (
        <ul className="bj-lines">
          {[...snapshot.lines, ...snapshot.notices].map((sentence, n) => (
            <li key={n}>{said(sentence)}</li>
          ))}
        </ul>
      ) : null}
      {snapshot.hint ? <p className="bj-hint">{said(snapshot.hint)}</p> : null}
      <p className="bj-id">
        {[...quoted(job), job.started ? trans.__("sent %1", new Date(job.started * 1000).toLocaleString()) : ""]
          .filter(Boolean)
          .join(" · ")}
      </p>
    </>
  );
}

/** Text with what stands between backticks set as code. */
export function said(text: string): React.ReactNode[] {
  return text.split("`").map((part, n) => (n % 2 ? <code key={n}>{part}</code> : part));
}

/** Redraw each second while a clock is shown. */
function useClock(jobs: readonly IBoardJob[], redraw: () => void): void {
  const runs = jobs.some((job) => job.snapshot.clock && job.reachable);
  React.useEffect(() => {
    if (!runs) return;
    const timer = setInterval(redraw, 1000);
    return () => {
      clearInterval(timer);
    };
  }, [runs, redraw]);
}

/** Arrow keys, Home and End go through the rows. */
function walk(event: React.KeyboardEvent<HTMLUListElement>): void {
  const heads = [...event.currentTarget.querySelectorAll<HTMLElement>(".bj-head")];
  const here = heads.indexOf(document.activeElement as HTMLElement);
  const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: heads.length - 1 }[event.key];
  const head = to === undefined || here < 0 ? undefined : heads[to];
  if (!head) return;
  event.preventDefault();
  head.focus();
}
