// The backends of a pool: charts, drains, and a table of which one page at a time is drawn.

import { openAdd, openChange } from "./actions.js";
import { overTime } from "./charts.js";
import { Drains } from "./drains.js";
import { count, quantiles, rate } from "./format.js";
import { latest, ratesOf, samples } from "./live.js";
import { adminState, badge, h, heading, notice, table } from "./parts.js";
import { Rebalance, openRebalance } from "./rebalance.js";
import { isServed, isStale, locked, redraw, state } from "./store.js";

const ON_A_PAGE = 50;
const SHOWN = ["all", "up", "down", "unknown", "active", "draining", "maintenance"];
/// What is worst comes first.
const RANK = { down: 0, unknown: 1, up: 2, maintenance: 0, draining: 1, active: 2 };

const sent = ({ name }) => ratesOf(name).requests;
const failed = ({ name }) => ratesOf(name).failed;
const byName = new Intl.Collator("en", { numeric: true });

const COLUMNS = [
  { key: "name", label: "Backend", row: true, cell: named, by: ({ name }) => name },
  { key: "state", label: "State", cell: (each) => adminState(each.admin_state), by: (each) => RANK[each.admin_state] },
  { key: "health", label: "Health", cell: healthCell, by: (each) => RANK[each.health] },
  { key: "weight", label: "Weight", number: true, cell: ({ weight }) => count(weight), by: ({ weight }) => weight },
  { key: "sessions", label: "Sessions", number: true, cell: (each) => count(each.live_sessions), by: (each) => each.live_sessions },
  { key: "flight", label: "In flight", number: true, cell: (each) => served(each.requests_in_flight + each.tunnels), by: (each) => each.requests_in_flight + each.tunnels, title: "Requests and tunnels that are at the backend now" },
  { key: "rate", label: "Requests/s", number: true, cell: (each) => (isServed() ? rate(sent(each)) : count(null)), by: sent },
  { key: "failed", label: "Failed/s", number: true, cell: failing, by: failed, title: "Failed connects, resets, timeouts, broken responses, and responses with status 500 to 599" },
  { key: "lost", label: "Lost", number: true, cell: (each) => served(each.sessions_lost), by: (each) => each.sessions_lost, title: "Sessions that had to leave, their state lost, since the data planes started" },
];

/// Without a data plane a count of 0 is no figure.
function served(value) {
  return count(isServed() ? value : null);
}

function failing(each) {
  const value = isServed() ? failed(each) : null;
  return h("span", { class: value > 0 ? "hurts" : "" }, rate(value));
}

function named({ name, address, resolved, backup, warming, lookup_failing: failure, found_by: by }) {
  const marks = [
    backup && badge("plain", "", "backup"),
    warming !== null && badge("warn", "", `warming ${warming} %`),
    failure && badge("bad", "", "does not resolve", failure.reason),
  ];
  const where = [address, resolved && resolved !== address && `→ ${resolved}`, by && `found by ${by}`].filter(Boolean).join(" ");
  return h("span", { class: "named" }, h("span", null, name, " ", marks), h("small", null, where));
}

function healthCell({ health: found, health_reason: reason, instance }) {
  const looks = { up: ["good", "●"], down: ["bad", "▼"], unknown: ["unsure", "○"] };
  const [look, sign] = looks[found] ?? ["unsure", "?"];
  const more = reason ?? (instance && `instance ${instance}`);
  return h("span", { class: "named" }, badge(look, sign, found), more && h("small", { title: more }, more));
}

function change({ name }, pool) {
  return h("button", { class: "small", disabled: isStale(), "aria-label": `Change ${name}`, onClick: () => openChange(pool, name) }, "Change…");
}

/// A column's head sorts by it, and the other way at the second time.
function sortable(column) {
  if (!column.by) return heading(column, {}, column.label && h("span", { class: "hidden" }, column.label));
  const { sort, down } = state.table;
  const sorted = sort === column.key;
  const by = () => {
    Object.assign(state.table, { sort: column.key, down: sorted ? !down : Boolean(column.number), page: 0 });
    redraw();
  };
  return heading(column, { "aria-sort": sorted ? (down ? "descending" : "ascending") : "none" },
    h("button", { class: "sort", onClick: by }, column.label, h("span", { "aria-hidden": "true" }, sorted ? (down ? " ▾" : " ▴") : "")));
}

