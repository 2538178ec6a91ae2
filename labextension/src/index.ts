/** The list of plugins. */

import { board } from "./plugins/board";
import { commands } from "./plugins/commands";
import { panel } from "./plugins/panel";

export default [board, commands, panel];
