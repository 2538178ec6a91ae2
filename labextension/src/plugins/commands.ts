/** What can be done with a job, as commands: the panel, menus and shortcuts use the same ones. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Clipboard, Notification } from "@jupyterlab/apputils";
import { INotebookTracker, NotebookActions, NotebookPanel } from "@jupyterlab/notebook";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";

import type { IBoardJob, JobBoard } from "../jobboard";
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
    add(CommandIDs.goToCell, trans.__("Go to cell"), (job) => goToCell(app, notebooks, job));
    add(CommandIDs.openResult, trans.__("Open result"), async (job) => {
      const panel = await goToCell(app, notebooks, job);
      if (!panel) return;
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

/** Show the notebook and the cell that sent a job; null where the notebook is not open. */
async function goToCell(
  app: JupyterFrontEnd,
  notebooks: INotebookTracker,
  job: IBoardJob,
): Promise<NotebookPanel | null> {
  const panel =
    notebooks.find((candidate) => candidate.context.path === job.path) ?? (job.live ? null : notebooks.currentWidget);
  if (!panel) return null;
  app.shell.activateById(panel.id);
  const index = panel.content.widgets.findIndex((cell) => cell.model.id === job.cell);
  if (index >= 0) {
    panel.content.activeCellIndex = index;
    await panel.content.scrollToItem(index, "smart");
  }
  return panel;
}
