/** What can be done with a job, as commands: the panel, menus and shortcuts use the same ones. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Clipboard, Notification } from "@jupyterlab/apputils";
import { INotebookTracker, NotebookActions, NotebookPanel } from "@jupyterlab/notebook";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";

import type { IBoardJob, JobBoard } from "../jobboard";
import { file, isOf } from "../joblist";
import { CommandIDs, IJobBoard, NAME, PluginIDs } from "../tokens";

const ARGS = {
  type: "object",
  properties: { key: { type: "string", description: "The job's key on the board." } },
  required: ["key"],
} as const;

export const commands: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.commands,
  description: "What can be done with a job.",
  autoStart: true,
  requires: [IJobBoard, INotebookTracker],
  optional: [ITranslator],
  activate: (app: JupyterFrontEnd, board: JobBoard, notebooks: INotebookTracker, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load(NAME);
    const add = (id: string, label: string, act: (job: IBoardJob) => unknown): void => {
      app.commands.addCommand(id, {
        label,
        describedBy: { args: ARGS },
        execute: async (args) => {
          const key = args["key"];
          const job = typeof key === "string" ? board.job(key) : undefined;
          if (job) await act(job);
        },
      });
    };
    add(CommandIDs.stop, trans.__("Stop"), (job) => {
      board.stop(job.key);
    });
    add(CommandIDs.copyAttach, trans.__("Copy attach cell"), (job) => {
      Clipboard.copyToSystem(attachCell(job));
    });
    add(CommandIDs.copySpec, trans.__("Copy spec"), async (job) => {
      try {
        Clipboard.copyToSystem(String(await board.ask({ key: job.key }, "spec", job.key)));
        Notification.success(trans.__("The spec of %1 is copied.", job.id.slice(0, 10)), { autoClose: 3000 });
      } catch (problem) {
        Notification.error(problem instanceof Error ? problem.message : String(problem));
      }
    });
    add(CommandIDs.goToCell, trans.__("Go to cell"), async (job) => {
      const panel = notebookOf(notebooks, job);
      if (!panel) Notification.warning(trans.__("Its notebook is not open: %1", file(job.path)), { autoClose: 5000 });
      else if (!(await show(app, panel, job)))
        Notification.warning(trans.__("The cell that sent it is not in %1 any more.", file(job.path)), {
          autoClose: 5000,
        });
    });
    add(CommandIDs.openResult, trans.__("Open result"), async (job) => {
      // The result comes into any notebook: the job's own, or the one at hand.
      const panel = notebookOf(notebooks, job) ?? notebooks.currentWidget;
      if (!panel) {
        Notification.warning(trans.__("Open a notebook first: the result comes into a cell of it."), {
          autoClose: 5000,
        });
        return;
      }
      await show(app, panel, job);
      NotebookActions.insertBelow(panel.content);
      panel.content.activeCell?.model.sharedModel.setSource(`%bacalhau get ${job.id}`);
      await NotebookActions.run(panel.content, panel.sessionContext);
    });
  },
};

/** A cell that watches a job that was sent before, and binds its names. */
export function attachCell(job: IBoardJob): string {
  return `%bacalhau attach ${job.id}`;
}

/** The open notebook that sent a job: the one with its cell, where there are several of that name. */
function notebookOf(notebooks: INotebookTracker, job: IBoardJob): NotebookPanel | null {
  const own = (panel: NotebookPanel): boolean => isOf(job, panel.context.path);
  return notebooks.find((panel) => own(panel) && cellOf(panel, job) >= 0) ?? notebooks.find(own) ?? null;
}

function cellOf(panel: NotebookPanel, job: IBoardJob): number {
  return panel.content.widgets.findIndex((cell) => cell.model.id === job.cell);
}

/** Bring a notebook into view, at the cell that sent a job; whether it has that cell. */
async function show(app: JupyterFrontEnd, panel: NotebookPanel, job: IBoardJob): Promise<boolean> {
  app.shell.activateById(panel.id);
  const index = cellOf(panel, job);
  if (index < 0) return false;
  panel.content.activeCellIndex = index;
  await panel.content.scrollToItem(index, "smart");
  return true;
}
