/** The names by which the plugins know each other. */

import { Token } from "@lumino/coreutils";

import type { JobBoard } from "./jobboard";

export const NAME = "bacalhau-magic";

/** Ids of the plugins. */
export const PluginIDs = {
  cells: `${NAME}:cells`,
  completion: `${NAME}:completion`,
  board: `${NAME}:board`,
  commands: `${NAME}:commands`,
  form: `${NAME}:form`,
  log: `${NAME}:log`,
  panel: `${NAME}:panel`,
  presence: `${NAME}:presence`,
  receipt: `${NAME}:receipt`,
} as const;

export const CommandIDs = {
  form: `${NAME}:form`,
  jobs: `${NAME}:jobs`,
  stop: `${NAME}:stop`,
  log: `${NAME}:log`,
  openResult: `${NAME}:open-result`,
  copyAttach: `${NAME}:copy-attach`,
  copySpec: `${NAME}:copy-spec`,
  goToCell: `${NAME}:go-to-cell`,
} as const;

export const IJobBoard = new Token<JobBoard>(`${NAME}:IJobBoard`, "The jobs of all kernels at hand.");
