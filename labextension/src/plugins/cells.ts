/** `%%bacalhau` cells in their own language; help and problems on the magic line. */

import type { Extension, Text } from "@codemirror/state";
import { Decoration, DecorationSet, EditorView, hoverTooltip, ViewPlugin, ViewUpdate } from "@codemirror/view";
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import type { Cell } from "@jupyterlab/cells";
import { IEditorExtensionRegistry, IEditorLanguageRegistry } from "@jupyterlab/codemirror";
import { INotebookTracker, NotebookPanel } from "@jupyterlab/notebook";
import { ITranslator, nullTranslator, TranslationBundle } from "@jupyterlab/translation";

import { cellLanguage } from "../cellgrammar";
import { explain, problems } from "../linehelp";
import { language, magicLine } from "../magicline";
import { NAME, PluginIDs } from "../tokens";

const MIME = "text/x-bacalhau-";
/** What the editor calls the languages that it calls otherwise than we do. */
const EDITOR_NAMES: Readonly<Record<string, string>> = { bash: "Shell", python: "Python" };

export const cells: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.cells,
  description: "Cells that run on Bacalhau, in their own language, with help on their magic line.",
  autoStart: true,
  requires: [INotebookTracker, IEditorLanguageRegistry, IEditorExtensionRegistry],
  optional: [ITranslator],
  activate: (
    _app: JupyterFrontEnd,
    notebooks: INotebookTracker,
    languages: IEditorLanguageRegistry,
    extensions: IEditorExtensionRegistry,
    translator: ITranslator | null,
  ) => {
    const checks = onMagicLine((translator ?? nullTranslator).load(NAME));
    extensions.addExtension({
      name: "bacalhau-magic:magic-line",
      factory: () => ({ instance: () => checks, reconfigure: () => null }),
    });
    const mime = mimeTypes(languages);
    const watch = (panel: NotebookPanel): void => {
      const known = new WeakSet<Cell>();
      const look = (): void => {
        for (const cell of panel.content.widgets) {
          if (cell.model.type !== "code" || known.has(cell)) continue;
          known.add(cell);
          follow(cell, panel, mime);
        }
      };
      panel.content.model?.cells.changed.connect(look);
      panel.content.modelContentChanged.connect(look);
      void panel.context.ready.then(look);
    };
    notebooks.widgetAdded.connect((_, panel) => {
      watch(panel);
    });
    notebooks.forEach(watch);
  },
};

/** Keep a cell's MIME type, which is what the editor chooses its language by, at what its first line says. */
function follow(cell: Cell, panel: NotebookPanel, mime: (language: string) => string | null): void {
  const set = (): void => {
    const line = magicLine(cell.model.sharedModel.getSource());
    const own = cell.model.mimeType.startsWith(MIME) ? panel.content.codeMimetype : cell.model.mimeType;
    const wanted = (line && mime(language(line))) ?? own;
    if (cell.model.mimeType !== wanted) cell.model.mimeType = wanted;
  };
  cell.model.contentChanged.connect(set);
  // The notebook sets every code cell's when the kernel changes.
  cell.model.mimeTypeChanged.connect(set);
  set();
}

/** MIME types of cells by the language of their body, each registered when it is first wanted. */
function mimeTypes(languages: IEditorLanguageRegistry): (language: string) => string | null {
  const made = new Map<string, string>();
  return (name) => {
    const known = made.get(name);
    if (known) return known;
    const inner = languages.findBest(EDITOR_NAMES[name] ?? name, false);
    if (!inner || !/^[\w+#.-]+$/.test(name)) return null;
    const mime = MIME + name.toLowerCase();
    made.set(name, mime);
    languages.addLanguage({
      name: `bacalhau-${name}`,
      displayName: `${inner.displayName ?? inner.name} on Bacalhau`,
      mime,
      load: async () => cellLanguage(`bacalhau-${name}`, (await languages.getLanguage(inner))?.support),
    });
    return mime;
  };
}

/** The beginning of a document, as much as a magic line can be looked for in. */
const head = (text: Text): string => text.sliceString(0, 10_000);

const wrong = (sentence: string): Decoration =>
  Decoration.mark({ class: "bj-wrong", attributes: { "aria-description": sentence } });

function marks(view: EditorView, trans: TranslationBundle): DecorationSet {
  const line = magicLine(head(view.state.doc));
  return Decoration.set(
    (line ? problems(line, trans) : []).map(({ from, to, sentence }) => wrong(sentence).range(from, to)),
  );
}

/** What is wrong on the magic line is underlined. */
function underline(trans: TranslationBundle): Extension {
  return ViewPlugin.define(
    (view) => ({
      decorations: marks(view, trans),
      update(update: ViewUpdate): void {
        if (update.docChanged) this.decorations = marks(update.view, trans);
      },
    }),
    { decorations: (plugin) => plugin.decorations },
  );
}

/** What stands on the magic line is explained on hover. */
function help(trans: TranslationBundle): Extension {
  return hoverTooltip((view, at) => {
    const line = magicLine(head(view.state.doc));
    const found = line && explain(line, at, trans);
    if (!found) return null;
    return {
      pos: found.from,
      end: found.to,
      above: true,
      create: () => {
        const dom = document.createElement("div");
        dom.className = "bj-help";
        dom.textContent = found.sentence;
        return { dom };
      },
    };
  });
}

const onMagicLine = (trans: TranslationBundle): Extension => [underline(trans), help(trans)];
