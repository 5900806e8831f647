use super::{
    super::{
        change::{Change, Form, Looked, Verb},
        keys::Message,
        model::{Open, Told},
    },
    *,
};
use ratatui::{Terminal, backend::TestBackend};
use serde_json::{Value, json};

const NOW: Now = Now { at: 2_000, unix: 1_000_000 };

/// A pool `shop` with so many backends, of which the second drains and the third is down, and another pool.
fn model(backends: usize) -> Model {
    let mut model = Model::new(vec!["a:1".to_owned()], 4_500);
    for at in [0, 2_000_u64] {
        model.answered(0, at, told(backends, at));
    }
    let event = json!({"at": 995_000, "pool": "shop", "backend": "app-2", "health": "down"});
    model.happened(0, "health", &event.to_string());
    model
}

fn told(backends: usize, at: u64) -> Told {
    let pool = |name: &str| {
        json!({"name": name, "backends": 3, "up": 2, "down": 1, "unknown": 0, "draining": 1, "maintenance": 0,
            "live_sessions": 1_234, "requests_in_flight": 7, "requests": 100 + at / 100, "responses_5xx": at / 1_000, "errors": 0,
            "unserved": 0, "sessions_lost": 2, "tunnels": 0, "latency": {"p50": 3.25, "p99": 48.0}})
    };
    let all: Vec<_> = (0..backends).map(|number| backend(number, at)).collect();
    let window = json!({"returning": {"requests": 200, "pinned": 198}, "left": {"repinned_down": 2}});
    let open = Open {
        name: "shop".to_owned(),
        pool: Some(json!({"name": "shop", "backends": all})),
        stickiness: Some(json!({"windows": [window]})),
    };
    let status = json!({"version": "0.1.0", "uptime_seconds": 65, "generation": 4, "source": "api",
        "problems": ["the certificate for shop.example expires in 3 days"],
        "dataplanes": [{"pid": 7, "workers": 2, "applied_generation": 4, "report_age": 10}],
        "pools": [pool("shop"), pool("api")]});
    Told { status, open: Some(open) }
}

fn backend(number: usize, at: u64) -> Value {
    let mut backend = json!({"name": format!("app-{number}"), "address": format!("10.0.0.{number}:80"), "weight": 1,
        "admin_state": "active", "health": "up", "live_sessions": 10 + number, "requests_in_flight": 1, "tunnels": 0,
        "requests": at / 1_000 * 3, "errors": 0, "counts": {"responses_5xx": 0}, "sessions_lost": 0, "incarnation": 1,
        "drain_progress": null});
    if number == 1 {
        backend["admin_state"] = json!("draining");
        backend["drain_progress"] = json!({"mode": "persist", "since": 940_000, "deadline": 1_600_000, "live_sessions": 11,
            "sessions_at_start": 20, "share_done": 0.45, "empty": false, "lost_if_stopped_now": 11,
            "estimate": {"p95": 60.0, "all": 125.0}});
    }
    if number == 2 {
        backend["health"] = json!("down");
        backend["health_reason"] = json!("connection refused\u{1b}[2J");
    }
    backend
}

fn desk() -> Desk {
    Desk { pool: Some("shop".to_owned()), ..Desk::default() }
}

/// The lines of the screen, and whether any cell has a colour.
fn screen(model: &Model, desk: &mut Desk, (width, height): (u16, u16), now: Now, colour: bool) -> (Vec<String>, bool) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, desk, now, Theme { colour })).unwrap();
    let buffer = terminal.backend().buffer();
    let coloured = buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    ((0..height).map(line).collect(), coloured)
}

fn lines(model: &Model, desk: &mut Desk, size: (u16, u16)) -> Vec<String> {
    screen(model, desk, size, NOW, true).0
}

#[track_caller]
fn has(lines: &[String], text: &str) {
    assert!(lines.iter().any(|line| line.contains(text)), "no {text:?} in\n{}", lines.join("\n"));
}

/// The words of the line that has this one.
#[track_caller]
fn words<'a>(lines: &'a [String], word: &str) -> Vec<&'a str> {
    let found =
        lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| words.contains(&word));
    found.unwrap_or_else(|| panic!("no {word:?} in\n{}", lines.join("\n")))
}

