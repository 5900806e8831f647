// The frame of the page: where it is, whether it knows anything, and what is drawn.

import { Dialog } from "./dialog.js";
import { Events } from "./events.js";
import { span, time } from "./format.js";
import { begin, poke } from "./live.js";
import { Login, logOut, resume } from "./login.js";
import { Overview } from "./overview.js";
import { h, notice, render } from "./parts.js";
import { Pool } from "./pool.js";
import { drawWith, isStale, redraw, silent, state } from "./store.js";
import { Workers } from "./workers.js";

const VIEWS = { overview: Overview, pool: Pool, events: Events, workers: Workers };
const TABS = ["stickiness", "release"];

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/// Where a hash leads: `#/pools/shop/release` and the like, and the overview for what is none.
function route(hash) {
  const [first, name, tab] = hash.replace(/^#\/?/, "").split("/").map(decoded);
  if (first === "pools" && name) return { view: "pool", pool: name, tab: TABS.includes(tab) ? tab : "backends" };
  if (first === "events" || first === "workers") return { view: first };
  return { view: "overview" };
}

function go() {
  const before = state.route;
  state.route = route(location.hash);
  if (before.pool !== state.route.pool) Object.assign(state.table, { filter: "", show: "all", page: 0 });
  redraw();
  poke();
  // After it is drawn: whoever reads by ear or by keys begins at the top of what is new.
  setTimeout(() => document.querySelector("h1")?.focus({ preventScroll: true }), 50);
  scrollTo(0, 0);
}

function keys(event) {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key !== "/" || typing || state.dialog || event.ctrlKey || event.metaKey || event.altKey) return;
  const filter = document.getElementById("filter");
  if (!filter) return;
  event.preventDefault();
  filter.focus();
  filter.select();
}

/// Whether what is shown is what there is.
function Link() {
  const { answered, problem } = state.link;
  if (!isStale()) return h("span", { class: "badge good" }, h("span", { "aria-hidden": "true" }, "● "), "live");
  const since = answered === null ? "" : ` for ${span((Date.now() - answered) / 1000)}`;
  return h("span", { class: "badge bad", title: problem ?? undefined }, h("span", { "aria-hidden": "true" }, "▼ "), answered === null ? "connecting" : `stale${since}`);
}

function Stale() {
  const { answered, problem } = state.link;
  if (!isStale() || (answered === null && problem === null)) return null;
  const why = problem ? ` (${problem})` : "";
  const what = answered === null ? "Nothing is known yet." : `What you see is from ${time(answered)} and may no longer be so.`;
  return notice("bad", [
    h("strong", { key: "what" }, `The admin process does not answer${why}. `), what,
    " It is asked again all the time. Data planes serve on without it.",
  ]);
}

/// Data planes that are there and say nothing, and a page that is older than the API.
function Notes() {
  const quiet = silent();
  const version = state.status?.version;
  return [
    quiet.length > 0 && notice("warn", quiet.map(({ pid, report_age: age }) =>
      h("div", { key: pid }, `The data plane with pid ${pid} has reported nothing for ${span(age / 1000)}: its figures are as old.`))),
    version !== undefined && version !== state.version &&
      notice("plain", `This page is of version ${state.version}, and the admin process is ${version} now: load the page anew.`),
  ];
}

function themed() {
  const { dataset } = document.documentElement;
  const dark = dataset.theme ? dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  return dark ? "dark" : "light";
}

function turnTheme() {
  const theme = themed() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("steadfast-theme", theme);
  } catch {
    // It holds until the page is left.
  }
  document.dispatchEvent(new Event("theme"));
  redraw();
}

function Head() {
  const { view } = state.route;
  const link = (to, name, here) => h("a", { href: to, "aria-current": here ? "page" : undefined }, name);
  const other = themed() === "dark" ? "light" : "dark";
  return h("header", null,
    h("a", { class: "brand", href: "#/" }, h("img", { src: "/dashboard/icon.svg", alt: "", width: 20, height: 20 }), "Steadfast"),
    h("nav", { "aria-label": "Views" },
      link("#/", "Pools", view === "overview" || view === "pool"),
      link("#/events", "Events", view === "events"),
      link("#/workers", "Workers", view === "workers")),
    h("span", { class: "push" }),
    h(Link),
    h("button", { class: "small", onClick: turnTheme, "aria-label": `Use the ${other} theme` }, other === "dark" ? "Dark" : "Light"),
    state.login.token !== null && h("button", { class: "small", onClick: logOut }, "Log out"));
}

/// What a reader by ear is told of by itself.
function Said() {
  const stale = isStale() && state.link.answered !== null;
  return h("div", { class: "hidden", role: "status" }, stale ? "The admin process does not answer." : "");
}

function title() {
  const { view, pool } = state.route;
  const troubles = state.status?.problems.length ?? 0;
  const name = { overview: "Steadfast", pool: `${pool} · Steadfast`, events: "Events · Steadfast", workers: "Workers · Steadfast" }[view];
  return `${isStale() && state.link.answered !== null ? "(stale) " : troubles > 0 ? `(${troubles}!) ` : ""}${name}`;
}

function App() {
  if (state.login.needed) return h(Login);
  return h("div", null,
    h("a", { class: "skip", href: "#main", onClick: skip }, "To the content"),
    h(Head),
    h(Said),
    h("div", { id: "main", class: isStale() && state.link.answered !== null ? "stale" : "" }, h(Stale), h(Notes), h(VIEWS[state.route.view])),
    h(Dialog));
}

function skip(event) {
  event.preventDefault();
  document.querySelector("h1")?.focus();
}

drawWith(() => {
  render(h(App), document.getElementById("page"));
  document.title = title();
});
state.route = route(location.hash);
resume();
addEventListener("hashchange", go);
addEventListener("keydown", keys);
// Times and deadlines pass without anything being told.
setInterval(redraw, 1000);
redraw();
begin();
