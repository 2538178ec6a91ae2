/** The list of plugins. */

import { board } from "./plugins/board";
import { cells } from "./plugins/cells";
import { commands } from "./plugins/commands";
import { completion } from "./plugins/completion";
import { panel } from "./plugins/panel";

export default [board, commands, panel, cells, completion];
