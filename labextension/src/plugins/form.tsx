/** "Run on Bacalhau…": a form made of the options' schema that writes or edits a cell's magic line. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { Dialog, ICommandPalette, ReactWidget, showDialog } from "@jupyterlab/apputils";
import type { Cell } from "@jupyterlab/cells";
import { INotebookTracker } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { ITranslator, nullTranslator, TranslationBundle } from "@jupyterlab/translation";
import type { ReadonlyPartialJSONObject } from "@lumino/coreutils";
import type { Message } from "@lumino/messaging";
import React from "react";

import type { JobBoard } from "../jobboard";
import { problems } from "../linehelp";
import { asText, asValues, magicLine, MAGIC, valuesOf, withOptions } from "../magicline";
import { IOption, OPTIONS } from "../optionlist";
import { CommandIDs, IJobBoard, NAME, PluginIDs } from "../tokens";

/** What most cells want; all other options stand below. */
const FIRST = ["lang", "cpu", "memory", "gpu", "timeout", "inputs", "outputs", "bg"];

const ARGS = {
  type: "object",
  properties: {
    clicked: { type: "boolean", description: "Whether the cell that was clicked is meant, not the active one." },
  },
} as const;

type Values = Readonly<Record<string, readonly string[]>>;

export const form: JupyterFrontEndPlugin<void> = {
  id: PluginIDs.form,
  description: "A form that writes a cell's magic line.",
  autoStart: true,
  requires: [IJobBoard, INotebookTracker],
  optional: [ITranslator, ICommandPalette, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    board: JobBoard,
    notebooks: INotebookTracker,
    translator: ITranslator | null,
    palette: ICommandPalette | null,
    settings: ISettingRegistry | null,
  ) => {
    const trans = (translator ?? nullTranslator).load(NAME);
    let usual = "";
    void settings?.load(PluginIDs.form).then((loaded) => {
      const read = (): void => {
        const options = loaded.get("options").composite;
        usual = typeof options === "string" ? options.trim() : "";
      };
      loaded.changed.connect(read);
      read();
    });
    app.commands.addCommand(CommandIDs.form, {
      label: trans.__("Run on Bacalhau…"),
      caption: trans.__("Choose where and how this cell runs"),
      describedBy: { args: ARGS },
      isEnabled: (args) => chosen(app, notebooks, args)?.model.type === "code",
      execute: async (args) => {
        const [cell, panel] = [chosen(app, notebooks, args), notebooks.currentWidget];
        if (cell?.model.type !== "code" || !panel) return;
        const source = cell.model.sharedModel.getSource();
        const begun = magicLine(source) ? source : `${MAGIC} ${usual}\n${source}`;
        const body = new Form(begun, names(board, panel.context.path, begun), trans);
        const { button } = await showDialog<string>({
          title: trans.__("Run on Bacalhau"),
          body,
          focusNodeSelector: "input",
          buttons: [Dialog.cancelButton(), Dialog.okButton({ label: trans.__("Write the line") })],
        });
        if (button.accept) cell.model.sharedModel.setSource(body.getValue());
        // What had the focus before, the palette's search, is gone.
        app.shell.activateById(panel.id);
      },
    });
    palette?.addItem({ command: CommandIDs.form, category: "Bacalhau" });
  },
};

/** The cell that is meant: the active one, or, from its own menu, the one that was clicked, which need not be active. */
function chosen(app: JupyterFrontEnd, notebooks: INotebookTracker, args: ReadonlyPartialJSONObject): Cell | undefined {
  if (args["clicked"] !== true) return notebooks.activeCell ?? undefined;
  const clicked = app.contextMenuHitTest((node) => node.classList.contains("jp-CodeCell"));
  return notebooks.currentWidget?.content.widgets.find((cell) => cell.node === clicked);
}

/** The variables that a cell reads and the kernel has; none where the kernel does not say. */
async function names(board: JobBoard, path: string, source: string): Promise<string[]> {
  const line = magicLine(source);
  try {
    const found = await board.ask({ path }, "names", line ? source.slice(line.to) : source);
    return Array.isArray(found) ? found.filter((name): name is string => typeof name === "string") : [];
  } catch {
    return [];
  }
}

class Form extends ReactWidget {
  constructor(
    private readonly source: string,
    private readonly names: Promise<string[]>,
    private readonly trans: TranslationBundle,
  ) {
    super();
    this.addClass("bj-form");
    this.written = source;
  }

  handleEvent(event: Event): void {
    const fold = event.target;
    if (!(event instanceof KeyboardEvent && event.key === "Enter" && fold instanceof HTMLElement)) return;
    if (fold.tagName !== "SUMMARY" || !this.node.contains(fold)) return;
    event.preventDefault();
    event.stopPropagation();
    fold.click();
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    // The dialog takes each Enter for "Write the line", also one that is to unfold: it must be met before it.
    document.addEventListener("keydown", this, true);
  }

  protected override onBeforeDetach(message: Message): void {
    document.removeEventListener("keydown", this, true);
    super.onBeforeDetach(message);
  }

  /** The cell's source with the line as the form has it. */
  getValue(): string {
    return this.written;
  }

