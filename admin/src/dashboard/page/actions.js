// What can be done to a backend, each after a look at what it would move and lose.

import { backendPath, call, poolPath } from "./api.js";
import { commit, input, open, options, radio, select } from "./dialog.js";
import { estimate } from "./drains.js";
import { count, plural, share } from "./format.js";
import { field, h, notice, table } from "./parts.js";
import { locked, redraw, state } from "./store.js";

const SHOWN = 20;

const MODES = [
  ["persist", "persist: its sessions stay until they end"],
  ["retire", "retire: they stay, and are not renewed"],
  ["migrate", "migrate: they move, all by the deadline"],
];

const THEN = [
  ["", "maintenance at the deadline, if there is one"],
  ["maintenance", "maintenance, as soon as nothing is left"],
  ["close", "maintenance, and what is open is closed"],
  ["remove", "remove it"],
  ["leave", "leave it draining"],
];

/// Each with its question to the preview and its call; `fits` is whether it would change anything.
const ACTIONS = {
  drain: {
    label: "Drain",
    about: "no new sessions; what becomes of its own is the drain's mode",
    ask: (name, fields) => ({ drain: { name, ...drain(fields) } }),
    send: (path, fields) => ["POST", `${path}/drain`, drain(fields)],
    fits: () => true,
  },
  activate: {
    label: "Activate",
    about: "sessions old and new",
    ask: (name) => ({ activate: name }),
    send: (path) => ["POST", `${path}/activate`],
    fits: (backend) => backend.admin_state !== "active",
  },
  maintenance: {
    label: "Maintenance",
    about: "nothing at all: its sessions go elsewhere now",
    ask: (name) => ({ maintenance: name }),
    send: (path) => ["POST", `${path}/maintenance`],
    fits: (backend) => backend.admin_state !== "maintenance",
  },
  weight: {
    label: "Weight",
    about: "its share of the new sessions",
    ask: (name, { weight }) => ({ weight: { name, weight: Number(weight) } }),
    send: (path, { weight }) => ["PATCH", path, { weight: Number(weight) }],
    fits: () => true,
  },
  remove: {
    label: "Remove",
    about: "for good: its sessions go elsewhere now",
    ask: (name) => ({ remove: name }),
    send: (path) => ["DELETE", path],
    fits: () => true,
  },
};

/// A drain as the API takes it: what is not said is left out.
function drain({ mode, deadline, share: part, then }) {
  const body = { mode };
  if (deadline.trim()) body.deadline = deadline.trim();
  if (mode === "migrate" && part.trim()) body.share = Number(part) / 100;
  if (then) body.then = then;
  return body;
}

export function openChange(pool, name) {
  const fields = { action: "drain", mode: "persist", deadline: "", share: "", then: "", weight: "" };
  const dialog = { pool, name, view: Change, fields, backend: null, match: null };
  open({ ...dialog, again: look, busy: true });
  void look();
}

/// Reads the backend that the open dialog is about, with the tag that says which state of it was seen.
async function look() {
  const { dialog } = state;
  try {
    const { body, tag } = await call("GET", backendPath(dialog.pool, dialog.name));
    Object.assign(dialog, { backend: body, match: tag });
    dialog.fields.weight = String(body.weight);
    if (body.admin_state !== "active") dialog.fields.action = "activate";
  } catch (problem) {
    dialog.problem = problem.message;
  }
  dialog.busy = false;
  redraw();
}

function Change({ dialog }) {
  const { name, stage, backend, fields } = dialog;
  if (stage === "choose") {
    return options(dialog, `Change ${name}`, backend && [h("p", { class: "about" }, now(backend)), choices(dialog), more(dialog)], {
      next: () => preview(dialog, ACTIONS[fields.action].ask(name, fields)),
    });
  }
  const { label, send } = ACTIONS[fields.action];
  const lost = dialog.preview?.lost ?? 0;
  const longer = { weight: `Give ${name} weight ${fields.weight}`, maintenance: `Put ${name} into maintenance` };
  const what = longer[fields.action] ?? `${label} ${name}`;
  return commit(dialog, `${what}?`, told(dialog.preview), {
    label: lost > 0 ? `${what}, and lose ${plural(lost, "session")}` : what,
    harms: lost > 0 || fields.action === "remove",
    stop: locked(),
    send: () => {
      const [method, path, body] = send(backendPath(dialog.pool, name), fields);
      return call(method, path, { body, match: dialog.match });
    },
  });
}

function now({ address, admin_state: wanted, health, weight, live_sessions: live }) {
  const sessions = live === null ? "sessions not known" : plural(live, "session");
  return `${address} · ${wanted} · ${health} · weight ${weight} · ${sessions}`;
}

