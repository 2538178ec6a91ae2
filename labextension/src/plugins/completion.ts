/** Options and their values, completed on the magic line. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import {
  CompletionHandler,
  ICompletionContext,
  ICompletionProvider,
  ICompletionProviderManager,
} from "@jupyterlab/completer";
import { ITranslator, nullTranslator, TranslationBundle } from "@jupyterlab/translation";

import { proposals } from "../linehelp";
import { magicLine } from "../magicline";
import { NAME, PluginIDs } from "../tokens";

export const completion: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.completion,
  description: "Completes the options of a cell that runs on Bacalhau.",
  autoStart: true,
  requires: [ICompletionProviderManager],
  optional: [ITranslator],
  activate: (_app: JupyterFrontEnd, manager: ICompletionProviderManager, translator: ITranslator | null) => {
    manager.registerProvider(new Options((translator ?? nullTranslator).load(NAME)));
  },
};

class Options implements ICompletionProvider {
  constructor(private readonly trans: TranslationBundle) {}

  readonly identifier = "bacalhau-magic:options";
  /** Above the kernel's own proposals. */
  readonly rank = 1200;

  isApplicable(context: ICompletionContext): Promise<boolean> {
    return Promise.resolve(!!context.editor && magicLine(context.editor.model.sharedModel.getSource()) !== null);
  }

  fetch(request: CompletionHandler.IRequest): Promise<CompletionHandler.ICompletionItemsReply> {
    const line = magicLine(request.text);
    const found = line && proposals(line, request.offset, this.trans);
    const items = (found?.items ?? []).map(({ label, insert, help }) => ({
      label,
      insertText: insert,
      documentation: help,
      type: "option",
    }));
    return Promise.resolve({ start: found?.from ?? request.offset, end: found?.to ?? request.offset, items });
  }
}
