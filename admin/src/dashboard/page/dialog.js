// What changes anything goes through a dialog of three steps: choose, see what it would do and confirm, see what became of it.

import { Problem } from "./api.js";
import { plural } from "./format.js";
import { poke } from "./live.js";
import { Component, createRef, h, notice } from "./parts.js";
import { redraw, state } from "./store.js";

let opened = 0;

/// `view` draws the steps; `again` reads anew what a change was decided on, where somebody else has changed it.
export function open({ view, fields = {}, stage = "choose", ...more }) {
  opened += 1;
  const fresh = { busy: false, problem: null, errors: {}, preview: null, receipt: null };
  state.dialog = { id: opened, first: stage, view, fields, stage, ...fresh, ...more };
  redraw();
}

function element() {
  return document.querySelector("dialog[open]");
}

function close() {
  element()?.close();
}

function closed() {
  state.dialog = null;
  redraw();
}

/// A change that is under way is not left alone.
function cancelled(event) {
  if (state.dialog?.busy) event.preventDefault();
}

function show(dialog) {
  if (dialog && !dialog.open) dialog.showModal();
}

export function Dialog() {
  const { dialog } = state;
  if (dialog === null) return null;
  const props = { key: dialog.id, ref: show, onClose: closed, onCancel: cancelled, "aria-labelledby": "dialog-title" };
  return h("dialog", props, h(dialog.view, { dialog }));
}

/// Takes the focus where a step has taken the place of the one before, so that it is read and nothing is pressed unseen.
class Title extends Component {
  heading = createRef();

  componentDidMount() {
    if (this.props.stage !== "choose") this.heading.current.focus();
  }

  render({ text }) {
    return h("h2", { id: "dialog-title", tabindex: -1, ref: this.heading }, text);
  }
}

/// Does one step of a dialog; whatever goes wrong stays in it.
async function step(dialog, work) {
  if (dialog.busy) return;
  Object.assign(dialog, { busy: true, problem: null, errors: {} });
  redraw();
  try {
    await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    await fail(dialog, problem);
  } finally {
    dialog.busy = false;
    redraw();
  }
}

async function fail(dialog, problem) {
  if (problem.status === 412) {
    dialog.stage = dialog.first;
    dialog.problem = "It changed meanwhile, and nothing was done. Below is what it is now: decide anew.";
    await dialog.again?.();
    return;
  }
  if (problem.status === 0) {
    const unknown = dialog.stage === "preview" ? " Whether it was done is not known: look before you try again." : "";
    dialog.problem = `The admin process does not answer: ${problem.message}.${unknown}`;
    return;
  }
  for (const { pointer, parameter, detail, right } of problem.errors) {
    const name = (pointer ?? parameter ?? "").split("/").at(-1);
    dialog.errors[name] = `${detail}: ${right}`;
  }
  const told = Object.keys(dialog.errors).filter((name) => name in dialog.fields);
  if (told.length > 0) dialog.stage = dialog.first;
  const rest = Object.entries(dialog.errors).filter(([name]) => !(name in dialog.fields)).map(([name, wrong]) => `${name} ${wrong}`);
  dialog.problem = [problem.title, told.length === 0 ? problem.message : null, ...rest].filter(Boolean).join(": ");
}

function set(dialog) {
  return ({ target }) => {
    dialog.fields[target.name] = target.type === "checkbox" ? target.checked : target.value;
    delete dialog.errors[target.name];
    redraw();
  };
}

/// An input that is a field of the dialog.
export function input(dialog, name, props = {}) {
  const value = props.type === "checkbox" ? { checked: dialog.fields[name] } : { value: dialog.fields[name] };
  return h("input", { autocomplete: "off", ...props, ...value, name, onInput: set(dialog) });
}

export function radio(dialog, name, value, label, more) {
  const props = { type: "radio", name, value, checked: dialog.fields[name] === value, onChange: set(dialog) };
  return h("label", { class: "choice", key: value }, h("input", props), h("span", null, h("strong", null, label), more && h("small", null, more)));
}

export function select(dialog, name, choices) {
  return h("select", { name, value: dialog.fields[name], onChange: set(dialog) },
    choices.map(([value, label]) => h("option", { key: value, value }, label)));
}

function problem(dialog) {
  return dialog.problem && notice("bad", dialog.problem, "alert");
}

function dismiss(label = "Cancel", disabled = false) {
  return h("button", { type: "button", onClick: close, disabled }, label);
}

/// The first step: `next` finds out what it would do.
export function options(dialog, title, content, { next, label = "See what it would do" }) {
  const submit = (event) => {
    event.preventDefault();
    void step(dialog, async () => {
      dialog.preview = await next();
      dialog.stage = "preview";
    });
  };
  return h("form", { key: "choose", onSubmit: submit, noValidate: true },
    h(Title, { text: title, stage: "choose" }),
    problem(dialog),
    content,
    h("div", { class: "buttons" }, dismiss(), h("button", { class: "main", disabled: dialog.busy }, dialog.busy ? "Asking…" : label)));
}

/// The second step, and the third: `send` does it.
export function commit(dialog, title, content, { label, harms = false, send, stop = null }) {
  if (dialog.receipt) return result(dialog);
  const back = () => {
    Object.assign(dialog, { stage: "choose", problem: null });
    redraw();
  };
  const confirm = () => step(dialog, async () => {
    dialog.receipt = (await send()).body;
    poke();
  });
  return h("div", { key: "preview" },
    h(Title, { text: title, stage: "preview" }),
    problem(dialog),
    content,
    stop && notice("plain", stop),
    h("div", { class: "buttons" },
      dismiss("Cancel", dialog.busy),
      dialog.first === "choose" && h("button", { type: "button", onClick: back, disabled: dialog.busy }, "Back"),
      h("button", { class: harms ? "danger" : "main", id: "confirm", onClick: confirm, disabled: dialog.busy || stop !== null }, dialog.busy ? "Doing it…" : label)));
}

/// What the API said became of it.
function result({ receipt }) {
  const { applied, workers, generation, warning } = receipt;
  const text = applied
    ? `Done: ${plural(workers ?? 0, "worker")} ${workers === 1 ? "acts" : "act"} on it (generation ${generation}).`
    : `It is stored (generation ${generation}), and not all workers act on it yet.`;
  return h("div", { key: "result" },
    h(Title, { text: applied ? "Done" : "Stored", stage: "result" }),
    notice(applied ? "good" : "warn", text, "status"),
    warning && notice("warn", warning),
    h("div", { class: "buttons" }, dismiss("Close")));
}