function choices(dialog) {
  const stop = locked();
  const fitting = Object.entries(ACTIONS).filter(([, { fits }]) => fits(dialog.backend));
  return h("fieldset", null,
    h("legend", { class: "hidden" }, "What to do"),
    stop && notice("plain", `${stop} What it would do can still be seen.`),
    fitting.map(([action, { label, about }]) => radio(dialog, "action", action, label, about)));
}

/// What an action needs to know.
function more(dialog) {
  const { fields, errors } = dialog;
  if (fields.action === "weight") {
    return field("Weight", input(dialog, "weight", { type: "number", min: 0, max: 1000, required: true }),
      { hint: "0 gets no new sessions", error: errors.weight });
  }
  if (fields.action !== "drain") return null;
  return h("div", { class: "more" },
    field("Mode", select(dialog, "mode", MODES), { error: errors.mode, wide: true }),
    field("Deadline", input(dialog, "deadline", { placeholder: "30m" }),
      { hint: fields.mode === "migrate" ? "from now, as 30m; needed" : "from now, as 30m; none if left empty", error: errors.deadline }),
    fields.mode === "migrate" && field("Share that moves, in percent", input(dialog, "share", { type: "number", min: 0, max: 100, placeholder: "100" }), { error: errors.share }),
    field("Then", select(dialog, "then", THEN), { error: errors.then, wide: true }));
}

export async function preview({ pool }, question) {
  return (await call("POST", poolPath(pool, "preview"), { body: question })).body;
}

/// A preview in words and figures.
export function told({ moved, lost, backends, estimate: times, notes }) {
  return [
    h("dl", { class: "figures", key: "figures" },
      effect("Moves", moved, "to another backend"),
      effect("Loses", lost, "state that its backend kept in memory", true)),
    times && h("p", { key: "estimate" }, estimate(times)),
    notes.length > 0 && h("ul", { class: "about", key: "notes" }, notes.map((note) => h("li", { key: note }, note))),
    // Where the sessions are known, one without a figure is not there any more.
    loads(moved === null ? backends : backends.map((each) => ({ ...each, gone: each.sessions_after === null }))),
  ];
}

function effect(name, number, more, harms) {
  const text = number === null ? "not known" : plural(number, "session");
  return h("div", { class: "figure" }, h("dt", null, name), h("dd", null, h("span", { class: harms && number > 0 ? "hurts" : "" }, text), h("small", null, more)));
}

const LOADS = [
  { label: "Backend", row: true, cell: ({ name }) => name },
  { label: "Sessions now", number: true, cell: (each) => count(each.sessions_before) },
  { label: "then", number: true, cell: (each) => (each.gone ? "gone" : count(each.sessions_after)) },
  { label: "New ones now", number: true, cell: (each) => share(each.new_share_before), title: "The share of the new sessions that it gets by weight" },
  { label: "then ", number: true, cell: (each) => share(each.new_share_after) },
];

/// Those whose load changes, the most first.
function loads(backends) {
  const change = (each) => Math.abs((each.sessions_after ?? 0) - (each.sessions_before ?? 0));
  const shares = (each) => Math.abs(each.new_share_after - each.new_share_before);
  const changed = backends.filter((each) => change(each) > 0 || shares(each) > 1e-6);
  changed.sort((a, b) => change(b) - change(a) || shares(b) - shares(a));
  return h("div", { key: "loads", class: "loads" },
    table("The load of each backend now and then", LOADS, changed.slice(0, SHOWN), { key: ({ name }) => name, empty: "No backend's load changes." }),
    changed.length > SHOWN && h("p", { class: "about" }, `and ${changed.length - SHOWN} more, by less`));
}

export function openAdd(pool) {
  open({ pool, view: Add, fields: { name: "", address: "", weight: "1", backup: false } });
}

function Add({ dialog }) {
  const { pool, fields, errors, stage } = dialog;
  const { name, address, weight, backup } = fields;
  const body = { address: address.trim(), weight: Number(weight), backup };
  if (stage === "choose") {
    return options(dialog, `Add a backend to ${pool}`, [
      field("Name", input(dialog, "name", { required: true }), { hint: "letters, digits, - _ .", error: errors.name }),
      field("Address", input(dialog, "address", { required: true, placeholder: "10.0.0.7:8080" }), { hint: "host:port, or unix:PATH", error: errors.address }),
      field("Weight", input(dialog, "weight", { type: "number", min: 0, max: 1000 }), { error: errors.weight }),
      h("label", { class: "check" }, input(dialog, "backup", { type: "checkbox" }), " a backup: new sessions only while none of the others can take any"),
    ], { next: () => preview(dialog, { add: { name: name.trim(), ...body } }) });
  }
  return commit(dialog, `Add ${name}?`, told(dialog.preview), {
    label: `Add ${name}`,
    harms: dialog.preview.lost > 0,
    stop: locked(),
    send: () => call("PUT", backendPath(pool, name.trim()), { body, create: true }),
  });
}
