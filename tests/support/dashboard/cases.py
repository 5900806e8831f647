

def look(given):
    with dashboard(given) as board:
        page = board.page
        board.open()
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="shop"))
        expect(row).to_contain_text("2 up")
        expect(row).to_contain_text("1 down")
        expect(row.get_by_role("cell").nth(2)).to_have_text("6")
        expect(row).to_contain_text(re.compile(r"\d ms / \d+(\.\d)? ms"))
        expect(page.get_by_role("table", name="Events")).to_contain_text("health")
        page.get_by_role("link", name="shop", exact=True).first.click()
        expect(page.get_by_role("heading", name="shop")).to_be_focused()
        expect(board.row("a")).to_contain_text("● up")
        expect(board.row("c")).to_contain_text("▼ down")
        expect(board.row("a").get_by_role("cell").nth(3)).to_have_text(str(board.backend("a")["live_sessions"]))
        expect(page.locator(".chart canvas")).to_have_count(4)
        page.get_by_role("link", name="Stickiness").click()
        expect(page.get_by_role("table", name="What each backend bears")).to_contain_text("a")
        expect(page.locator(".chart canvas")).to_have_count(3)
        page.get_by_role("link", name="Release").click()
        expect(page.get_by_role("main")).to_contain_text("No session is released")
        page.get_by_role("link", name="Workers").click()
        expect(page.get_by_role("table", name="Data planes")).to_contain_text("pid")
        page.get_by_role("link", name="Events", exact=True).click()
        board.api("PATCH", "/v1/pools/shop/backends/b", {"weight": 7})
        expect(page.get_by_role("table", name="Events").get_by_role("row").nth(1)).to_contain_text("membership")
        # That there is no release is an answer, which browsers complain of.
        board.clean(but="404")


def drain(given):
    with dashboard(given) as board:
        board.open("#/pools/shop")
        dialog = board.change("a")
        dialog.get_by_label("Deadline").fill("soon")
        dialog.get_by_role("button", name="See what it would do").click()
        expect(dialog.locator(".wrong")).to_be_visible()
        dialog.get_by_label("Deadline").fill("30m")
        see(dialog)
        expect(dialog).to_contain_text("as it is at the deadline")
        expect(dialog.get_by_role("table")).to_contain_text("a")
        # Neither going back nor leaving does anything.
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_have_count(0)
        assert board.backend("a")["admin_state"] == "active"
        dialog = board.change("a")
        dialog.get_by_label("Deadline").fill("30m")
        see(dialog)
        lost = re.search(r"Loses\s*(\d+) session", dialog.inner_text())
        assert lost and int(lost[1]) == board.backend("a")["live_sessions"], dialog.inner_text()
        board.confirm(dialog, "Drain a")
        assert board.backend("a")["admin_state"] == "draining"
        panel = board.page.locator("section.panel").filter(has=board.page.get_by_role("heading", name="Drains"))
        expect(panel).to_contain_text("then into maintenance")
        expect(panel.get_by_role("progressbar")).to_be_visible()
        expect(board.row("a")).to_contain_text("draining")
        board.clean(but="422")


def change(given):
    with dashboard(given) as board:
        page = board.page
        board.open("#/pools/shop")
        page.get_by_role("button", name="Add a backend").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("d")
        dialog.get_by_label("Address").fill("nowhere")
        dialog.get_by_role("button", name="See what it would do").click()
        expect(dialog.locator(".wrong")).to_be_visible()
        dialog.get_by_label("Address").fill(given["spare"])
        see(dialog)
        expect(dialog).to_contain_text("Moves")
        board.confirm(dialog, "Add d")
        assert board.backend("d")["address"] == given["spare"]

        dialog = board.change("d")
        dialog.get_by_role("radio", name="Weight").check()
        dialog.get_by_role("spinbutton").fill("5")
        see(dialog)
        # Somebody else is faster: what was decided on is no longer so.
        board.api("PATCH", "/v1/pools/shop/backends/d", {"weight": 3})
        dialog.get_by_role("button", name="Give d weight 5").click()
        expect(dialog.get_by_role("alert")).to_contain_text("changed meanwhile")
        assert board.backend("d")["weight"] == 3
        expect(dialog).to_contain_text("weight 3")
        dialog.get_by_role("spinbutton").fill("5")
        see(dialog)
        board.confirm(dialog, "Give d weight 5")
        assert board.backend("d")["weight"] == 5

        dialog = board.change("a")
        dialog.get_by_role("radio", name="Maintenance").check()
        see(dialog)
        board.confirm(dialog, re.compile("^Put a into maintenance, and lose .* sessions?$"))
        assert board.backend("a")["admin_state"] == "maintenance"
        dialog = board.change("a")
        expect(dialog.get_by_role("radio", name="Activate")).to_be_checked()
        see(dialog)
        board.confirm(dialog, "Activate a")
        assert board.backend("a")["admin_state"] == "active"

        dialog = board.change("d")
        dialog.get_by_role("radio", name="Remove").check()
        see(dialog)
        board.confirm(dialog, "Remove d")
        expect(board.row("d")).to_have_count(0)
        assert all(each["name"] != "d" for each in board.api("GET", "/v1/pools/shop/backends"))
        board.clean(but="422|412")


