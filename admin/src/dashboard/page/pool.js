// One pool: its head, and the view of it that is open.

import { Backends } from "./backends.js";
import { count } from "./format.js";
import { known } from "./live.js";
import { poolLink } from "./overview.js";
import { h, notice } from "./parts.js";
import { Release } from "./release.js";
import { state } from "./store.js";
import { Stickiness } from "./stickiness.js";

const TABS = [
  ["backends", "Backends", Backends],
  ["stickiness", "Stickiness", Stickiness],
  ["release", "Release", Release],
];

export function Pool() {
  const { pool: name, tab } = state.route;
  const [, , View] = TABS.find(([each]) => each === tab);
  const found = known("pool", name);
  return h("main", null,
    h("h1", { tabindex: -1 }, name),
    h("nav", { class: "tabs", "aria-label": "Views of the pool" }, TABS.map(([each, label]) => h("a", {
      key: each,
      href: poolLink(name, each === "backends" ? "" : each),
      "aria-current": each === tab ? "page" : undefined,
    }, label))),
    found?.missing && notice("bad", found.missing),
    !found && h("p", { class: "about" }, "Asking the admin process…"),
    found?.body && h("p", { class: "about" }, settings(found.body)),
    found?.body && h(View, { pool: found.body }));
}

/// What decides where requests of the pool go.
function settings({ affinity, balance, backends }) {
  const parts = [`${count(backends.length)} ${backends.length === 1 ? "backend" : "backends"}`, `affinity ${affinity.mode}`];
  if (affinity.mode !== "none") parts.push(`on down: ${affinity.on_down}`);
  parts.push(`balance ${balance}`);
  return parts.join(" · ");
}
