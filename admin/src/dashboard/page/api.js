// Calls of the REST API. No cookie is sent or kept: what a page of another site makes this browser send has no token.

import { redraw, setClock, state } from "./store.js";

const PATIENCE = 5000;
/// A write waits up to 5 s for the workers, and a look-up of a name 2 s.
const WRITE_PATIENCE = 12000;

/// What the API refused, or that it could not be asked.
export class Problem extends Error {
  constructor(status, detail, errors = [], title = "") {
    super(detail);
    this.status = status;
    this.errors = errors;
    this.title = title;
  }
}

export function headers(more = {}) {
  const token = state.login.token;
  return token === null ? more : { ...more, Authorization: `Bearer ${token}` };
}

async function send(method, path, { body, match, create }) {
  const fields = headers();
  if (body !== undefined) fields["Content-Type"] = "application/json";
  if (match) fields["If-Match"] = match;
  if (create) fields["If-None-Match"] = "*";
  const patience = method === "GET" ? PATIENCE : WRITE_PATIENCE;
  try {
    return await fetch(path, {
      method,
      headers: fields,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(patience),
    });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Problem(0, late ? `no answer within ${patience / 1000} s` : "it can't be reached");
  }
}

/// The answer's body and tag; throws a `Problem` for anything else.
export async function call(method, path, options = {}) {
  const answer = await send(method, path, options);
  setClock(answer.headers.get("Date"));
  let body = null;
  try {
    body = await answer.json();
  } catch {
    if (answer.ok) throw new Problem(0, "the answer broke off");
  }
  if (answer.ok) return { body, tag: answer.headers.get("ETag") };
  if (answer.status === 401) turnedAway();
  throw new Problem(answer.status, body?.detail ?? `status ${answer.status}`, body?.errors ?? [], body?.title ?? "");
}

/// The token is missing, wrong, or another one by now.
export function turnedAway() {
  const { login } = state;
  if (login.token !== null && login.wrong === null) login.wrong = "The token is not taken (any more): enter the present one.";
  login.needed = true;
  redraw();
}

export function poolPath(pool, ...rest) {
  return ["/v1/pools", encodeURIComponent(pool), ...rest].join("/");
}

export function backendPath(pool, name, ...rest) {
  return poolPath(pool, "backends", encodeURIComponent(name), ...rest);
}
