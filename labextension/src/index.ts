/** The list of plugins. */

import { board } from "./plugins/board";
import { cells } from "./plugins/cells";
import { commands } from "./plugins/commands";
import { completion } from "./plugins/completion";
import { form } from "./plugins/form";
import { joblog } from "./plugins/joblog";
import { panel } from "./plugins/panel";
import { presence } from "./plugins/presence";
import { receipts } from "./plugins/receipt";

export default [board, commands, panel, joblog, presence, receipts, cells, completion, form];