def ramp(given):
    with dashboard(given) as board:
        page = board.page
        board.open("#/pools/shop/release")
        page.get_by_role("button", name="Begin a release").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Steps").fill("10, 5")
        see(dialog)
        dialog.get_by_role("button", name="Release 10 %").click()
        expect(dialog.get_by_role("alert")).to_contain_text("each of the steps releases more")
        dialog.get_by_role("button", name="Back").click()
        dialog.get_by_label("Steps").fill("50, 100")
        dialog.get_by_label("A redirect to this path").fill("/login")
        see(dialog)
        expect(dialog).to_contain_text(re.compile("50 %: about 3 sessions"))
        board.confirm(dialog, "Release 50 %")
        cohorts = page.get_by_role("table", name="What both cohorts show")
        for name in ("Released", "Control"):
            expect(cohorts.get_by_role("columnheader", name=name)).to_be_visible()
        expect(cohorts).to_contain_text("showed denied")
        expect(cohorts).to_contain_text("latency p99")
        expect(page.get_by_role("list", name="Steps")).to_contain_text("50 %")
        expect(page.get_by_role("main")).to_contain_text("Not enough traffic")
        page.get_by_role("button", name="End it").click()
        board.confirm(dialog, "End the release")
        expect(page.get_by_role("main")).to_contain_text("No session is released")
        assert requests.get(f"{board.origin}/v1/pools/shop/release", timeout=30).status_code == 404
        board.clean(but="404|409")


def rebalance(given):
    with dashboard(given) as board:
        page = board.page
        board.open("#/pools/shop")
        page.get_by_role("button", name="Rebalance").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Sessions in a second").fill("1")
        see(dialog)
        expect(dialog).to_contain_text("loses what its backend kept")
        board.confirm(dialog, re.compile("^Move about"))
        panel = page.locator("section.panel").filter(has=page.get_by_role("heading", name="Rebalance"))
        expect(panel).to_contain_text("under way")
        panel.get_by_role("button", name="End").click()
        board.confirm(dialog, "End it")
        expect(panel).to_contain_text("ended by somebody")
        assert board.api("GET", "/v1/pools/shop/rebalance")["stage"] == "cancelled"
        board.clean()


def token(given):
    with dashboard(given) as board:
        page = board.page
        board.open("#/pools/shop")
        page.get_by_label("Token").fill("not the right one")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("That is not the token")
        page.get_by_label("Token").fill("nor is thîs")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("That is not the token")
        page.get_by_label("Token").fill(given["token"])
        page.get_by_role("button", name="Log in").click()
        expect(board.row("a")).to_be_visible()
        dialog = board.change("a")
        see(dialog)
        board.confirm(dialog, "Drain a")
        assert board.backend("a")["admin_state"] == "draining"
        page.get_by_role("link", name="Events", exact=True).click()
        expect(page.get_by_role("table", name="Events")).to_contain_text("admin-state")
        # Not kept unless asked for; no cookie in any case.
        page.reload()
        expect(page.get_by_label("Token")).to_be_visible()
        page.get_by_label("Token").fill(given["token"])
        page.get_by_label("keep it").check()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Events")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Events")).to_be_visible()
        assert page.context.cookies() == []
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        page.reload()
        expect(page.get_by_label("Token")).to_be_visible()
        board.clean(but="401")


