// Begins and ends a release.

import { call, poolPath } from "./api.js";
import { commit, input, open, options } from "./dialog.js";
import { count, plural } from "./format.js";
import { latest } from "./live.js";
import { field, h, notice } from "./parts.js";
import { locked } from "./store.js";

const FIELDS = { steps: "1, 5, 10, 25, 50, 100", hold: "10m", harm: "10", alpha: "1", login_path: "", session_cookie: "", cache_header: "", cache_hit: "" };

/// `tag` is that of the release that is there, and null where there is none.
export function openBegin(pool, tag) {
  open({ pool, tag, view: Begin, fields: { ...FIELDS } });
}

export function openEnd(pool, tag) {
  open({ pool, tag, view: End, stage: "preview" });
}

function steps(text) {
  return text.split(/[\s,]+/).filter(Boolean).map(Number);
}

/// The plan as the API takes it: what is left empty is left out.
function plan(fields) {
  const body = { steps: steps(fields.steps), hold: fields.hold, harm: Number(fields.harm) / 100, alpha: Number(fields.alpha) / 100 };
  for (const name of ["login_path", "session_cookie", "cache_header", "cache_hit"]) {
    if (fields[name].trim()) body[name] = fields[name].trim();
  }
  return body;
}

function Begin({ dialog }) {
  const { pool, stage, fields, errors, tag } = dialog;
  if (stage === "choose") {
    const text = (name, label, hint, props) => field(label, input(dialog, name, props), { hint, error: errors[name] });
    return options(dialog, `Begin a release of ${pool}`, [
      text("steps", "Steps, in percent", "released one after the other, each larger; the first below 100"),
      text("hold", "Each is held for at least", "as 10m"),
      text("harm", "Harm to look for, in percent of the released sessions", "a step is left only once its traffic would have shown more", { type: "number", min: 0.5, max: 100, step: 0.1 }),
      text("alpha", "Chance that it stops by mere luck, in percent at most", null, { type: "number", min: 0.01, max: 20, step: 0.01 }),
      h("fieldset", null, h("legend", null, "What tells that a session was not known (may be left empty)"),
        text("login_path", "A redirect to this path", "as /login"),
        text("session_cookie", "The application's session cookie", "another value than the request had begins another session"),
        text("cache_header", "The header that tells whether a cache was hit", "as X-Cache"),
        text("cache_hit", "What it says then", "HIT unless given")),
    ], { next: async () => plan(fields) });
  }
  return commit(dialog, `Release sessions of ${pool}?`, about(dialog), {
    label: `Release ${dialog.preview.steps[0]} %`,
    harms: true,
    stop: locked(),
    send: () => call("PUT", poolPath(pool, "release"), { body: dialog.preview, match: tag, create: tag === null }),
  });
}

/// What would be let go at each step, by the sessions that are live now.
function about({ pool, preview }) {
  const live = latest(pool).sessions;
  const share = (percent) => (live === null ? "sessions not known" : `about ${plural(Math.round((live * percent) / 100), "session")}`);
  return [
    h("p", { key: "now" }, `${live === null ? "How many sessions are live is not known." : `${plural(live, "session")} ${live === 1 ? "is" : "are"} live.`} Let go would be:`),
    h("ol", { key: "steps", class: "about" }, preview.steps.map((percent) => h("li", { key: percent }, `${percent} %: ${share(percent)}`))),
    notice("bad", "Where backends keep sessions in memory, the released ones find theirs missing until it stops. It stops by itself, and they are back on their pins."),
    h("p", { key: "alpha", class: "about" }, `Each step is held for ${preview.hold} at least; ${count(preview.steps.length)} in all.`),
  ];
}

function End({ dialog }) {
  const { pool, tag } = dialog;
  return commit(dialog, `End the release of ${pool}?`, [
    h("p", { key: "what" }, "Its sessions are back on their pins, and what was found is forgotten."),
  ], { label: "End the release", harms: false, stop: locked(), send: () => call("DELETE", poolPath(pool, "release"), { match: tag }) });
}
