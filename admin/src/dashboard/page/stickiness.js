// What stickiness costs a pool.

import { beside, overTime } from "./charts.js";
import { count, plural, ratio, share, words } from "./format.js";
import { imbalances, known } from "./live.js";
import { figure, figures, h, notice, panel, table } from "./parts.js";

const CHARTED = 40;
const LISTED = 30;

const byCount = ([, a], [, b]) => b - a;

/// Causes with their counts, the most frequent first.
function causes(caption, found, empty) {
  const rows = Object.entries(found).filter(([, number]) => number > 0).sort(byCount);
  return table(caption, [
    { label: "Cause", row: true, cell: ([cause]) => words(cause) },
    { label: "Requests", number: true, cell: ([, number]) => count(number) },
  ], rows, { key: ([cause]) => cause, empty });
}

function Figures({ found }) {
  const { imbalance, imbalance_if_free: free, capacity, returning, live_sessions: live } = found;
  const even = (name, of, beside_) => figure(name, ratio(of?.max_over_mean), beside_ !== undefined && `${ratio(beside_?.max_over_mean)} if free`,
    "The fullest backend's load over the mean, by weight: 1 is even");
  const taken = capacity.busy_time ?? capacity.requests;
  return figures(
    figure("Live sessions", count(live)),
    figure("Returned to their pin", share(returning.share), plural(returning.requests, "request")),
    even("Sessions, most to mean", imbalance.sessions),
    even("Requests, most to mean", imbalance.requests, free.requests),
    even("Busy time, most to mean", imbalance.busy_time, free.busy_time),
    figure("Capacity that stickiness takes", share(taken?.taken), taken && `${share(taken.usable)} can be used`,
      "A pool is full when its fullest backend is: what of the capacity that free balancing could use is lost"));
}

function Target({ target }) {
  if (!target) return null;
  const { share: wanted, burn_rate_5m: now, burn_rate_1h: hour, burns } = target;
  const text = `Target ${share(wanted)}: it is missed ${ratio(now)} times as fast as that allows over 5 minutes, ${ratio(hour)} over an hour.`;
  return notice(burns ? "bad" : "plain", burns ? `${text} Look now.` : text);
}

function Advice({ advice }) {
  return panel("Advice", advice.length === 0
    ? h("p", { class: "empty" }, "The figures say nothing about the settings yet.")
    : h("ul", { class: "plain" }, advice.map(({ about, says, evidence }) => h("li", { key: about + says },
      h("strong", null, about), ": ", says, h("small", null, evidence)))));
}

function Charts({ found }) {
  const all = [...found.backends].sort((a, b) => b.requests - a.requests).slice(0, CHARTED);
  const names = all.map(({ name }) => name);
  const more = found.backends.length > CHARTED ? `, the ${CHARTED} with the most` : "";
  const history = imbalances.get(found.pool) ?? [];
  return h("div", { class: "charts wide" },
    beside({
      title: `Requests by backend${more}`,
      names,
      groups: [
        { label: "as they went", colour: "blue", values: all.map(({ requests }) => requests) },
        { label: "if each were free", colour: "grey", values: all.map((each) => each.free_requests) },
      ],
      says: `Requests of ${plural(names.length, "backend")}, as they went and as free balancing would have sent them; the table below has the figures`,
    }),
    beside({
      title: `Sessions by backend${more}`,
      names,
      groups: [{ label: "live sessions", colour: "green", values: all.map((each) => each.live_sessions) }],
      says: `Live sessions of ${plural(names.length, "backend")}; the table below has the figures`,
    }),
    overTime({
      title: "Most to mean, since this was opened",
      samples: history,
      lines: [
        { of: "sessions", label: "sessions", colour: "green" },
        { of: "requests", label: "requests", colour: "blue" },
        { of: "free", label: "requests if free", colour: "grey", dash: [4, 4] },
      ],
      now: ratio(history.at(-1)?.sessions),
      least: 1.5,
    }));
}

