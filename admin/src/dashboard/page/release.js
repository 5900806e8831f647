// The exit ramp: what the released sessions show beside the others, and the verdict.

import { beside } from "./charts.js";
import { chance, count, millis, plural, share, span, time, words } from "./format.js";
import { known } from "./live.js";
import { badge, bar, figure, figures, h, notice, panel, table } from "./parts.js";
import { openBegin, openEnd } from "./ramp.js";
import { locked, now } from "./store.js";

const VERDICTS = {
  "not-enough-traffic": ["plain", "Not enough traffic to tell yet"],
  "looks-stateless": ["good", "The backends look stateless"],
  "is-not": ["bad", "The backends are not stateless"],
};

const STATES = { running: ["warn", "◐"], finished: ["good", "●"], stopped: ["bad", "■"] };

/// The steps of the plan: those that have passed, the present one, those to come.
function Steps({ steps, step, state, passed }) {
  const done = new Set(passed.map(({ percent }) => percent));
  return h("ol", { class: "steps", "aria-label": "Steps" }, steps.map((percent, at) => {
    const here = at + 1 === step;
    const look = done.has(percent) ? "done" : here ? (state === "stopped" ? "stopped" : "here") : "";
    const says = done.has(percent) ? "passed" : here ? (state === "stopped" ? "stopped here" : "now") : "to come";
    return h("li", { key: percent, class: look, "aria-current": here ? "step" : undefined }, h("strong", null, `${percent} %`), h("small", null, says));
  }));
}

/// How long the present step is held, and whether it has the traffic that it needs.
function Progress({ release }) {
  const { state, step_since: since, hold, at_step: at } = release;
  if (state !== "running") return null;
  const { elsewhere, needed } = at;
  return h("div", { class: "line" },
    bar("How much of the traffic that this step needs has come", needed ? Math.min(1, elsewhere / needed) : null),
    h("span", null, needed === null
      ? "How much traffic this step needs can't be told."
      : `${plural(elsewhere, "released session")} served elsewhere, of about ${count(needed)} that this step needs`),
    h("span", { class: "about" }, `held for ${hold} at least, since ${time(since)} (${span((now() - since) / 1000)})`));
}

/// Rows `[what, released, control, more]` of both cohorts.
function rows({ sessions, requests, signals, latency, cache }) {
  const both = (what, { released, control }, show) => [what, show(released), show(control)];
  const signal = ({ signal: name, sessions: shown, shares, p_value: luck, detectable }) => [
    `showed ${words(name)}`,
    `${count(shown.released)} (${share(shares.released)})`,
    `${count(shown.control)} (${share(shares.control)})`,
    chance(luck),
    detectable === null ? "–" : share(detectable),
  ];
  const quantile = (name) => both(`latency ${name}`, { released: latency.released[name], control: latency.control[name] }, (value) => (value > 0 ? millis(value) : "–"));
  return [
    both("sessions compared", sessions, count),
    both("requests", requests, count),
    ...signals.map(signal),
    ...["p50", "p90", "p99"].map(quantile),
    ...(cache ? [both("cache hits", cache, (found) => `${count(found.hits)} (${share(found.share)})`)] : []),
  ];
}

const COHORTS = [
  { label: "Of the cohort", row: true, cell: ([what]) => what },
  { label: "Released", number: true, cell: ([, released]) => released },
  { label: "Control", number: true, cell: ([, , control]) => control },
  { label: "Luck at most", number: true, cell: ([, , , luck]) => luck ?? "", title: "The most likely that mere luck looks as bad at any time" },
  { label: "Harm seen from", number: true, cell: ([, , , , least]) => least ?? "", title: "The least share of the released sessions whose harm would have been found" },
];

function Cohorts({ release }) {
  const { signals } = release;
  const percent = (cohort) => signals.map(({ shares }) => (shares[cohort] === null ? null : shares[cohort] * 100));
  return panel("Both cohorts",
    h("div", { class: "charts wide" }, beside({
      title: "Sessions that showed a signal, in percent",
      names: signals.map(({ signal }) => words(signal)),
      groups: [
        { label: "released", colour: "blue", values: percent("released") },
        { label: "control", colour: "grey", values: percent("control") },
      ],
      says: "The share of each cohort's sessions that showed each signal; the table below has the figures",
      least: 5,
    })),
    table("What both cohorts show", COHORTS, rows(release), { key: ([what]) => what }));
}

function Running({ release, pool, tag }) {
  const [look, text] = VERDICTS[release.verdict] ?? ["plain", words(release.verdict)];
  const [state, sign] = STATES[release.state] ?? ["plain", ""];
  const worst = Math.min(1, ...release.signals.map((signal) => signal.p_value));
  const stop = locked();
  return h("div", null,
    h("div", { class: "tools" },
      badge(state, sign, release.state),
      h("span", null, `begun at ${time(release.since)}`),
      h("span", { class: "push" }),
      h("button", { disabled: stop !== null, title: stop ?? undefined, onClick: () => openEnd(pool, tag) }, "End it…"),
      release.state !== "running" && h("button", { disabled: stop !== null, onClick: () => openBegin(pool, tag) }, "Begin anew…")),
    notice(look, [
      h("strong", { key: "verdict" }, text),
      h("ul", { key: "why" }, [...release.why, ...release.advice].map((each) => h("li", { key: each }, each))),
    ], "status"),
    h(Steps, release),
    h(Progress, { release }),
    figures(
      figure("Released now", `${release.percent} %`, `step ${release.step} of ${release.steps.length}`),
      figure("Least chance that it is luck", chance(worst), `it stops at ${chance(release.alpha)}`, "The p-value of the worst signal, valid at any time"),
      figure("Harm would have shown from", release.detectable === null ? "–" : share(release.detectable), `looked for: ${share(release.harm)}`),
      figure("Served elsewhere at this step", count(release.at_step.elsewhere), "released sessions")),
    h(Cohorts, { release }),
    release.sampled > 1 && h("p", { class: "about" }, `One session in ${count(release.sampled)} is followed.`));
}

export function Release({ pool }) {
  const found = known("release", pool.name);
  if (!found) return h("p", { class: "about" }, "Asking the admin process…");
  if (found.body) return h(Running, { release: found.body, pool: pool.name, tag: found.tag });
  const stop = locked();
  return h("div", null,
    stop && notice("plain", stop),
    h("div", { class: "blank" },
      h("p", null, "No session is released. A release lets a growing share of the sessions go to any backend, compares them with the others, and stops by itself where that does harm."),
      h("button", { class: "main", disabled: stop !== null, onClick: () => openBegin(pool.name, null) }, "Begin a release…")));
}
