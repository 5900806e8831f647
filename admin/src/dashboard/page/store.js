// What the page knows, and how it is drawn again when that changes.

export const state = {
  /// Where the hash of the address leads.
  route: { view: "overview" },
  login: { needed: false, token: null, wrong: null, busy: false },
  /// Whether the admin process answers: when it last did, and why it does not.
  link: { answered: null, problem: null },
  status: null,
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

/// Whether any data plane tells figures at all.
export function isServed() {
  return (state.status?.dataplanes.length ?? 0) > 0;
}