/// Those that are asked for, in the order that is.
function chosen(backends, columns) {
  const { filter, show, sort, down } = state.table;
  const text = filter.trim().toLowerCase();
  const has = (each) => `${each.name} ${each.address} ${each.resolved ?? ""}`.toLowerCase().includes(text);
  const is = (each) => show === "all" || each.health === show || each.admin_state === show;
  const { by } = columns.find(({ key }) => key === sort) ?? columns[0];
  const found = backends.filter((each) => is(each) && (text === "" || has(each)));
  found.sort((a, b) => {
    const [left, right] = [by(a), by(b)];
    // What is not known comes last either way.
    if ((left ?? null) === null || (right ?? null) === null) return ((left ?? null) === null) - ((right ?? null) === null);
    const order = typeof left === "string" ? byName.compare(left, right) : left - right;
    return order === 0 ? byName.compare(a.name, b.name) : down ? -order : order;
  });
  return found;
}

function turn(to) {
  state.table.page = to;
  redraw();
}

function Pages({ found, page }) {
  const last = Math.ceil(found / ON_A_PAGE) - 1;
  if (last < 1) return null;
  const [from, to] = [page * ON_A_PAGE + 1, Math.min(found, (page + 1) * ON_A_PAGE)];
  return h("nav", { class: "pages", "aria-label": "Pages of backends" },
    h("button", { class: "small", disabled: page === 0, onClick: () => turn(page - 1) }, "‹ Before"),
    h("span", null, `${count(from)} to ${count(to)} of ${count(found)}`),
    h("button", { class: "small", disabled: page === last, onClick: () => turn(page + 1) }, "After ›"));
}

function Tools({ pool, found }) {
  const set = (key) => (event) => {
    Object.assign(state.table, { [key]: event.target.value, page: 0 });
    redraw();
  };
  const stop = locked();
  return h("div", { class: "tools" },
    h("label", null, "Filter ", h("input", { id: "filter", type: "search", value: state.table.filter, onInput: set("filter"), placeholder: "name or address", "aria-keyshortcuts": "/" })),
    h("label", null, "Show ", h("select", { id: "show", value: state.table.show, onChange: set("show") },
      SHOWN.map((each) => h("option", { key: each, value: each }, each)))),
    h("span", { class: "about", role: "status" }, `${count(found)} of ${count(pool.backends.length)}`),
    h("span", { class: "push" }),
    h("button", { disabled: isStale(), onClick: () => openRebalance(pool.name) }, "Rebalance…"),
    h("button", { disabled: stop !== null, title: stop ?? undefined, onClick: () => openAdd(pool.name) }, "Add a backend…"));
}

function Charts({ name }) {
  const [all, now] = [samples.get(name) ?? [], latest(name)];
  return h("div", { class: "charts" },
    overTime({ title: "Requests/s", samples: all, lines: [{ of: "requests", label: "requests/s", colour: "blue", fill: true }], now: rate(now.requests) }),
    overTime({
      title: "Failed and unserved/s",
      samples: all,
      lines: [{ of: "failed", label: "failed/s", colour: "red", fill: true }, { of: "unserved", label: "unserved/s", colour: "amber" }],
      now: rate(now.failed === null ? null : now.failed + now.unserved),
    }),
    overTime({
      title: "Response time",
      samples: all,
      lines: [{ of: "p50", label: "p50, ms", colour: "blue", fill: true }, { of: "p99", label: "p99, ms", colour: "amber" }],
      now: quantiles(now),
    }),
    overTime({ title: "Sessions", samples: all, lines: [{ of: "sessions", label: "sessions", colour: "green", fill: true }], now: count(now.sessions), least: 4 }));
}

export function Backends({ pool }) {
  const columns = [...COLUMNS, { key: "change", label: "", cell: (each) => change(each, pool.name) }];
  const found = chosen(pool.backends, columns);
  const page = Math.min(state.table.page, Math.max(0, Math.ceil(found.length / ON_A_PAGE) - 1));
  const rows = found.slice(page * ON_A_PAGE, (page + 1) * ON_A_PAGE);
  return h("div", null,
    state.status?.source === "file" && notice("plain", locked()),
    !isServed() && notice("warn", "No data plane is connected: sessions, requests and errors are not known."),
    h(Charts, { name: pool.name }),
    h(Drains, { pool }),
    h(Rebalance, { pool: pool.name }),
    h("section", { "aria-label": "Backends" },
      h(Tools, { pool, found: found.length }),
      table("Backends", columns, rows, {
        key: ({ name }) => name,
        head: sortable,
        empty: pool.backends.length === 0 ? "The pool has no backends yet: add one." : "No backend is like that.",
      }),
      h(Pages, { found: found.length, page })));
}
