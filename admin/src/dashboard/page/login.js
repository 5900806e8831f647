// The bearer token: asked for where the API wants one, kept in memory, and until the tab is closed if the user says so.

import { Problem, call } from "./api.js";
import { begin } from "./live.js";
import { field, h, notice } from "./parts.js";
import { redraw, state } from "./store.js";

const KEPT = "steadfast-token";

function kept(change) {
  try {
    return change(sessionStorage);
  } catch {
    // A browser that keeps nothing asks again.
    return null;
  }
}

/// Begins with the token that the tab has kept, if any.
export function resume() {
  state.login.token = kept((storage) => storage.getItem(KEPT));
  if (state.login.token === null) return;
  state.login.wrong = null;
}

export function logOut() {
  kept((storage) => storage.removeItem(KEPT));
  // Everything else goes with the page.
  location.reload();
}

async function logIn(event) {
  event.preventDefault();
  const { login } = state;
  const token = event.target.elements.token.value.trim();
  const keep = event.target.elements.keep.checked;
  login.busy = true;
  redraw();
  login.wrong = await refused(token);
  login.busy = false;
  if (login.wrong === null) {
    login.needed = false;
    if (keep) kept((storage) => storage.setItem(KEPT, token));
    begin();
  }
  redraw();
}

/// Why this token does not do; null where it does.
async function refused(token) {
  const wrong = "That is not the token. It is the one line of the file that admin.token_file names.";
  if (!/^[\x21-\x7e]+$/.test(token)) return wrong;
  state.login.token = token;
  try {
    await call("GET", "/v1/status");
    return null;
  } catch (problem) {
    state.login.token = null;
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 429) return `${wrong} Too many wrong ones have come from here; the right one is taken at any time.`;
    return problem.status === 401 ? wrong : `The admin process does not answer: ${problem.message}.`;
  }
}

export function Login() {
  const { wrong, busy } = state.login;
  return h("main", { class: "login" },
    h("h1", null, "Steadfast"),
    h("p", null, "This admin process asks for its token: the line in the file that ", h("code", null, "admin.token_file"), " names."),
    h("form", { onSubmit: logIn },
      field("Token", h("input", { name: "token", type: "password", autocomplete: "off", required: true, autofocus: true })),
      h("label", { class: "check" }, h("input", { name: "keep", type: "checkbox" }), " keep it until this tab is closed"),
      wrong && notice("bad", wrong, "alert"),
      h("button", { class: "main", disabled: busy }, busy ? "Asking…" : "Log in")));
}
