// The stream of events: followed for as long as somebody looks, and taken up again where it broke off.

import { headers, turnedAway } from "./api.js";
import { time, words } from "./format.js";
import { h, table } from "./parts.js";
import { redraw, state } from "./store.js";

const KEPT = 500;
const SHOWN = 100;
const [SOONEST, LATEST] = [500, 8000];

let following = null;
let lastId = "0";

/// `happened` is called with each that is new.
export function follow(happened) {
  if (following) return;
  following = new AbortController();
  void run(following, happened);
}

export function unfollow() {
  following?.abort();
  following = null;
}

async function run(control, happened) {
  let wait = SOONEST;
  while (!control.signal.aborted && !state.login.needed) {
    const began = Date.now();
    const problem = await listen(control.signal, happened);
    if (control.signal.aborted) break;
    state.stream = { open: false, problem };
    // Whatever ended it, the figures may have changed, or nobody answers any more.
    happened();
    wait = Date.now() - began > LATEST ? SOONEST : Math.min(wait * 2, LATEST);
    await new Promise((done) => setTimeout(done, wait));
  }
  if (following === control) following = null;
}

/// Reads events until the stream ends; why it did.
async function listen(signal, happened) {
  try {
    const answer = await fetch("/v1/events", {
      headers: headers({ "Last-Event-ID": lastId, Accept: "text/event-stream" }),
      cache: "no-store",
      credentials: "omit",
      signal,
    });
    if (answer.status === 401) turnedAway();
    if (!answer.ok) return answer.status === 503 ? "too many follow the events already" : `status ${answer.status}`;
    state.stream = { open: true, problem: null };
    redraw();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      const parts = (text + chunk.value).split("\n\n");
      text = parts.pop();
      if (take(parts)) happened();
    }
    return "the stream ended";
  } catch {
    return "the stream broke off";
  }
}

/// Keeps what came; whether that was anything.
function take(parts) {
  const first = lastId === "0";
  const came = parts.map(parse).filter((event) => event !== null);
  if (came.length === 0) return false;
  lastId = came.at(-1).id;
  // Who has just come has missed nothing that mattered to him.
  const told = came.filter((event) => !(first && event.kind === "missed"));
  state.events = [...told.reverse(), ...state.events].slice(0, KEPT);
  redraw();
  return true;
}

function parse(text) {
  const lines = text.split("\n");
  const part = (name) => lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
  const [id, kind, data] = ["id", "event", "data"].map(part);
  if (id === undefined || data === undefined) return null;
  try {
    return { id, kind: kind ?? "message", data: JSON.parse(data) };
  } catch {
    return { id, kind: kind ?? "message", data: { detail: data } };
  }
}

function value(found) {
  if (found === null) return "–";
  return typeof found === "object" ? JSON.stringify(found) : String(found);
}

/// What an event says beyond its kind and where it happened.
function says({ data }) {
  const left = Object.entries(data).filter(([key]) => !["at", "pool", "backend", "generation", "detail"].includes(key));
  const pairs = left.filter(([, found]) => found !== null).map(([key, found]) => `${words(key)}: ${value(found)}`);
  return [data.detail, ...pairs].filter(Boolean).join(" · ");
}

const COLUMNS = [
  { label: "Time", row: true, cell: ({ data }) => time(data.at) },
  { label: "Event", cell: ({ kind }) => h("span", { class: "kind" }, kind) },
  { label: "Where", cell: ({ data }) => where(data) },
  { label: "What", cell: says },
];

function where({ pool, backend }) {
  if (!pool) return "";
  return h("span", null, h("a", { href: `#/pools/${encodeURIComponent(pool)}` }, pool), backend && ` / ${backend}`);
}

export function eventTable(events, empty) {
  return table("Events, the latest first", COLUMNS, events, { key: (event) => event.id, empty });
}

export function Events() {
  const kinds = [...new Set(state.events.map((event) => event.kind))].sort();
  const chosen = state.events.filter((event) => state.kind === "all" || event.kind === state.kind);
  const choose = (event) => {
    state.kind = event.target.value;
    redraw();
  };
  return h("main", null,
    h("h1", { tabindex: -1 }, "Events"),
    h("p", { class: "about" }, state.stream.open
      ? "As they happen, and the last ones from before this page was opened; the admin process keeps 1,024 until it ends."
      : `Not followed now: ${state.stream.problem ?? "connecting"}. It is tried again.`),
    h("div", { class: "tools" },
      h("label", null, "Kind ", h("select", { value: state.kind, onChange: choose },
        h("option", { value: "all" }, "all"), kinds.map((kind) => h("option", { value: kind, key: kind }, kind))))),
    eventTable(chosen.slice(0, SHOWN), "Nothing has happened since the admin process started."),
    chosen.length > SHOWN && h("p", { class: "about" }, `${chosen.length - SHOWN} older ones are not shown.`));
}