const WINDOWS = [
  { label: "Window", row: true, cell: ({ minutes, seconds }) => (seconds < minutes * 60 ? `${minutes} min (${seconds} s known)` : `${minutes} min`) },
  { label: "Requests", number: true, cell: ({ requests }) => count(requests) },
  { label: "Began a session", number: true, cell: (window) => share(window.unpinned_share) },
  { label: "Returned", number: true, cell: ({ returning }) => count(returning.requests) },
  { label: "to their pin", number: true, cell: ({ returning }) => share(returning.share) },
];

const MOVED = [
  { label: "What", row: true, cell: ({ kind }) => kind },
  { label: "Cause", cell: ({ cause }) => words(cause) },
  { label: "From", cell: ({ from }) => from ?? "not known" },
  { label: "To", cell: ({ to }) => to ?? "nobody" },
  { label: "Count", number: true, cell: ({ count: number }) => count(number) },
];

const COSTS = [
  { label: "Backend", row: true, cell: ({ name }) => name },
  { label: "Weight", number: true, cell: ({ weight }) => count(weight) },
  { label: "Sessions", number: true, cell: (each) => count(each.live_sessions) },
  { label: "Requests", number: true, cell: ({ requests }) => count(requests) },
  { label: "if free", number: true, cell: (each) => count(each.free_requests) },
  { label: "Sessions begun", number: true, cell: (each) => count(each.sessions_new) },
  { label: "arrived", number: true, cell: (each) => count(each.sessions_arrived) },
  { label: "lost", number: true, cell: (each) => count(each.sessions_lost) },
];

const ROUTES = [
  { label: "Route", row: true, cell: ({ listener, host, path }) => `${listener} ${host ?? ""}${path ?? ""}` },
  { label: "Requests", number: true, cell: ({ requests }) => count(requests) },
  { label: "Without a marker", number: true, cell: (each) => share(each.unmarked_share) },
  { label: "Ignored it", number: true, cell: ({ ignored }) => count(ignored), title: "On a connection on which a marker had been set before" },
];

/// The first of a list that may be long.
function some(all, draw) {
  return [draw(all.slice(0, LISTED)), all.length > LISTED && h("p", { class: "about" }, `${all.length - LISTED} more are in GET /v1/pools/…/stickiness.`)];
}

function Hot({ hot }) {
  const columns = (label, of) => [{ label, row: true, cell: of }, { label: "Share", number: true, cell: (each) => share(each.share) }];
  return panel("Hot", hot.warning && notice("warn", hot.warning),
    h("p", { class: "about" }, `By ${plural(hot.samples, "sample")} of the last minute or two.`),
    h("div", { class: "pair" },
      table("Sessions", columns("Session key", ({ key }) => key), hot.sessions, { key: ({ key }) => key, empty: "No session has 1 % of the requests." }),
      table("Addresses", columns("Address", ({ address }) => address), hot.addresses, { key: ({ address }) => address, empty: "No address has 1 % of the requests." })));
}

export function Stickiness({ pool }) {
  const found = known("stickiness", pool.name)?.body;
  if (!found) return h("p", { class: "about" }, "Asking the admin process…");
  const ledger = [...found.ledger].sort((a, b) => b.count - a.count);
  return h("div", null,
    h("p", { class: "about" }, "Since the data planes started, unless it says otherwise."),
    h(Target, found),
    h(Figures, { found }),
    h(Charts, { found }),
    h(Advice, found),
    panel("Of late", table("What became of requests in the last minutes", WINDOWS, found.windows, { key: ({ minutes }) => minutes })),
    h("div", { class: "pair" },
      panel("Left their pin", causes("Why requests did not reach their pin", found.left, "All that returned reached their pin.")),
      panel("Markers refused", causes("Why markers counted as none", found.refused, "Every marker that came was one."))),
    panel("Who moved from where to where", some(ledger, (rows) => table("Sessions that did not stay", MOVED, rows, { empty: "Nobody has moved." }))),
    h(Hot, found),
    panel("Routes", some(found.routes, (rows) => table("What clients do with their markers, by route", ROUTES, rows, { empty: "Nothing was asked for yet." }))),
    panel("Backends", some([...found.backends].sort((a, b) => b.requests - a.requests),
      (rows) => table("What each backend bears", COSTS, rows, { key: ({ name }) => name, empty: "The pool has no backends." }))));
}
