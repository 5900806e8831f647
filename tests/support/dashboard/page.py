"""The dashboard in a real Chromium, for the cases that follow in the same program: `CASE JSON` are its arguments."""

import json
import random
import re
import shutil
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from os import kill

import requests
from playwright.sync_api import expect, sync_playwright

# Much more than anything takes on a busy machine.
PATIENCE = 30_000
expect.set_options(timeout=PATIENCE)

FLAGS = [
    "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]
# Told to the page's own script by an event, and counted in it.
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
    window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""


class Dashboard:
    """The page with all that went wrong in it."""

    def __init__(self, page, given):
        self.page, self.given = page, given
        self.origin = f"http://{given['admin']}"
        self.errors, self.strangers = [], []
        page.set_default_timeout(PATIENCE)
        page.add_init_script(VIOLATIONS)
        page.on("console", lambda said: said.type in ("error", "warning") and self.errors.append(said.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: request.url.startswith((self.origin, "data:")) or self.strangers.append(request.url))

    def open(self, where="#/"):
        self.page.goto(f"{self.origin}/{where}")

    def api(self, method, path, body=None):
        token = self.given.get("token")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.request(method, self.origin + path, json=body, headers=headers, timeout=30)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def backend(self, name):
        return self.api("GET", f"/v1/pools/shop/backends/{name}")

    def row(self, name):
        return self.page.get_by_role("table", name="Backends").get_by_role("row").filter(
            has=self.page.get_by_role("rowheader").get_by_text(name, exact=True))

    def change(self, name):
        """Opens the dialog that changes a backend."""
        self.row(name).get_by_role("button", name=f"Change {name}", exact=True).click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog.get_by_role("radio").first).to_be_visible()
        return dialog

    def confirm(self, dialog, name):
        """Takes the second step, and waits for the third."""
        dialog.get_by_role("button", name=name).click()
        expect(dialog.get_by_role("heading", name="Done")).to_be_focused()
        expect(dialog).to_contain_text("act on it")
        dialog.get_by_role("button", name="Close").click()
        expect(dialog).to_have_count(0)

    def clean(self, but=None):
        """Nothing was refused by the policy, asked of anybody else, or complained of; but for errors that are meant."""
        assert self.page.evaluate("window.violations") == []
        assert self.strangers == [], self.strangers
        errors = [error for error in self.errors if not (but and re.search(but, error))]
        assert errors == [], errors


def see(dialog):
    """Leaves the first step for the second."""
    dialog.get_by_role("button", name="See what it would do").click()
    expect(dialog.get_by_role("button", name="Back")).to_be_visible()


@contextmanager
def dashboard(given, width=1280, height=900, **context):
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = chromium.new_context(viewport={"width": width, "height": height}, **context).new_page()
        yield Dashboard(page, given)
        chromium.close()
