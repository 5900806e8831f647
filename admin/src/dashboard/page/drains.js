// Drains under way: how far each is, and how long it will still take.

import { openChange } from "./actions.js";
import { count, plural, share, span, time } from "./format.js";
import { bar, h, panel } from "./parts.js";
import { isStale, now } from "./store.js";

const SHOWN = 12;

const ENDS = {
  maintenance: "then into maintenance",
  close: "then into maintenance, and what is open is closed",
  remove: "then removed",
  leave: "then left to drain on",
};

/// Until how many have ended, or why nobody can say.
export function estimate({ p95, p99, all, unknown }) {
  if (unknown) return `How long it takes can't be told: ${unknown}.`;
  if (all === null) return "How long it takes can't be told: the ages of its sessions are not known.";
  if (all === 0) return "No session is left.";
  return `By how its sessions end, 95 % are gone in about ${span(p95)}, 99 % in ${span(p99)}, the last in ${span(all)}.`;
}

function ends({ deadline, then }) {
  const how = then ? ENDS[then] : "then into maintenance";
  if (deadline === null) return then ? `without a deadline; once nothing is left, ${how.slice(5)}` : "without a deadline: it drains until somebody ends it";
  const left = (deadline - now()) / 1000;
  return `deadline at ${time(deadline)}, ${left > 0 ? `in ${span(left)}` : "which has passed"}, ${how}`;
}

function left({ live_sessions: live, sessions_at_start: start, requests_in_flight: flight, tunnels, empty }) {
  if (empty) return "Nothing is left.";
  const sessions = live === null ? "sessions not known" : `${count(live)} of ${plural(Math.max(start ?? 0, live), "session")}`;
  return `Left: ${sessions}, ${plural(flight, "request")} in flight, ${plural(tunnels, "tunnel")}.`;
}

/// How far the time has gone, where a deadline moves the sessions.
function Drain({ pool, backend }) {
  const { name, drain_progress: drain } = backend;
  const done = drain.empty ? 1 : drain.share_done;
  return h("li", { class: "drain" },
    h("div", { class: "line" },
      h("strong", null, name),
      h("span", null, `${drain.mode}, since ${time(drain.since)}, ${ends(drain)}`),
      h("span", { class: "push" }),
      h("button", { class: "small", disabled: isStale(), "aria-label": `Change the drain of ${name}`, onClick: () => openChange(pool, name) }, "Change…")),
    h("div", { class: "line" }, bar(`How far the drain of ${name} is`, done), h("strong", { class: "number" }, share(done))),
    h("p", null, left(drain), " ", !drain.empty && estimate(drain.estimate)),
    drain.lost_if_stopped_now > 0 &&
      h("p", { class: "about" }, `Stopped now, ${plural(drain.lost_if_stopped_now, "session")} would lose their state.`));
}

export function Drains({ pool }) {
  const draining = pool.backends.filter((each) => each.drain_progress !== null);
  if (draining.length === 0) return null;
  return panel("Drains",
    h("ul", { class: "plain" }, draining.slice(0, SHOWN).map((each) => h(Drain, { key: each.name, pool: pool.name, backend: each }))),
    draining.length > SHOWN && h("p", { class: "about" }, `${draining.length - SHOWN} more drain: show “draining” below.`));
}