  protected override render(): React.ReactElement {
    return (
      <Fields
        source={this.source}
        names={this.names}
        trans={this.trans}
        write={(written) => {
          this.written = written;
        }}
      />
    );
  }

  private written: string;
}

interface IFieldsProps {
  source: string;
  names: Promise<string[]>;
  trans: TranslationBundle;
  write: (written: string) => void;
}

function Fields({ source, names, trans, write }: IFieldsProps): React.ReactElement {
  const [changes, setChanges] = React.useState<Values>({});
  const [known, setKnown] = React.useState<string[]>([]);
  const [about, setAbout] = React.useState("");
  React.useEffect(() => void names.then(setKnown), [names]);
  const written = withOptions(source, changes);
  write(written);
  const line = magicLine(written);
  const wrong = line ? problems(line, trans) : [];
  const field = (option: IOption): React.ReactElement => (
    <Field
      key={option.name}
      option={option}
      given={line ? valuesOf(line, option.name) : []}
      set={(values) => {
        setChanges((before) => ({ ...before, [option.name]: values }));
      }}
      known={option.name === "inputs" ? known : []}
      trans={trans}
    />
  );
  const rest = OPTIONS.filter((option) => !FIRST.includes(option.name));
  const groups = [...new Set(rest.map((option) => option.group))];
  return (
    <>
      <div
        className="bj-fields"
        onFocus={({ target }) => {
          setAbout(target.title);
        }}
      >
        {FIRST.map((name) => OPTIONS.find((option) => option.name === name)).map((option) => option && field(option))}
        <details>
          <summary>{trans.__("More options")}</summary>
          {groups.map((group) => (
            <fieldset key={group}>
              <legend>{trans.__(group)}</legend>
              {rest.filter((option) => option.group === group).map(field)}
            </fieldset>
          ))}
        </details>
      </div>
      <pre aria-label={trans.__("The line")} className="bj-preview">
        {line ? written.slice(line.from, line.to) : ""}
      </pre>
      <p className="bj-about" aria-hidden="true">
        {about}
      </p>
      <div role="status" className="bj-wrongs">
        {wrong.map(({ sentence }, n) => (
          <p key={n}>{sentence}</p>
        ))}
      </div>
    </>
  );
}

interface IFieldProps {
  option: IOption;
  given: readonly string[];
  set: (values: readonly string[]) => void;
  /** Names that may be ticked. */
  known: readonly string[];
  trans: TranslationBundle;
}

function Field({ option, given, set, known, trans }: IFieldProps): React.ReactElement {
  const id = `bj-${option.name}`;
  const help = trans.__(option.help);
  const word = option.words.at(-1) ?? "";
  if (!option.metavar) {
    const off = option.negated !== "";
    const on = given.length ? given.at(-1) !== option.negated : off;
    return (
      <div className="bj-field">
        <label htmlFor={id}>{word}</label>
        <input
          id={id}
          type="checkbox"
          title={help}
          checked={on}
          onChange={({ target }) => {
            set(target.checked === off ? [] : [off ? "no" : ""]);
          }}
        />
      </div>
    );
  }
  if (option.values.length)
    return (
      <div className="bj-field">
        <label htmlFor={id}>{word}</label>
        <select
          id={id}
          title={help}
          value={given.at(-1) ?? ""}
          onChange={({ target }) => {
            set(target.value ? [target.value] : []);
          }}
        >
          <option value="">{option.default}</option>
          {option.values.map((value) => (
            <option key={value}>{value}</option>
          ))}
        </select>
      </div>
    );
  const ticked = (name: string): boolean => given.includes(name);
  return (
    <div className="bj-field">
      <label htmlFor={id}>{word}</label>
      <span>
        <Text option={option} id={id} help={help} given={given} set={set} />
        {option.examples.length ? (
          <datalist id={`${id}-examples`}>
            {option.examples.map((value) => (
              <option key={value} value={value} />
            ))}
          </datalist>
        ) : null}
        {known.map((name) => (
          <label key={name} className="bj-tick">
            <input
              type="checkbox"
              title={help}
              checked={ticked(name)}
              onChange={() => {
                set(ticked(name) ? given.filter((other) => other !== name) : [...given, name]);
              }}
            />
            {name}
          </label>
        ))}
      </span>
    </div>
  );
}

interface ITextProps {
  option: IOption;
  id: string;
  help: string;
  given: readonly string[];
  set: (values: readonly string[]) => void;
}

/** A text of one value, or of several, with quotes where a value has spaces; what is being typed stands as it is typed. */
function Text({ option, id, help, given, set }: ITextProps): React.ReactElement {
  const read = (text: string): string[] => (!text.trim() ? [] : option.repeatable ? asValues(text) : [text]);
  const [typed, setTyped] = React.useState("");
  const isGiven = JSON.stringify(read(typed)) === JSON.stringify(given);
  return (
    <input
      id={id}
      title={help}
      placeholder={option.default || option.metavar}
      value={isGiven ? typed : option.repeatable ? asText(given) : (given.at(-1) ?? "")}
      list={option.examples.length ? `${id}-examples` : undefined}
      onChange={({ target }) => {
        setTyped(target.value);
        set(read(target.value));
      }}
    />
  );
}
