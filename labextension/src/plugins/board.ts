/** Brings the kernels of all notebooks to the job board. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import type { Kernel } from "@jupyterlab/services";
import { ITranslator, nullTranslator } from "@jupyterlab/translation";
import type { JSONObject } from "@lumino/coreutils";

import { IKernel, JobBoard } from "../jobboard";
import { COMM_ID } from "../protocol";
import { IJobBoard, NAME, PluginIDs } from "../tokens";

const KEPT = "bacalhau-magic:jobs";

export const board: JupyterFrontEndPlugin<JobBoard> = {
  id: PluginIDs.board,
  description: "The jobs of all kernels at hand.",
  autoStart: true,
  provides: IJobBoard,
  requires: [INotebookTracker],
  optional: [ITranslator],
  activate: (_app: JupyterFrontEnd, notebooks: INotebookTracker, translator: ITranslator | null): JobBoard => {
    const made = new JobBoard((translator ?? nullTranslator).load(NAME));
    made.restore(kept());
    made.changed.connect(() => {
      keep(made);
    });
    notebooks.widgetAdded.connect((_, panel) => {
      watch(made, panel);
    });
    notebooks.forEach((panel) => {
      watch(made, panel);
    });
    return made;
  },
};

/** Follow the kernel of one notebook: another one, a restart, its end. */
function watch(board: JobBoard, panel: NotebookPanel): void {
  const context = panel.sessionContext;
  let current = "";
  const detach = (): void => {
    if (current) board.detach(current);
    current = "";
  };
  const attach = (): void => {
    const connection = context.session?.kernel;
    if (current && current === connection?.id && connection.hasComm(COMM_ID)) return;
    detach();
    if (!connection || connection.status === "dead") return;
    current = connection.id;
    void board.attach(kernel(connection, () => panel.context.path));
  };
  context.kernelChanged.connect(attach);
  context.statusChanged.connect((_, status) => {
    // A restart drops the kernel's comms on this side too, without a word.
    if (!context.session?.kernel?.hasComm(COMM_ID)) detach();
    if (status === "idle" || status === "busy") attach();
  });
  panel.disposed.connect(detach);
  attach();
}

function kernel(connection: Kernel.IKernelConnection, path: () => string): IKernel {
  return {
    id: connection.id,
    get path() {
      return path();
    },
    knows: async (id) => {
      try {
        const { content } = await connection.requestCommInfo({ target_name: id });
        return content.status === "ok" && id in content.comms;
      } catch {
        return false; // it ended meanwhile
      }
    },
    connect: (id, onMessage) => {
      if (connection.hasComm(id)) throw new Error(`The comm ${id} is in use.`);
      const comm = connection.createComm(id, id);
      comm.onMsg = (message): void => {
        onMessage(message.content.data);
      };
      return {
        send: (data) => {
          if (!comm.isDisposed && !connection.isDisposed) comm.send({ ...data } satisfies JSONObject);
        },
        dispose: () => {
          comm.dispose();
        },
      };
    },
  };
}

/** The last known jobs of this browser tab, so that a reload shows them before any kernel answers. */
function kept(): unknown {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
  } catch {
    return [];
  }
}

function keep(board: JobBoard): void {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(board));
  } catch {
    // A storage that is full or forbidden costs the memory of a reload, nothing else.
  }
}
