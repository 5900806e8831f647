// Asks the API every two seconds for what is shown, while somebody looks, and keeps what the charts are drawn from.

import { Problem, call, poolPath } from "./api.js";
import { follow, unfollow } from "./events.js";
import { redraw, state } from "./store.js";

const EVERY = 2000;
const KEPT = 900;
/// A rate is what was counted over so many milliseconds: data planes report each second, so that two polls alone jitter.
const RATE_OVER = 10_000;
const LEAST = 1000;

let timer = null;
let busy = false;
let again = false;

/// Of each pool since the page was opened: `{ at, sessions, flight, requests, failed, unserved }`, rates but for the first two.
export const samples = new Map();
/// What was counted of each pool, and of each backend of the open pool, in the last seconds.
const counted = { pools: new Map(), backends: new Map() };

export function begin() {
  document.addEventListener("visibilitychange", watch);
  watch();
}

function watch() {
  if (document.hidden) {
    clearTimeout(timer);
    unfollow();
  } else {
    follow(poke);
    poke();
  }
}

/// Asks now, for something has happened.
export function poke() {
  clearTimeout(timer);
  if (busy) again = true;
  else void ask();
}

async function ask() {
  if (document.hidden || state.login.needed) return;
  [busy, again] = [true, false];
  try {
    await Promise.all([status(), ...opened()]);
    // Only now is everything that is shown of this moment.
    state.link = { answered: Date.now(), problem: null };
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status !== 401) state.link.problem = problem.message;
  } finally {
    busy = false;
    timer = setTimeout(ask, again ? 0 : EVERY);
    redraw();
  }
}

async function status() {
  const { body } = await call("GET", "/v1/status");
  state.status = body;
  state.version ??= body.version;
  const at = Date.now();
  for (const pool of body.pools) sample(pool, at, body.dataplanes.length > 0);
  for (const name of samples.keys()) {
    if (!body.pools.some((pool) => pool.name === name)) samples.delete(name);
  }
}

/// What the present view needs beyond the status.
function opened() {
  const { view, pool, tab } = state.route;
  if (view !== "pool") return [];
  const asked = [read("pool", poolPath(pool), pool)];
  if (tab === "backends") asked.push(read("rebalance", poolPath(pool, "rebalance"), pool));
  if (tab === "stickiness") asked.push(read("stickiness", poolPath(pool, "stickiness"), pool));
  if (tab === "release") asked.push(read("release", poolPath(pool, "release"), pool));
  return asked;
}

/// Reads one resource of a pool; that it is not there is an answer too.
async function read(what, path, pool) {
  let found;
  try {
    const { body, tag } = await call("GET", path);
    found = { of: pool, body, tag, missing: null };
  } catch (problem) {
    if (!(problem instanceof Problem) || problem.status !== 404) throw problem;
    found = { of: pool, body: null, tag: null, missing: problem.message };
  }
  if (state.route.pool !== pool) return;
  state[what] = found;
  if (what === "pool" && found.body) countBackends(found.body);
  if (what === "stickiness" && found.body) sampleImbalance(pool, found.body);
}

/// What is shown of a pool, if it is of this one.
export function known(what, pool) {
  const found = state[what];
  return found && found.of === pool ? found : null;
}

function sample(pool, at, served) {
  const history = counted.pools.get(pool.name) ?? [];
  counted.pools.set(pool.name, history);
  const { requests, unserved, latency } = pool;
  if (isSoon(history, at)) return;
  remember(history, { at, requests, failed: pool.errors + pool.responses_5xx, unserved });
  const rates = served ? over(history) : { requests: null, failed: null, unserved: null };
  const kept = samples.get(pool.name) ?? [];
  samples.set(pool.name, kept);
  const [p50, p99] = [latency?.p50 ?? null, latency?.p99 ?? null];
  kept.push({ at, sessions: served ? pool.live_sessions : null, flight: served ? pool.requests_in_flight : null, p50, p99, ...rates });
  if (kept.length > KEPT) kept.shift();
}

/// How a pool did just now.
export function latest(name) {
  return samples.get(name)?.at(-1) ?? { sessions: null, flight: null, p50: null, p99: null, requests: null, failed: null, unserved: null };
}

function countBackends({ name, backends }) {
  const at = Date.now();
  if (counted.of !== name) [counted.of, counted.backends] = [name, new Map()];
  const before = counted.backends;
  counted.backends = new Map();
  for (const backend of backends) {
    const history = before.get(backend.name) ?? [];
    if (!isSoon(history, at)) {
      remember(history, { at, requests: backend.requests, failed: backend.errors + backend.counts.responses_5xx });
    }
    counted.backends.set(backend.name, history);
  }
}

/// Requests and failures in a second of a backend of the open pool.
export function ratesOf(backend) {
  return over(counted.backends.get(backend) ?? []);
}

/// Events make the page ask sooner than the data planes have something new to report.
function isSoon(history, at) {
  return history.length > 0 && at - history.at(-1).at < LEAST;
}

function remember(history, now) {
  const last = history.at(-1);
  const fell = last && Object.keys(now).some((what) => now[what] < last[what]);
  // A data plane that has started again counts from zero.
  if (fell) history.length = 0;
  history.push(now);
  while (history.length > 2 && now.at - history[1].at >= RATE_OVER) history.shift();
}

function over(history) {
  const [first, last] = [history[0], history.at(-1)];
  const seconds = history.length > 1 ? (last.at - first.at) / 1000 : 0;
  const rate = (what) => (seconds > 0 ? (last[what] - first[what]) / seconds : null);
  return { requests: rate("requests"), failed: rate("failed"), unserved: rate("unserved") };
}

/// How uneven a pool was, while its stickiness was looked at.
export const imbalances = new Map();

function sampleImbalance(pool, { imbalance, imbalance_if_free: free }) {
  const kept = imbalances.get(pool) ?? [];
  imbalances.set(pool, kept);
  const of = (found) => found?.max_over_mean ?? null;
  kept.push({ at: Date.now(), sessions: of(imbalance.sessions), requests: of(imbalance.requests), free: of(free.requests) });
  if (kept.length > KEPT) kept.shift();
}
