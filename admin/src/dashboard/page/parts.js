// Small pieces that all views are made of. Text is always text: nothing here, and nothing in Preact as it is used here,
// reads a string as HTML.

import { Component, Fragment, createRef, h, render } from "./vendor/preact.mjs";
import { UNKNOWN } from "./format.js";

export { Component, Fragment, createRef, h, render };

const HEALTH = { up: ["good", "●"], down: ["bad", "▼"], unknown: ["unsure", "○"] };
const ADMIN_STATE = { active: ["plain", ""], draining: ["warn", "◐"], maintenance: ["off", "■"] };

/// A word with a sign, so that no meaning is in the colour alone.
export function badge(look, sign, text, title) {
  return h("span", { class: `badge ${look}`, title }, sign && h("span", { "aria-hidden": "true" }, `${sign} `), text);
}

export function health(name, reason) {
  const [look, sign] = HEALTH[name] ?? ["unsure", "?"];
  return badge(look, sign, name, reason ?? undefined);
}

export function adminState(name) {
  const [look, sign] = ADMIN_STATE[name] ?? ["unsure", "?"];
  return badge(look, sign, name);
}

/// `look` is good, bad, warn or plain.
export function notice(look, content, role) {
  return h("div", { class: `notice ${look}`, role }, content);
}

export function panel(title, ...content) {
  return h("section", { class: "panel" }, h("h2", null, title), content);
}

/// A figure with its name, and more to say of it below.
export function figure(name, value, more, title) {
  return h("div", { class: "figure", title },
    h("dt", null, name),
    h("dd", null, h("span", { class: value === UNKNOWN ? "unknown" : "" }, value), more && h("small", null, more)));
}

export function figures(...all) {
  return h("dl", { class: "figures" }, all);
}

let ids = 0;

/// A labelled input, with what is wrong with it.
export function field(label, input, { hint, error, wide } = {}) {
  const id = input.props.id ?? `field-${input.props.name ?? ids++}`;
  input.props.id = id;
  const about = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  if (about) input.props["aria-describedby"] = about;
  if (error) input.props["aria-invalid"] = "true";
  return h("div", { class: wide ? "field wide" : "field" },
    h("label", { for: id }, label),
    input,
    hint && h("small", { id: `${id}-hint` }, hint),
    error && h("small", { id: `${id}-error`, class: "wrong" }, error));
}

/// Cells in columns `{ label, number, cell }`; on a narrow screen each row is a card. The roles say again what the elements
/// are, for browsers forget that where a style lays them out otherwise.
export function table(caption, columns, rows, { key = (_, at) => at, empty = "None.", head } = {}) {
  if (rows.length === 0) return h("p", { class: "empty" }, empty);
  const cell = (column, row) => {
    const role = column.row ? "rowheader" : "cell";
    const props = { role, class: column.number ? "number" : "", "data-label": column.label, scope: column.row && "row" };
    return h(column.row ? "th" : "td", props, column.cell(row));
  };
  return h("div", { class: "box" }, h("table", { role: "table" },
    h("caption", { class: "hidden" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((column) => (head ? head(column) : heading(column))))),
    h("tbody", { role: "rowgroup" },
      rows.map((row, at) => h("tr", { role: "row", key: key(row, at) }, columns.map((column) => cell(column, row)))))));
}

export function heading(column, props, content = column.label) {
  return h("th", { role: "columnheader", scope: "col", class: column.number ? "number" : "", title: column.title, ...props }, content);
}

/// How far something is, 0 to 1.
export function bar(label, value) {
  return h("progress", { "aria-label": label, max: 1, value: value ?? undefined });
}