def file(given):
    with dashboard(given) as board:
        board.open("#/pools/shop")
        page = board.page
        expect(page.get_by_role("main")).to_contain_text("The configuration file decides")
        expect(page.get_by_role("button", name="Add a backend")).to_be_disabled()
        dialog = board.change("a")
        dialog.get_by_role("radio", name="Remove").check()
        see(dialog)
        expect(dialog.get_by_role("button", name="Remove a")).to_be_disabled()
        expect(dialog).to_contain_text("The configuration file decides")
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Release").click()
        expect(page.get_by_role("button", name="Begin a release")).to_be_disabled()
        board.clean(but="404")


def restarted(given):
    with dashboard(given) as board:
        page = board.page
        board.open("#/pools/shop")
        expect(board.row("a")).to_contain_text("● up")
        page.evaluate("window.same = true")
        # It would be back at once: its supervisor stands still meanwhile.
        kill(given["supervisor"], signal.SIGSTOP)
        try:
            kill(given["process"], signal.SIGKILL)
            expect(page.locator("#main")).to_contain_text("The admin process does not answer")
            expect(page.locator("header")).to_contain_text("stale")
            expect(page.get_by_role("button", name="Add a backend")).to_be_disabled()
            assert page.title().startswith("(stale)")
        finally:
            kill(given["supervisor"], signal.SIGCONT)
        expect(page.locator("header")).to_contain_text("live")
        expect(page.locator("#main")).not_to_contain_text("The admin process does not answer")
        expect(page.get_by_role("button", name="Add a backend")).to_be_enabled()
        # Also what happens from now on is told as it happens.
        board.api("PATCH", "/v1/pools/shop/backends/b", {"weight": 7})
        page.get_by_role("link", name="Events", exact=True).click()
        told = page.get_by_role("table", name="Events").get_by_role("row").filter(has_text="membership")
        expect(told.filter(has_text="shop / b").first).to_be_visible()
        assert page.evaluate("window.same"), "the page was loaded anew"
        board.clean(but="Failed to load|net::|ERR_")


def many(given):
    with dashboard(given) as board:
        page = board.page
        board.open("#/pools/shop")
        table = page.get_by_role("table", name="Backends")
        expect(table.get_by_role("row")).to_have_count(51)
        expect(page.get_by_role("navigation", name="Pages of backends")).to_contain_text("1 to 50 of 1,000")
        assert page.evaluate("document.querySelectorAll('*').length") < 2_500
        page.get_by_role("button", name="After").click()
        expect(page.get_by_role("navigation", name="Pages of backends")).to_contain_text("51 to 100")
        page.keyboard.press("/")
        expect(page.locator("#filter")).to_be_focused()
        page.keyboard.type("app-0777")
        expect(table.get_by_role("row")).to_have_count(2)
        expect(board.row("app-0777")).to_be_visible()
        page.locator("#filter").fill("")
        page.get_by_role("button", name="Backend", exact=True).click()
        expect(table.get_by_role("row").nth(1)).to_contain_text("app-0999")
        expect(table.get_by_role("columnheader", name="Backend")).to_have_attribute("aria-sort", "descending")
        page.get_by_label("Show").select_option("draining")
        expect(table.get_by_role("row")).to_have_count(2)
        expect(board.row("app-0500")).to_contain_text("draining")
        # What a drawn frame costs while all are polled: nothing that would be felt.
        longest = page.evaluate("""new Promise((done) => {
            let [last, longest, left] = [performance.now(), 0, 180];
            const next = (now) => {
                longest = Math.max(longest, now - last);
                last = now;
                if (left-- > 0) requestAnimationFrame(next); else done(longest);
            };
            requestAnimationFrame(next);
        })""")
        print(f"the longest frame took {longest:.0f} ms")
        board.clean()


def narrow(given):
    with dashboard(given, width=360, height=740, has_touch=True) as board:
        page = board.page
        dialog = page.get_by_role("dialog")
        for where in ("#/", "#/pools/shop", "#/pools/shop/stickiness", "#/pools/shop/release", "#/events", "#/workers"):
            board.open(where)
            expect(page.locator("header")).to_contain_text("live")
            expect(page.get_by_role("heading").first).to_be_visible()
            wide(page, where)
        board.open("#/pools/shop")
        board.change("a")
        wide(page, "the dialog")
        see(dialog)
        wide(page, "the preview")
        board.confirm(dialog, "Drain a")
        wide(page, "a drain")
        board.clean(but="404")


