// What the page knows, and how it is drawn again when that changes.

export const state = {
  /// Where the hash of the address leads.
  route: { view: "overview" },
  login: { needed: false, token: null, wrong: null, busy: false },
  /// Whether the admin process answers: when it last did, and why it does not.
  link: { answered: null, problem: null },
  status: null,
  /// Of the admin process that served this page.
  version: null,
  /// What is shown of the pool that is open, each as the API last told it.
  pool: null,
  stickiness: null,
  release: null,
  rebalance: null,
  /// Newest first.
  events: [],
  stream: { open: false, problem: null },
  dialog: null,
  table: { filter: "", show: "all", sort: "name", down: false, page: 0 },
  kind: "all",
};

let draw = () => {};
let due = false;

export function drawWith(render) {
  draw = render;
}

/// Draws once for all changes of this moment.
export function redraw() {
  if (due) return;
  due = true;
  // A page in the background gets no frames, and may still have to draw.
  const soon = document.hidden ? setTimeout : requestAnimationFrame;
  soon(() => {
    due = false;
    draw();
  });
}

/// How far the clock of the admin process is ahead of this one, in milliseconds; what it told in the last answer.
let ahead = 0;

/// `date` is an answer's, in whole seconds: what is less than two apart may be on its way.
export function setClock(date) {
  const told = Date.parse(date);
  const apart = Number.isNaN(told) ? 0 : told - Date.now();
  ahead = Math.abs(apart) < 2000 ? 0 : apart;
}

/// The time by the clock that all times of the API are told by, in Unix milliseconds.
export function now() {
  return Date.now() + ahead;
}

/// Polls come every two seconds: what is older than two of them is not what there is.
export const STALE = 4500;

export function isStale() {
  return state.link.answered === null || Date.now() - state.link.answered > STALE;
}

/// Why nothing can be changed from here now; null where it can.
export function locked() {
  if (isStale()) return "The admin process does not answer: nothing can be changed now.";
  if (state.status?.source === "file") {
    return "The configuration file decides (membership.source is “file”): change it there and reload it.";
  }
  return null;
}

/// Data planes report each second: those whose last report is older than this have fallen silent.
const SILENT = 5000;

/// Data planes that are connected and tell nothing; what is summed of them is old.
export function silent() {
  return (state.status?.dataplanes ?? []).filter(({ report_age: age }) => age !== null && age > SILENT);
}

/// Whether any data plane tells figures at all.
export function isServed() {
  return (state.status?.dataplanes.length ?? 0) > 0;
}
