/** The mark of the panel and of the status item. */

import { LabIcon } from "@jupyterlab/ui-components";

const SVG = `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161"
 d="M12 2 22 12 12 22 2 12Zm0 4.2L6.2 12 12 17.8 17.8 12ZM12 9l3 3-3 3-3-3Z"/></svg>`;

export const bacalhauIcon = new LabIcon({ name: "bacalhau-magic:jobs", svgstr: SVG });