#[test]
fn a_screen_of_80_by_24_has_all_that_is_asked_for_at_night() {
    let lines = lines(&model(3), &mut desk(), (80, 24));
    assert!(lines[0].starts_with("steadfast 0.1.0, up 1m5s, generation 4, applied by 2 workers"), "{}", lines[0]);
    has(&lines, "! the certificate for shop.example expires in 3 days");
    has(&lines, "! 1 of 3 backends of pool shop is down");
    let shop = words(&lines, "1,234");
    assert_eq!(shop[..2], [">", "shop"]);
    assert!(shop.contains(&"10.0") && shop.contains(&"1.0") && shop.contains(&"48"), "{shop:?}");
    has(&lines, "shop, last minute: kept 99.0 %, repinned 1.0 %, spilled 0 %, lost 0 %, of 200");
    has(&lines, "shop: 3 backends");
    assert_eq!(words(&lines, "app-0")[..4], [">", "app-0", "active", "up"]);
    let drains = words(&lines, "app-1");
    assert!(drains.starts_with(&["app-1", "draining", "45%", "up"]) && drains.contains(&"2m5s"), "{drains:?}");
    has(&lines, "connection");
    has(&lines, "5s ago  health backend=app-2 health=down pool=shop");
    has(&lines, "q quit");
}

#[test]
fn the_selected_backend_is_told_in_full() {
    let mut desk = Desk { selected: Some("app-1".to_owned()), ..desk() };
    let lines = lines(&model(3), &mut desk, (160, 30));
    has(&lines, "app-1 at 10.0.0.1:80, incarnation 1, lost 0");
    has(&lines, "drains (persist) for 1m, 11 of 20 sessions left, 95% gone in 1m, all in 2m5s, deadline in 10m");
    assert!(words(&lines, "app-1").starts_with(&[">", "app-1"]));
}

#[test]
fn every_size_is_drawn_without_a_panic() {
    let hands = [
        Hand::Browse,
        Hand::Filter,
        Hand::Help,
        Hand::Form {
            pool: "shop".to_owned(),
            name: "app-0".to_owned(),
            form: Form { wrong: Some("no".repeat(90)), ..Form::default() },
        },
        Hand::Asking(change()),
        Hand::Confirm(change(), Looked { lines: vec!["x y ".repeat(90)], harms: true, tags: Vec::new() }),
        Hand::Sending(change()),
    ];
    let models = [Model::new(vec!["a:1".to_owned()], 4_500), model(0), model(50)];
    for (width, height) in (0..26).flat_map(|n| [(n * 7, n), (n, n * 3), (200, n)]) {
        for model in &models {
            for hand in &hands {
                let mut desk = Desk { hand: hand.clone(), ..desk() };
                screen(model, &mut desk, (width, height), NOW, true);
            }
        }
    }
}

fn change() -> Change {
    Change { pool: "shop".to_owned(), name: "app-0".to_owned(), verb: Verb::Maintenance }
}

#[test]
fn a_small_screen_keeps_the_backends_and_one_line_of_all_else() {
    let lines = lines(&model(50), &mut desk(), (40, 10));
    assert!(lines[0].starts_with("steadfast 0.1.0"), "{lines:#?}");
    has(&lines, "! and 3 problems more");
    assert_eq!(words(&lines, "app-0")[..4], [">", "app-0", "active", "up"], "{lines:#?}");
    has(&lines, "app-2");
    assert_eq!(screen(&model(50), &mut desk(), (1, 1), NOW, true).0.len(), 1);
}

#[test]
fn of_a_thousand_backends_those_are_drawn_that_are_seen() {
    let model = model(1_000);
    let mut desk = Desk { selected: Some("app-500".to_owned()), ..desk() };
    let first = lines(&model, &mut desk, (100, 30));
    has(&first, "shop: 1,000 backends, ");
    assert!(words(&first, "app-500").starts_with(&[">", "app-500"]));
    let page = desk.page;
    let drawn = |lines: &[String]| {
        lines.iter().filter(|line| line.trim_start_matches('>').trim_start().starts_with("app-")).count()
    };
    // The selected one is told in a line of its own as well.
    assert_eq!(drawn(&first), page + 1, "{first:#?}");
    desk.selected = Some("app-999".to_owned());
    let last = lines(&model, &mut desk, (100, 30));
    assert_eq!((drawn(&last), desk.first), (page + 1, 1_000 - page), "{last:#?}");
    "app-99".clone_into(&mut desk.filter);
    let filtered = lines(&model, &mut desk, (100, 30));
    has(&filtered, "shop: 11 of 1,000 backends   /app-99");
}

