/** The panel's nodes: capacity and GPUs, asked when they are looked at, and "use this node". */

import { INotebookTracker } from "@jupyterlab/notebook";
import type { TranslationBundle } from "@jupyterlab/translation";
import React from "react";

import type { JobBoard } from "../jobboard";
import { withOptions } from "../magicline";
import { isRecord } from "../protocol";

/** A node as the kernel tells it: finished words under headings. */
export type Node = Readonly<Record<string, string>>;

/** The rows of an answer; what is not a text is left out. */
export function nodesOf(answer: unknown): Node[] {
  return (Array.isArray(answer) ? (answer as unknown[]) : [])
    .filter(isRecord)
    .map((row) =>
      Object.fromEntries(
        Object.entries(row).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
      ),
    );
}

interface IProps {
  board: JobBoard;
  notebooks: INotebookTracker;
  trans: TranslationBundle;
}

export function Nodes({ board, notebooks, trans }: IProps): React.ReactElement {
  const [nodes, setNodes] = React.useState<readonly Node[] | null>(null);
  const [problem, setProblem] = React.useState("");
  const path = notebooks.currentWidget?.context.path;
  const ask = React.useCallback(() => {
    setProblem("");
    if (path === undefined) {
      setProblem(trans.__("Open a notebook: its kernel knows the nodes."));
      return;
    }
    board.ask({ path }, "nodes", "").then(
      (answer) => {
        setNodes(nodesOf(answer));
      },
      (error: unknown) => {
        setProblem(error instanceof Error ? error.message : String(error));
      },
    );
  }, [board, path, trans]);
  React.useEffect(ask, [ask]);
  const use = (constraint: string): void => {
    const cell = notebooks.activeCell;
    if (cell?.model.type !== "code") return;
    const { sharedModel } = cell.model;
    sharedModel.setSource(withOptions(sharedModel.getSource(), { constraints: [constraint] }));
  };
  return (
    <>
      <div className="bj-bar">
        <button type="button" onClick={ask}>
          {trans.__("Ask again")}
        </button>
      </div>
      <div role="status">{problem ? <p className="bj-none">{problem}</p> : null}</div>
      {nodes?.length === 0 ? <p className="bj-none">{trans.__("No nodes.")}</p> : null}
      <ul className="bj-list" aria-label={trans.__("Nodes")}>
        {(nodes ?? []).map((node, n) => (
          <li key={n} className="bj-row bj-node">
            <div className="bj-name">{node["node"]}</div>
            <dl>
              {Object.entries(node)
                .filter(([name, value]) => value && name !== "node" && name !== "constraint")
                .map(([name, value]) => (
                  <React.Fragment key={name}>
                    <dt>{name}</dt>
                    <dd>{value}</dd>
                  </React.Fragment>
                ))}
            </dl>
            {node["constraint"] ? (
              <div className="bj-acts">
                <button
                  type="button"
                  title={trans.__("Writes --constraints into the active cell")}
                  onClick={() => {
                    use(node["constraint"] ?? "");
                  }}
                >
                  {trans.__("Use this node")}
                </button>
              </div>
            ) : null}
          </li>
        ))}
      </ul>
    </>
  );
}
