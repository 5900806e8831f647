// Rebalancing: begun after what it costs was read, watched, ended.

import { call, poolPath } from "./api.js";
import { plural, ratio, span, time } from "./format.js";
import { known } from "./live.js";
import { field, h, notice, panel } from "./parts.js";
import { commit, input, open, options } from "./dialog.js";
import { isStale } from "./store.js";

const STAGES = {
  running: "under way",
  even: "ended: the target is reached, or whole sessions allow no better",
  cancelled: "ended by somebody",
  changed: "ended: the pool changed, or a data plane started",
};

export function openRebalance(pool) {
  open({ pool, view: Begin, fields: { sessions_per_second: "50", target_imbalance: "1.1", idle_first: false } });
}

function body({ sessions_per_second: pace, target_imbalance: target, idle_first }) {
  return { sessions_per_second: Number(pace), target_imbalance: Number(target), idle_first };
}

function Begin({ dialog }) {
  const { pool, stage, errors } = dialog;
  if (stage === "choose") {
    return options(dialog, `Rebalance ${pool}`, [
      h("p", null, "Moves sessions from backends that have more than their share to those that have less."),
      field("Sessions in a second, at most", input(dialog, "sessions_per_second", { type: "number", min: 1, max: 1_000_000, required: true }), { error: errors.sessions_per_second }),
      field("Until the fullest backend has so many times the mean", input(dialog, "target_imbalance", { type: "number", min: 1.01, max: 10, step: 0.01, required: true }), { error: errors.target_imbalance }),
      h("label", { class: "check" }, input(dialog, "idle_first", { type: "checkbox" }), " those that were not seen for long move first"),
    ], { next: () => preview(dialog) });
  }
  const { left, imbalance } = dialog.preview;
  // Without a figure of how even it is, nobody knows the sessions.
  const moves = imbalance === null ? null : left;
  return commit(dialog, `Rebalance ${pool}?`, [
    h("p", { key: "now" }, `The fullest backend has ${ratio(imbalance)} times the mean of the sessions, by weight; the target is ${dialog.fields.target_imbalance}.`),
    moves === 0 && notice("good", "That is even enough: nothing would move."),
    moves === null && notice("warn", "How many sessions would move is not known."),
    moves !== 0 && notice("bad", `${moves === null ? "Each session that moves" : `About ${plural(moves, "session")} would move, and each`} loses what its backend kept of it in memory.`),
  ], {
    label: moves ? `Move about ${plural(moves, "session")}` : "Begin",
    harms: moves !== 0,
    send: () => call("POST", poolPath(pool, "rebalance"), { body: body(dialog.fields) }),
  });
}

async function preview({ pool, fields }) {
  const target = encodeURIComponent(fields.target_imbalance);
  return (await call("GET", `${poolPath(pool, "rebalance")}?target_imbalance=${target}`)).body;
}

function openEnd(pool) {
  open({ pool, view: End, stage: "preview" });
}

function End({ dialog }) {
  return commit(dialog, `End the rebalance of ${dialog.pool}?`, [h("p", null, "What has moved stays where it is; nothing more moves.")], {
    label: "End it",
    send: () => call("DELETE", poolPath(dialog.pool, "rebalance")),
  });
}

/// How the last one does; nothing where there was none.
export function Rebalance({ pool }) {
  const found = known("rebalance", pool)?.body;
  if (!found || found.stage === null) return null;
  const running = found.stage === "running";
  return panel("Rebalance",
    h("div", { class: "line" },
      h("span", null, `${STAGES[found.stage] ?? found.stage}, begun at ${time(found.since)}`),
      h("span", { class: "push" }),
      running && h("button", { class: "small", disabled: isStale(), onClick: () => openEnd(pool) }, "End…")),
    h("p", null,
      `${plural(found.moved, "session")} moved. `,
      running && `About ${plural(found.left ?? 0, "session")} left, ${span(found.estimate_seconds)}. `,
      `The fullest backend has ${ratio(found.imbalance)} times the mean; the target is ${ratio(found.target_imbalance)}.`));
}