#[test]
fn states_are_told_without_colours_too_and_hostile_text_is_text() {
    let (plain, coloured) = screen(&model(3), &mut desk(), (100, 24), NOW, false);
    assert!(!coloured, "NO_COLOR is respected");
    assert!(screen(&model(3), &mut desk(), (100, 24), NOW, true).1);
    assert!(words(&plain, "app-2").starts_with(&["app-2", "active", "down"]));
    assert!(!plain.iter().any(|line| line.contains('\u{1b}')), "{plain:#?}");
}

#[test]
fn who_does_not_answer_is_told_and_messages_stand_at_the_foot() {
    let late = Now { at: 60_000, ..NOW };
    let (lines, _) = screen(&model(3), &mut desk(), (80, 24), late, true);
    has(&lines, "no answer since 58s: it keeps silent");
    has(&lines, "app-0");
    let text = format!("refused with 412: {}", "it is not what you saw ".repeat(6));
    let mut desk = Desk { message: Some(Message { text, bad: true }), ..desk() };
    let (lines, _) = screen(&model(3), &mut desk, (80, 24), NOW, true);
    has(&lines[21..], "refused with 412");
    assert!(lines[23].contains("it is not what you saw"), "{lines:#?}");
}

#[test]
fn a_question_is_asked_with_what_it_would_do() {
    let looked = Looked {
        lines: vec!["moves 4 sessions; loses the state of 1 session".to_owned()],
        harms: true,
        tags: Vec::new(),
    };
    let mut desk = Desk { hand: Hand::Confirm(change(), looked), ..desk() };
    let shown = lines(&model(3), &mut desk, (80, 24));
    has(&shown, "moves 4 sessions; loses the state of 1 session");
    has(&shown, "Put app-0 into maintenance? y/N");
    // The question is what is left where there is hardly any room.
    has(&lines(&model(3), &mut desk, (60, 3)), "Put app-0 into maintenance? y/N");
    desk.hand = Hand::Form { pool: "shop".to_owned(), name: "app-0".to_owned(), form: Form::default() };
    let shown = lines(&model(3), &mut desk, (80, 24));
    has(&shown, "> mode      < persist >");
    has(&shown, "deadline  none");
    desk.hand = Hand::Help;
    has(&lines(&model(3), &mut desk, (80, 24)), "maintenance: nothing at all");
}

#[test]
fn what_is_less_urgent_gives_way() {
    let wanted =
        Heights { head: 1, missing: 1, problems: 4, pools: 9, outcome: 1, backends: 0, detail: 2, events: 4, foot: 1 };
    let fit = |height, rows| Heights::fit(height, wanted, rows);
    let sum = |heights: Heights| {
        let Heights { head, missing, problems, pools, outcome, backends, detail, events, foot } = heights;
        head + missing + problems + pools + outcome + backends + detail + events + foot
    };
    assert_eq!(fit(60, 10), Heights { backends: 37, ..wanted });
    for height in 2..60 {
        for rows in [0, 1, 100] {
            let heights = fit(height, rows);
            assert_eq!(sum(heights), height, "{height} {rows}");
            assert!(height < 6 || heights.backends >= 3, "{height} {rows} {heights:?}");
        }
    }
    let small = fit(10, 100);
    assert_eq!((small.events, small.detail, small.problems, small.pools), (0, 0, 1, 0));
}

#[test]
fn the_window_follows_the_selection_and_leaves_no_room_empty() {
    for (before, at, page, rows, wanted) in [
        (0, 0, 5, 3, 0),
        (0, 4, 5, 10, 0),
        (0, 5, 5, 10, 1),
        (4, 2, 5, 10, 2),
        (9, 9, 5, 10, 5),
        (7, 0, 5, 0, 0),
        (3, 3, 1, 4, 3),
    ] {
        assert_eq!(first(before, at, page, rows), wanted, "{before} {at} {page} {rows}");
    }
}