def wide(page, where):
    width = page.evaluate("document.scrollingElement.scrollWidth")
    assert width <= 360, f"{where} is {width} wide"


def keys(given):
    """Drains a backend without a pointer."""
    with dashboard(given) as board:
        page = board.page
        press = page.keyboard.press
        board.open()
        expect(page.get_by_role("rowheader", name="shop")).to_be_visible()
        tab_to(page, "a[href='#/pools/shop']")
        press("Enter")
        expect(page.get_by_role("heading", name="shop")).to_be_focused()
        expect(board.row("b")).to_be_visible()
        press("/")
        page.keyboard.type("b")
        expect(board.row("a")).to_have_count(0)
        tab_to(page, "button[aria-label='Change b']")
        press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("radio", name="Drain")).to_be_visible()
        tab_to(page, "select[name='mode']")
        press("ArrowDown")
        expect(dialog.get_by_label("Mode", exact=True)).to_have_value("retire")
        press("ArrowUp")
        tab_to(page, "input[name='deadline']")
        page.keyboard.type("20m")
        press("Enter")
        expect(dialog.get_by_role("heading", name="Drain b?")).to_be_focused()
        # The focus stays within.
        for _ in range(8):
            press("Tab")
            assert page.evaluate("document.activeElement === document.body || document.querySelector('dialog').contains(document.activeElement)")
        press("Escape")
        expect(dialog).to_have_count(0)
        expect(page.locator("button[aria-label='Change b']")).to_be_focused()
        assert board.backend("b")["admin_state"] == "active"
        press("Enter")
        expect(dialog.get_by_role("radio", name="Drain")).to_be_visible()
        tab_to(page, "input[name='deadline']")
        page.keyboard.type("20m")
        press("Enter")
        expect(dialog.get_by_role("heading", name="Drain b?")).to_be_focused()
        tab_to(page, "#confirm")
        press("Enter")
        expect(dialog.get_by_role("heading", name="Done")).to_be_focused()
        press("Escape")
        expect(dialog).to_have_count(0)
        assert board.backend("b")["admin_state"] == "draining"
        board.clean()


def tab_to(page, selector):
    for _ in range(60):
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
            visible = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert visible != "none", f"{selector} does not show that it has the focus"
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} can't be reached by keys")


def hostile(given):
    """What backends say of themselves is text, whatever it looks like."""
    with dashboard(given) as board:
        page = board.page
        board.open("#/pools/shop")
        expect(board.row("a")).to_contain_text("<img src=x onerror=alert(1)>")
        page.on("dialog", lambda _: board.errors.append("something was run"))
        board.open("#/events")
        expect(page.get_by_role("table", name="Events")).to_contain_text("<img src=x onerror=alert(1)>")
        for name in ("%3Cimg%20src%3Dx%20onerror%3Dalert(3)%3E", "%", "..%2F..%2Fmetrics", "constructor"):
            board.open(f"#/pools/{name}")
            expect(page.get_by_role("main").get_by_role("heading").first).to_be_visible()
            expect(page.locator(".notice.bad")).to_be_visible()
        assert page.locator("img[src=x]").count() == 0
        board.clean(but="404|400|422")


def accessible(given):
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        # axe brings its own script, past the policy.
        with dashboard(given, color_scheme=scheme, bypass_csp=True) as board:
            for where in ("#/", "#/pools/shop", "#/pools/shop/stickiness", "#/pools/shop/release", "#/events", "#/workers"):
                board.open(where)
                expect(board.page.get_by_role("heading").first).to_be_visible()
                expect(board.page.locator("header")).to_contain_text("live")
                judged(Axe, board.page, f"{where} in {scheme}")
            board.open("#/pools/shop")
            dialog = board.change("b")
            judged(Axe, board.page, f"a dialog in {scheme}")
            see(dialog)
            judged(Axe, board.page, f"a preview in {scheme}")


