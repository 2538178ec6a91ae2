// The live card of one job, or of many in one. Python sends finished sentences in one trait, `snapshot`; this places them
// and counts the seconds between two of them. Nothing of a job ever becomes HTML: all text goes through textContent.

const ICONS = { run: "▶", warn: "◷", bad: "✕", ok: "✓", quiet: "■" };
const STEPS = 6;
const UNFOLDED = 10; // jobs whose table is open from the beginning

/** Seconds for people, as a live clock shows them: whole ones. */
export function seconds(count) {
  const whole = Math.max(0, Math.floor(count));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 60)} h`;
}

/** The head's facts at browser time `now` (unix seconds). */
export function facts(snapshot, now) {
  const clock = snapshot.clock;
  if (!clock) return snapshot.facts;
  const shown = seconds(now - clock.since);
  const time = clock.limit ? `${shown} of ${seconds(clock.limit)} ${clock.words}`.trimEnd() : shown;
  return [snapshot.place, time, snapshot.rest].filter(Boolean).join(" · ");
}

const SEQUENCE =
  /(?:\x1b\[|\x9b)([0-?]*)[ -/]*([@-~])?|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x9c|\x1b\\)?|\x1b[ -/]*[0-~]|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]/g;

/** Style after a colour sequence: the eight colours and bold; the rest is left out. */
function styled(style, codes) {
  const next = { ...style };
  const numbers = codes.split(/[;:]/).map(Number);
  for (let i = 0; i < numbers.length; i++) {
    const code = numbers[i];
    if (code === 0) next.color = next.bold = null;
    else if (code === 1) next.bold = true;
    else if (code === 22) next.bold = null;
    else if (code >= 30 && code <= 37) next.color = code - 30;
    else if (code >= 90 && code <= 97) next.color = code - 90;
    else if (code === 39) next.color = null;
    else if (code === 38 || code === 48) i += numbers[i + 1] === 5 ? 2 : 4;
  }
  return next;
}

/**
 * The log as lines of runs {text, stream, color, bold}, as a terminal would leave them, and each stream's lines its own:
 * a line's end may come later than the other stream's text.
 */
export function lines(log) {
  const all = [];
  const open = {}; // stream → its line that is not ended
  const overwrite = {};
  const styles = { stdout: {}, stderr: {} };
  const current = (stream) => open[stream] ?? (all.push((open[stream] = [])), open[stream]);
  const plain = (text, stream) => {
    for (const part of text.split(/(\n|\r|\x08)/)) {
      if (part === "\n") {
        current(stream);
        open[stream] = undefined;
        overwrite[stream] = false;
      } else if (part === "\r") overwrite[stream] = true;
      else if (part === "\x08") {
        const last = open[stream]?.at(-1);
        if (last) last.text = last.text.slice(0, -1);
      } else if (part) {
        const line = current(stream);
        if (overwrite[stream]) line.length = 0;
        overwrite[stream] = false;
        line.push({ text: part, stream, ...styles[stream] });
      }
    }
  };
  for (const [stream, text] of log) {
    let from = 0;
    for (const found of text.matchAll(SEQUENCE)) {
      plain(text.slice(from, found.index), stream);
      from = found.index + found[0].length;
      if (found[2] === "m") styles[stream] = styled(styles[stream], found[1]);
    }
    plain(text.slice(from), stream);
  }
  return all;
}

function element(tag, className, attributes = {}, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function button(className, text) {
  return element("button", className, { type: "button" }, text);
}

/** Set a text only when it is another one, so that nothing that is selected or read aloud is disturbed. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A button that folds a part of the card. */
function folding(node, word, part, isOpen) {
  write(node, `${word} ${isOpen ? "▾" : "▸"}`);
  node.setAttribute("aria-expanded", String(isOpen));
  part.hidden = !isOpen;
}

function icon(snapshot) {
  return (snapshot.tone === "run" && snapshot.step < 4 ? ICONS.warn : ICONS[snapshot.tone]) + "\ufe0e";
}

/** Copy a text; where the page may not, by a selection of its own. */
async function copy(node, text) {
  const said = node.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", "bm-spoken");
    area.value = text;
    node.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    node.focus();
  }
  node.textContent = "Copied";
  setTimeout(() => (node.textContent = said), 1500);
}

/** A Stop button: it says that it was heard, and may be pressed again when nothing comes of it. */
function stopping(node, word, send) {
  let again = 0;
  const free = () => {
    clearTimeout(again);
    node.disabled = false;
    write(node, word);
  };
  node.addEventListener("click", () => {
    send();
    node.disabled = true;
    node.textContent = "Stopping…";
    again = setTimeout(free, 15000);
  });
  return free;
}

/** What is set as code: what stands between backticks, an option with its number, a line magic. */
const CODE = /`([^`]*)`|((?<!\S)--[a-z][a-z-]*(?: \d\w*)?|%bacalhau(?: [a-z]+(?: --[a-z]+)?)?(?: (?:j-\w+|last))?)/;

/** Text into a node, with what one may type set as code. */
function say(node, text) {
  node.replaceChildren(
    ...text.split(CODE).flatMap((part, i) => {
      if (!part) return [];
      if (i % 3 === 0) return document.createTextNode(part);
      const code = document.createElement("code");
      code.textContent = part;
      return code;
    }),
  );
  node.hidden = !text;
}

function list(node, items) {
  node.replaceChildren(
    ...items.map((item) => {
      const entry = document.createElement("li");
      say(entry, item);
      return entry;
    }),
  );
  node.hidden = !items.length;
}

function drawLog(node, snapshot) {
  const following = node.scrollTop + node.clientHeight >= node.scrollHeight - 4;
  const shown = lines(snapshot.log);
  if (snapshot.logDropped && shown.length > 1) shown.shift(); // its beginning is cut
  const rows = shown.map((runs) => {
    const row = element("div", runs.some((run) => run.stream === "stderr") ? "bm-line bm-e" : "bm-line");
    if (row.classList.contains("bm-e")) row.title = "stderr";
    for (const run of runs) {
      const span = element("span", run.color == null ? "" : `bm-c${run.color}`);
      if (run.bold) span.style.fontWeight = "700";
      span.textContent = run.text;
      row.append(span);
    }
    if (!runs.length) row.append(document.createElement("br"));
    return row;
  });
  if (snapshot.logDropped) {
    const more = element("div", "bm-line bm-dim");
    more.textContent = "… earlier lines come with the result";
    rows.unshift(more);
  }
  node.replaceChildren(...rows);
  if (following) node.scrollTop = node.scrollHeight;
}

/** The card of one job. */
function jobCard(send) {
  const card = element("section", "bm-card", { "aria-label": "Bacalhau job" });
  const sign = element("span", "bm-icon", { "aria-hidden": "true" });
  const title = element("b", "bm-title");
  const known = element("span", "bm-facts");
  const fold = button("bm-fold", "");
  const more = button("bm-more", "");
  const report = button("bm-report", "Copy report");
  const stop = button("bm-stop", "Stop");
  const steps = element("div", "bm-steps", { "aria-hidden": "true" });
  for (let i = 0; i < STEPS; i++) steps.append(document.createElement("i"));
  const fill = document.createElement("i");
  const bar = element("div", "bm-bar", { role: "progressbar", "aria-label": "Progress of the job", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const route = element("div", "bm-route");
  const sentence = element("div", "");
  const details = document.createElement("ul");
  const problem = element("div", "bm-say", {}, sentence, details);
  const hint = element("div", "bm-hint");
  const notices = element("ul", "bm-notices");
  const facts_ = element("dl", "bm-details");
  const log = element("pre", "bm-log", { role: "log", "aria-live": "off", "aria-label": "Log of the job", tabindex: "0" });
  const copyLog = button("bm-copy", "Copy");
  const logged = element("div", "bm-logged", {}, log, copyLog);
  const spoken = element("div", "bm-spoken", { role: "status" });
  const buttons = element("span", "bm-buttons", {}, fold, more, report, stop);
  card.append(element("div", "bm-head", {}, sign, title, known, buttons), steps, bar, route, problem, hint, notices, facts_, logged, spoken);

  let snapshot = null;
  let unfolded = true;
  let detailed = false;
  let drawnLog = "";
  const drawFolds = () => {
    fold.hidden = !snapshot.log.length;
    folding(fold, "Logs", logged, unfolded && snapshot.log.length > 0);
    more.hidden = !snapshot.details.length;
    folding(more, "Details", facts_, detailed);
  };
  fold.addEventListener("click", () => {
    unfolded = !unfolded;
    drawFolds();
    if (unfolded) log.scrollTop = log.scrollHeight;
  });
  more.addEventListener("click", () => {
    detailed = !detailed;
    drawFolds();
  });
  copyLog.addEventListener("click", () => copy(copyLog, [...log.children].map((row) => row.textContent).join("\n")));
  report.addEventListener("click", () => copy(report, snapshot.report));
  const free = stopping(stop, "Stop", () => send({ kind: "stop" }));
  return {
    node: card,
    close: free,
    tick: (now) => write(known, facts(snapshot, now)),
    draw(fresh) {
      snapshot = fresh;
      card.dataset.tone = snapshot.tone;
      card.dataset.phase = snapshot.phase;
      write(sign, icon(snapshot));
      write(title, snapshot.title);
      [...steps.children].forEach((step, i) => {
        step.className = i + 1 < snapshot.step ? "bm-on" : i + 1 === snapshot.step ? "bm-now" : "";
      });
      steps.hidden = snapshot.over || !!snapshot.bar; // one bar at a time
      bar.hidden = !snapshot.bar;
      if (snapshot.bar) {
        bar.setAttribute("aria-valuenow", Math.round(snapshot.bar.fraction * 100));
        bar.setAttribute("aria-valuetext", snapshot.bar.words);
        fill.style.width = `${snapshot.bar.fraction * 100}%`;
      }
      write(route, snapshot.route);
      route.hidden = snapshot.over || snapshot.step > 4 || !snapshot.route || !!snapshot.problem;
      say(sentence, snapshot.problem);
      list(details, snapshot.lines);
      problem.hidden = !snapshot.problem;
      say(hint, snapshot.hint);
      list(notices, snapshot.notices);
      facts_.replaceChildren(
        ...snapshot.details.flatMap(([label, text]) => [element("dt", "", {}, label), element("dd", "", {}, text)]),
      );
      report.hidden = !snapshot.report;
      stop.hidden = snapshot.over;
      write(spoken, [snapshot.title, snapshot.problem].filter(Boolean).join(". "));
      drawFolds();
      const text = JSON.stringify(snapshot.log);
      if (text !== drawnLog) drawLog(log, snapshot);
      drawnLog = text;
    },
  };
}

/** A job's row in the table of many. */
function jobRow(send, index) {
  const sign = element("span", "bm-icon", { "aria-hidden": "true" });
  const name = element("th", "", { scope: "row" });
  const title = element("td", "bm-title");
  const known = element("td", "bm-facts");
  const stop = button("bm-stop", "Stop");
  const row = element("tr", "", {}, element("td", "", {}, sign), name, title, known, element("td", "", {}, stop));
  const free = stopping(stop, "Stop", () => send({ kind: "stop", job: index }));
  return {
    node: row,
    close: free,
    tick(job, now) {
      write(known, job.problem ? [job.problem, facts(job, now)].join(" · ") : facts(job, now));
    },
    draw(job) {
      row.dataset.tone = job.tone;
      write(sign, icon(job));
      write(name, job.name);
      write(title, job.title);
      stop.setAttribute("aria-label", `Stop ${job.name}`);
      stop.hidden = job.over;
    },
  };
}

/** One card for many jobs. */
function jobsCard(send) {
  const card = element("section", "bm-card bm-many", { "aria-label": "Bacalhau jobs" });
  const sign = element("span", "bm-icon", { "aria-hidden": "true" });
  const title = element("b", "bm-title");
  const known = element("span", "bm-facts");
  const fold = button("bm-fold", "");
  const failed = button("bm-failed", "Show failed");
  const stop = button("bm-stop", "Stop all");
  const parts = element("div", "bm-steps bm-parts", { role: "progressbar", "aria-label": "Jobs that are over", "aria-valuemin": 0 });
  const problem = element("div", "bm-say");
  const body = document.createElement("tbody");
  const heads = ["State", "Job", "What it does", "Facts", "Actions"].map((word, i) =>
    element("th", i === 0 || i === 4 ? "bm-spoken" : "", { scope: "col" }, word),
  );
  const table = element("table", "", {}, element("thead", "bm-spoken", {}, element("tr", "", {}, ...heads)), body);
  const listed = element("div", "bm-listed", { role: "region", "aria-label": "Jobs", tabindex: "0" }, table);
  const spoken = element("div", "bm-spoken", { role: "status" });
  const buttons = element("span", "bm-buttons", {}, fold, failed, stop);
  card.append(element("div", "bm-head", {}, sign, title, known, buttons), parts, problem, listed, spoken);

  let snapshot = null;
  let unfolded = null;
  let failedOnly = false;
  let time = 0; // unix seconds of the last tick or snapshot: rows that unfold between two ticks are not stale
  const rows = [];
  const tickRows = () => rows.forEach((row, i) => row.tick(snapshot.rows[i], time));
  const drawFolds = () => {
    const open = unfolded ?? snapshot.rows.length <= UNFOLDED;
    folding(fold, "Jobs", listed, open);
    failed.hidden = !snapshot.rows.some((job) => job.failed);
    failed.setAttribute("aria-pressed", String(failedOnly && open));
    write(failed, failedOnly && open ? "Show all" : "Show failed");
    rows.forEach((row, i) => (row.node.hidden = failedOnly && !snapshot.rows[i].failed));
    if (open) tickRows();
  };
  fold.addEventListener("click", () => {
    unfolded = listed.hidden;
    failedOnly = false;
    drawFolds();
  });
  failed.addEventListener("click", () => {
    failedOnly = !failedOnly || listed.hidden;
    unfolded = true;
    drawFolds();
  });
  const free = stopping(stop, "Stop all", () => send({ kind: "stop" }));
  return {
    node: card,
    close() {
      free();
      for (const row of rows) row.close();
    },
    tick(now) {
      time = now;
      if (!listed.hidden) tickRows();
    },
    draw(fresh) {
      snapshot = fresh;
      time = Math.max(time, snapshot.now);
      card.dataset.tone = snapshot.tone;
      write(sign, icon(snapshot));
      write(title, snapshot.title);
      write(known, snapshot.facts);
      const over = snapshot.rows.filter((job) => job.over).length;
      parts.setAttribute("aria-valuemax", snapshot.rows.length);
      parts.setAttribute("aria-valuenow", over);
      parts.setAttribute("aria-valuetext", snapshot.facts);
      parts.replaceChildren(
        ...snapshot.parts.map(([tone, group, count]) => {
          const part = element("i", "", { title: `${count} ${group}` });
          part.dataset.tone = tone;
          part.style.flexGrow = count;
          return part;
        }),
      );
      say(problem, snapshot.problem);
      while (rows.length < snapshot.rows.length) {
        rows.push(jobRow(send, rows.length));
        body.append(rows.at(-1).node);
      }
      rows.forEach((row, i) => row.draw(snapshot.rows[i]));
      stop.hidden = snapshot.over;
      write(spoken, snapshot.over ? `${snapshot.title}: ${snapshot.facts}` : snapshot.title);
      drawFolds();
    },
  };
}

/** Tell the kernel that here is who draws cards: where nobody says so it shows text. */
function initialize({ model }) {
  model.send({ kind: "here" });
}

function render({ model, el }) {
  let kind = "";
  let card = null;
  let skew = 0; // browser clock minus kernel clock; measured only where a snapshot is surely fresh
  const send = (message) => model.send(message);
  const tick = () => card.tick(Date.now() / 1000 - skew);
  const draw = () => {
    const snapshot = model.get("snapshot");
    if (snapshot.kind !== kind) {
      card?.close();
      kind = snapshot.kind;
      card = kind === "jobs" ? jobsCard(send) : jobCard(send);
      el.replaceChildren(card.node);
    }
    card.draw(snapshot);
    tick();
  };
  const changed = () => {
    skew = Date.now() / 1000 - model.get("snapshot").now;
    draw();
  };
  draw();
  model.on("change:snapshot", changed);
  const ticking = setInterval(tick, 1000);
  return () => {
    clearInterval(ticking);
    card.close();
    model.off("change:snapshot", changed);
  };
}

export default { initialize, render };
