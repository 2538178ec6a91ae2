// The live card of one job. Python sends finished sentences in one trait, `snapshot`; this places them and counts the
// seconds between two of them. Nothing of a job ever becomes HTML: all text goes through textContent.

const ICONS = { run: "▶", warn: "◷", bad: "✕", ok: "✓", quiet: "■" };
const STEPS = 6;

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

function element(tag, className, attributes = {}) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Text into a node, `code` between backticks set as code. */
function say(node, text) {
  node.replaceChildren(
    ...text.split("`").map((part, i) => {
      if (i % 2 === 0) return document.createTextNode(part);
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

function render({ model, el }) {
  const card = element("section", "bm-card", { "aria-label": "Bacalhau job" });
  const head = element("div", "bm-head");
  const icon = element("span", "bm-icon", { "aria-hidden": "true" });
  const title = element("b", "bm-title");
  const known = element("span", "bm-facts");
  const buttons = element("span", "bm-buttons");
  const fold = element("button", "bm-fold", { type: "button", "aria-expanded": "true" });
  const stop = element("button", "bm-stop", { type: "button" });
  buttons.append(fold, stop);
  head.append(icon, title, known, buttons);
  const steps = element("div", "bm-steps", { "aria-hidden": "true" });
  for (let i = 0; i < STEPS; i++) steps.append(document.createElement("i"));
  const problem = element("div", "bm-say");
  const sentence = element("div", "");
  const details = document.createElement("ul");
  problem.append(sentence, details);
  const hint = element("div", "bm-hint");
  const notices = element("ul", "bm-notices");
  const log = element("pre", "bm-log", { role: "log", "aria-live": "off", "aria-label": "Log of the job", tabindex: "0" });
  const spoken = element("div", "bm-spoken", { role: "status" });
  card.append(head, steps, problem, hint, notices, log, spoken);
  el.append(card);

  let snapshot = null;
  let skew = 0; // browser clock minus kernel clock; measured only where a snapshot is surely fresh
  let unfolded = true;
  let drawnLog = "";
  let again = 0;

  const tick = () => {
    const text = facts(snapshot, Date.now() / 1000 - skew);
    if (known.textContent !== text) known.textContent = text;
  };
  const drawFold = () => {
    log.hidden = !unfolded || !snapshot.log.length;
    fold.hidden = !snapshot.log.length;
    fold.textContent = unfolded ? "Log ▾" : "Log ▸";
    fold.setAttribute("aria-expanded", String(unfolded));
  };
  const free = () => {
    clearTimeout(again);
    stop.disabled = false;
    stop.textContent = "Stop";
  };
  const draw = () => {
    snapshot = model.get("snapshot");
    card.dataset.tone = snapshot.tone;
    card.dataset.phase = snapshot.phase;
    icon.textContent = (snapshot.tone === "run" && snapshot.step < 4 ? ICONS.warn : ICONS[snapshot.tone]) + "\ufe0e";
    title.textContent = snapshot.title;
    [...steps.children].forEach((step, i) => {
      step.className = i + 1 < snapshot.step ? "bm-on" : i + 1 === snapshot.step ? "bm-now" : "";
    });
    steps.hidden = snapshot.over;
    say(sentence, snapshot.problem);
    list(details, snapshot.lines);
    problem.hidden = !snapshot.problem;
    say(hint, snapshot.hint);
    list(notices, snapshot.notices);
    stop.hidden = snapshot.over;
    const heard = [snapshot.title, snapshot.problem].filter(Boolean).join(". ");
    if (spoken.textContent !== heard) spoken.textContent = heard;
    drawFold();
    const logged = JSON.stringify(snapshot.log);
    if (logged !== drawnLog) drawLog(log, snapshot);
    drawnLog = logged;
    tick();
  };
  fold.addEventListener("click", () => {
    unfolded = !unfolded;
    drawFold();
    if (unfolded) log.scrollTop = log.scrollHeight;
  });
  stop.addEventListener("click", () => {
    model.send({ kind: "stop" });
    stop.disabled = true;
    stop.textContent = "Stopping…";
    again = setTimeout(free, 15000); // lost on the way, perhaps: it may be asked again
  });
  const changed = () => {
    skew = Date.now() / 1000 - model.get("snapshot").now;
    draw();
  };
  free();
  draw();
  model.on("change:snapshot", changed);
  const ticking = setInterval(tick, 1000);
  return () => {
    clearInterval(ticking);
    clearTimeout(again);
    model.off("change:snapshot", changed);
  };
}

export default { render };
