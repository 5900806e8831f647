// All pools, what needs to be looked at, and what happened of late.

import { overTime } from "./charts.js";
import { eventTable } from "./events.js";
import { count, plural, quantiles, rate } from "./format.js";
import { latest, samples } from "./live.js";
import { badge, h, notice, panel, table } from "./parts.js";
import { isServed, state } from "./store.js";

const CHARTED = 6;

export function poolLink(name, tab) {
  return `#/pools/${encodeURIComponent(name)}${tab ? `/${tab}` : ""}`;
}

/// Backends by health, leaving out what there is none of.
function healths({ up, down, unknown, backends }) {
  if (backends === 0) return badge("bad", "▼", "no backends");
  const some = [[up, "good", "●", "up"], [down, "bad", "▼", "down"], [unknown, "unsure", "○", "unknown"]];
  return h("span", { class: "badges" },
    some.filter(([number]) => number > 0).map(([number, look, sign, name]) => badge(look, sign, `${count(number)} ${name}`)));
}

function states({ draining, maintenance }) {
  const some = [[draining, "warn", "◐", "draining"], [maintenance, "off", "■", "maintenance"]].filter(([number]) => number > 0);
  return h("span", { class: "badges" }, some.map(([number, look, sign, name]) => badge(look, sign, `${count(number)} ${name}`)));
}

function failing(value) {
  return h("span", { class: value > 0 ? "hurts" : "" }, rate(value));
}

const COLUMNS = [
  { label: "Pool", row: true, cell: ({ name }) => h("a", { href: poolLink(name) }, name) },
  { label: "Health", cell: healths },
  { label: "Admin state", cell: states },
  { label: "Sessions", number: true, cell: ({ name }) => count(latest(name).sessions), title: "Distinct sessions seen within the idle time" },
  { label: "In flight", number: true, cell: ({ name }) => count(latest(name).flight), title: "Requests that are at backends now" },
  { label: "Requests/s", number: true, cell: ({ name }) => rate(latest(name).requests) },
  { label: "Failed/s", number: true, cell: ({ name }) => failing(latest(name).failed), title: "Errors of backends, and their responses with status 500 to 599" },
  { label: "p50 / p99", number: true, cell: ({ latency }) => quantiles(latency), title: "From a request's head to its response's, in the last minute" },
  { label: "Unserved/s", number: true, cell: ({ name }) => failing(latest(name).unserved), title: "Requests answered 503 because no backend was usable or had room" },
  { label: "Lost", number: true, cell: ({ sessions_lost: lost }) => (isServed() ? count(lost) : count(null)), title: "Sessions that had to leave their backend, since the data planes started" },
];

/// What the admin process finds wrong, and backends that are down without their pool being so.
function Problems({ status: { problems, pools } }) {
  const down = pools.filter((pool) => pool.down > 0 && pool.down < pool.backends);
  if (problems.length + down.length === 0) return h("p", null, badge("good", "●", "no problem is known"));
  return h("div", null,
    problems.length > 0 && notice("bad", [
      h("strong", { key: "head" }, plural(problems.length, "problem")),
      h("ul", { key: "list" }, problems.map((problem) => h("li", { key: problem }, problem))),
    ]),
    down.length > 0 && notice("warn", h("ul", null, down.map(({ name, down: some, backends }) => h("li", { key: name },
      `${count(some)} of ${plural(backends, "backend")} of pool `, h("a", { href: poolLink(name) }, name), some === 1 ? " is down" : " are down")))));
}

export function Overview() {
  const { status } = state;
  if (!status) return h("main", null, h("h1", { tabindex: -1 }, "Pools"), h("p", { class: "about" }, "Asking the admin process…"));
  const shown = status.pools.slice(0, CHARTED);
  return h("main", null,
    h("h1", { tabindex: -1 }, "Pools"),
    h(Problems, { status }),
    table("Pools", COLUMNS, status.pools, {
      key: ({ name }) => name,
      empty: "There is no pool yet: write one into the configuration file, or PUT /v1/pools/NAME.",
    }),
    h("div", { class: "charts" }, shown.map(({ name }) => overTime({
      title: `${name}: requests/s`,
      samples: samples.get(name) ?? [],
      lines: [
        { of: "requests", label: "requests/s", colour: "blue", fill: true },
        { of: "failed", label: "failed/s", colour: "red" },
        { of: "unserved", label: "unserved/s", colour: "amber" },
      ],
      now: rate(latest(name).requests),
    }))),
    status.pools.length > CHARTED && h("p", { class: "about" }, `Charts of the first ${CHARTED} pools; each pool's page has its own.`),
    panel("Of late", eventTable(state.events.slice(0, 8), "Nothing has happened since the admin process started."),
      state.events.length > 8 && h("p", null, h("a", { href: "#/events" }, "All events"))));
}