def alone(given):
    """Without a data plane nothing is known, and nothing is made up."""
    with dashboard(given) as board:
        page = board.page
        board.open("#/pools/shop")
        expect(board.row("a").get_by_role("cell").nth(3)).to_have_text(re.compile("[1-6]"))
        kill(given["supervisor"], signal.SIGSTOP)
        try:
            kill(given["process"], signal.SIGKILL)
            expect(page.get_by_role("main")).to_contain_text("No data plane is connected")
            for cell in (3, 4, 5, 6, 7):
                expect(board.row("a").get_by_role("cell").nth(cell)).to_have_text("–")
            page.get_by_role("link", name="Pools").click()
            expect(page.get_by_role("main")).to_contain_text("no data plane is connected")
            page.get_by_role("link", name="Workers").click()
            expect(page.get_by_role("main")).to_contain_text("No data plane is connected: nobody serves")
        finally:
            kill(given["supervisor"], signal.SIGCONT)
        expect(page.get_by_role("table", name="Data planes")).to_contain_text("pid")
        board.clean()


def forwarded(given):
    """Through a Unix socket that something carries to a port of this machine, as ssh does."""
    path = given["admin"].removeprefix("unix:")
    with socket.create_server(("127.0.0.1", 0)) as near:
        threading.Thread(target=carry_all, args=(near, path), daemon=True).start()
        given["admin"] = f"localhost:{near.getsockname()[1]}"
        with dashboard(given) as board:
            board.open("#/pools/shop")
            dialog = board.change("a")
            see(dialog)
            board.confirm(dialog, "Drain a")
            assert board.backend("a")["admin_state"] == "draining"
            board.clean()


def carry_all(near, path):
    while True:
        here, _ = near.accept()
        there = socket.socket(socket.AF_UNIX)
        there.connect(path)
        for pair in ((here, there), (there, here)):
            threading.Thread(target=carry, args=pair, daemon=True).start()


def carry(source, sink):
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()


def pictures(given):
    for _ in range(30):
        threading.Thread(target=visit, args=(given,), daemon=True).start()
    with dashboard(given, width=1180, height=1060, color_scheme="light") as board:
        board.open("#/pools/shop")
        polled(board, 26)
        dialog = board.change("cart-3")
        dialog.get_by_label("Deadline").fill("30m")
        see(dialog)
        board.confirm(dialog, "Drain cart-3")
        polled(board, 14)
        board.page.mouse.move(0, 0)
        board.page.screenshot(path=f"{given['into']}/pool.png")
    with dashboard(given, width=1180, height=850, color_scheme="dark") as board:
        board.open("#/pools/shop")
        expect(board.row("cart-1")).to_be_visible()
        polled(board, 3)
        dialog = board.change("cart-1")
        dialog.get_by_role("radio", name="Maintenance").check()
        see(dialog)
        board.page.screenshot(path=f"{given['into']}/preview.png")
        board.page.keyboard.press("Escape")
        plan = {"steps": [25, 50, 100], "hold": "1h", "login_path": "/login"}
        board.api("PUT", "/v1/pools/shop/release", plan)
        board.open("#/pools/shop/release")
        expect(board.page.get_by_role("main")).to_contain_text("The backends are not stateless", timeout=4 * PATIENCE)
        expect(board.page.get_by_role("main")).to_contain_text("■ stopped", timeout=PATIENCE)
        board.page.set_viewport_size({"width": 1180, "height": 1010})
        polled(board, 2)
        board.page.screenshot(path=f"{given['into']}/release.png")


def polled(board, times):
    for _ in range(times):
        with board.page.expect_response("**/v1/status"):
            pass


def visit(given):
    """Users who log in, look at their cart now and then, and go away."""
    pause = threading.Event()
    while True:
        try:
            with requests.Session() as user:
                user.post(f"http://{given['web']}/login?user=ada", timeout=30)
                for _ in range(random.randrange(5, 60)):
                    user.get(f"http://{given['web']}/cart", timeout=30)
                    pause.wait(random.expovariate(4))
        except requests.RequestException:
            pause.wait(0.2)


def judged(axe, page, where):
    found = axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    told = [f"{each['id']}: {[node['html'][:120] for node in each['nodes'][:3]]}" for each in serious]
    assert told == [], f"{where}: {told}"
    print(f"{where}: {[each['id'] for each in found]}")


case = {name: found for name, found in globals().items() if callable(found)}[sys.argv[1]]
case(json.loads(sys.argv[2]))
