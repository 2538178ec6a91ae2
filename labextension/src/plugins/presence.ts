/** Jobs where one is not looking at them: the status bar, the Running section, a note when a job ends unseen. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Notification } from "@jupyterlab/apputils";
import { INotebookTracker } from "@jupyterlab/notebook";
import { IRunningSessionManagers, IRunningSessions } from "@jupyterlab/running";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { IStatusBar } from "@jupyterlab/statusbar";
import { ITranslator, nullTranslator, TranslationBundle } from "@jupyterlab/translation";
import { Signal } from "@lumino/signaling";
import { Widget } from "@lumino/widgets";

import { bacalhauIcon } from "../icon";
import type { IBoardJob, JobBoard } from "../jobboard";
import { counts, heading, line } from "../joblist";
import { CommandIDs, IJobBoard, NAME, PluginIDs } from "../tokens";

export const presence: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.presence,
  description: "Jobs in the status bar, in the Running section, and in notifications.",
  autoStart: true,
  requires: [IJobBoard, INotebookTracker],
  optional: [ITranslator, IStatusBar, IRunningSessionManagers, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    board: JobBoard,
    notebooks: INotebookTracker,
    translator: ITranslator | null,
    status: IStatusBar | null,
    running: IRunningSessionManagers | null,
    settings: ISettingRegistry | null,
  ) => {
    const trans = (translator ?? nullTranslator).load(NAME);
    const item = new StatusItem(app, board, trans);
    status?.registerStatusItem(PluginIDs.presence, {
      item,
      align: "left",
      rank: 50,
      isActive: () => item.isWanted,
      activeStateChanged: board.changed,
    });
    running?.add(section(app, board, trans));
    let wanted: unknown = "unseen";
    void settings?.load(PluginIDs.presence).then((loaded) => {
      const read = (): void => {
        wanted = loaded.get("notifications").composite;
      };
      loaded.changed.connect(read);
      read();
    });
    board.ended.connect((_, job) => {
      if (wanted === "never" || (wanted !== "always" && isSeen(notebooks, job))) return;
      const good = job.snapshot.phase === "completed";
      Notification.emit(`${heading(job)}: ${line(job)}`, good ? "success" : "warning", {
        autoClose: good ? 5000 : false,
        actions: [
          {
            label: trans.__("Go to cell"),
            callback: () => void app.commands.execute(CommandIDs.goToCell, { key: job.key }),
          },
        ],
      });
    });
  },
};

/** Whether the notebook that sent a job is in view. */
function isSeen(notebooks: INotebookTracker, job: IBoardJob): boolean {
  const panel = notebooks.find((candidate) => candidate.context.path === job.path);
  return !document.hidden && panel?.isVisible === true;
}

class StatusItem extends Widget {
  constructor(app: JupyterFrontEnd, board: JobBoard, trans: TranslationBundle) {
    const node = document.createElement("button");
    node.type = "button";
    super({ node });
    this.addClass("bj-status");
    node.addEventListener("click", () => {
      void app.commands.execute(CommandIDs.jobs);
    });
    node.title = trans.__("Show the jobs on Bacalhau");
    const draw = (): void => {
      const { running, waiting } = counts(board.jobs);
      const words = [
        running ? trans.__("%1 running", running) : "",
        waiting ? trans.__("%1 waiting", waiting) : "",
      ].filter(Boolean);
      this.isWanted = words.length > 0;
      node.textContent = words.length ? `◆ ${trans.__("Bacalhau: %1", words.join(", "))}` : "";
    };
    board.changed.connect(draw);
    draw();
  }

  isWanted = false;
}

/** The jobs that are not over, in Lab's list of what runs. */
function section(app: JupyterFrontEnd, board: JobBoard, trans: TranslationBundle): IRunningSessions.IManager {
  const changed = new Signal<JobBoard, void>(board);
  board.changed.connect(() => {
    changed.emit();
  });
  const open = (): IBoardJob[] => board.jobs.filter((job) => job.live && job.reachable && !job.snapshot.over);
  return {
    name: trans.__("Bacalhau jobs"),
    running: () =>
      open().map((job) => ({
        open: () => void app.commands.execute(CommandIDs.goToCell, { key: job.key }),
        shutdown: () => {
          board.stop(job.key);
        },
        icon: () => bacalhauIcon,
        label: () => heading(job),
        labelTitle: () => line(job),
        detail: () => job.snapshot.title,
      })),
    shutdownAll: () => {
      for (const job of open()) board.stop(job.key);
    },
    refreshRunning: () => undefined,
    runningChanged: changed,
    shutdownLabel: trans.__("Stop"),
    shutdownAllLabel: trans.__("Stop All"),
    shutdownAllConfirmationText: trans.__("Stop all jobs on Bacalhau that run from here?"),
  };
}
