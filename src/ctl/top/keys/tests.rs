use super::*;
use crate::ctl::args::Mode;
use control::spec::Span;

const SEEN: Seen<'_> = Seen { pools: &[], rows: &[], locked: None };

/// A desk at which pool `shop` with backends `a`, `b` and `c` is open, and another pool is there.
struct Bench {
    desk: Desk,
    pools: Vec<String>,
    rows: Vec<String>,
    locked: Option<&'static str>,
}

impl Bench {
    fn new() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut bench = Self {
            desk: Desk { page: 2, ..Desk::default() },
            pools: names(&["shop", "api"]),
            rows: names(&["a", "b", "c"]),
            locked: None,
        };
        assert_eq!(bench.desk.settle(&bench.pools), Some(Order::Open("shop".to_owned())));
        bench
    }

    fn key(&mut self, key: impl Into<KeyEvent>) -> Option<Order> {
        let seen = Seen { pools: &self.pools, rows: &self.rows, locked: self.locked };
        self.desk.press(key.into(), seen)
    }

    /// Presses all of them; the last one's order.
    fn keys(&mut self, keys: &[KeyCode]) -> Option<Order> {
        keys.iter().map(|key| self.key(*key)).last().flatten()
    }

    fn text(&mut self, text: &str) {
        text.chars().for_each(|c| assert_eq!(self.key(KeyCode::Char(c)), None));
    }

    fn message(&self) -> &str {
        self.desk.message.as_ref().map_or("", |message| message.text.as_str())
    }
}

fn change(name: &str, verb: Verb) -> Change {
    Change { pool: "shop".to_owned(), name: name.to_owned(), verb }
}

#[test]
fn the_selection_moves_by_rows_and_pages_and_stays_within() {
    let mut bench = Bench::new();
    for (key, wanted) in [
        (KeyCode::Down, "b"),
        (KeyCode::Char('j'), "c"),
        (KeyCode::Down, "c"),
        (KeyCode::Char('k'), "b"),
        (KeyCode::PageUp, "a"),
        (KeyCode::PageDown, "c"),
        (KeyCode::Home, "a"),
        (KeyCode::Char('G'), "c"),
        (KeyCode::Char('g'), "a"),
        (KeyCode::Up, "a"),
    ] {
        assert_eq!(bench.key(key), None);
        assert_eq!(bench.desk.selected.as_deref(), Some(wanted), "{key:?}");
    }
    // Others came before it: it is selected by its name.
    bench.keys(&[KeyCode::Down]);
    bench.rows.insert(0, "0".to_owned());
    bench.keys(&[KeyCode::Down]);
    assert_eq!(bench.desk.selected.as_deref(), Some("c"));
    bench.rows.clear();
    bench.keys(&[KeyCode::Down, KeyCode::PageUp]);
    assert_eq!(bench.desk.selected, None);
}

#[test]
fn tab_goes_round_the_pools() {
    let mut bench = Bench::new();
    for (key, wanted) in [(KeyCode::Tab, "api"), (KeyCode::Tab, "shop"), (KeyCode::BackTab, "api")] {
        assert_eq!(bench.key(key), Some(Order::Open(wanted.to_owned())));
    }
    bench.pools = vec!["shop".to_owned()];
    assert_eq!(bench.desk.settle(&bench.pools), Some(Order::Open("shop".to_owned())), "the open one is gone");
    assert_eq!(bench.key(KeyCode::Tab), None, "there is no other");
    bench.pools.clear();
    assert_eq!((bench.key(KeyCode::Tab), bench.key(KeyCode::BackTab)), (None, None));
}

#[test]
fn a_filter_is_typed_kept_and_taken_away() {
    let mut bench = Bench::new();
    bench.keys(&[KeyCode::Char('/')]);
    // Commands are letters while a text is typed.
    bench.text("dqax");
    bench.keys(&[KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!((bench.desk.filter.as_str(), &bench.desk.hand), ("dqa", &Hand::Browse));
    bench.keys(&[KeyCode::Esc]);
    assert_eq!(bench.desk.filter, "");
    bench.keys(&[KeyCode::Char('/'), KeyCode::Char('x'), KeyCode::Esc]);
    assert_eq!((bench.desk.filter.as_str(), &bench.desk.hand), ("", &Hand::Browse));
    bench.keys(&[KeyCode::Char('/'), KeyCode::Char('x')]);
    bench.key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
    assert_eq!(bench.desk.filter, "");
}

#[test]
fn columns_have_their_turn_and_the_order_turns() {
    let mut bench = Bench::new();
    bench.keys(&[KeyCode::Char('r'), KeyCode::Char('s')]);
    assert_eq!((bench.desk.by, bench.desk.reversed), (Column::State, false));
    bench.keys(&[KeyCode::Char('r')]);
    assert!(bench.desk.reversed);
}

#[test]
fn a_drain_is_filled_in_previewed_and_confirmed() {
    let mut bench = Bench::new();
    bench.keys(&[KeyCode::Down, KeyCode::Char('d'), KeyCode::Right, KeyCode::Tab]);
    bench.text("2x");
    assert_eq!(bench.key(KeyCode::Enter), None);
    let Hand::Form { form, .. } = &bench.desk.hand else { panic!("{:?}", bench.desk.hand) };
    assert!(form.wrong.as_ref().unwrap().contains("`2x` is not a duration"), "{form:?}");
    let drain = change("b", Verb::Drain { mode: Mode::Retire, deadline: Some(Span::from_secs(120)) });
    let order = bench.keys(&[KeyCode::Backspace, KeyCode::Char('m'), KeyCode::Enter]);
    assert_eq!(order, Some(Order::Preview(1, drain.clone())));
    // Nothing is sent before the preview is there.
    assert_eq!(bench.key(KeyCode::Char('y')), None);
    bench.desk.looked(1, Ok(Looked { tags: vec![("n".to_owned(), Some("t".to_owned()))], ..Looked::default() }));
    // Keys that are no answer change nothing, and neither do rows that come and go.
    bench.rows.remove(1);
    assert_eq!(bench.keys(&[KeyCode::Down, KeyCode::Char('x')]), None);
    let tags = vec![("n".to_owned(), Some("t".to_owned()))];
    assert_eq!(bench.key(KeyCode::Char('y')), Some(Order::Commit(2, drain, tags)));
    assert_eq!(bench.keys(&[KeyCode::Char('q'), KeyCode::Esc]), None, "its answer is waited for");
    bench.desk.written(2, Ok("done".to_owned()));
    assert_eq!((bench.message(), &bench.desk.hand), ("done", &Hand::Browse));
    assert_eq!(bench.key(KeyCode::Char('q')), Some(Order::Quit));
}

#[test]
fn anything_but_yes_changes_nothing() {
    for answer in [KeyCode::Char('n'), KeyCode::Esc, KeyCode::Enter] {
        let mut bench = Bench::new();
        assert_eq!(bench.key(KeyCode::Char('m')), Some(Order::Preview(1, change("a", Verb::Maintenance))));
        bench.desk.looked(1, Ok(Looked::default()));
        assert_eq!(bench.key(answer), None);
        assert_eq!((bench.message(), &bench.desk.hand), ("nothing was changed", &Hand::Browse));
        assert_eq!(bench.key(KeyCode::Char('y')), None);
    }
    let mut bench = Bench::new();
    bench.keys(&[KeyCode::Char('d'), KeyCode::Esc]);
    assert_eq!(bench.desk.hand, Hand::Browse);
}

#[test]
fn late_answers_are_known_for_such() {
    let mut bench = Bench::new();
    bench.keys(&[KeyCode::Char('a'), KeyCode::Esc]);
    bench.desk.looked(1, Ok(Looked::default()));
    assert_eq!(bench.desk.hand, Hand::Browse, "it was left");
    assert_eq!(bench.key(KeyCode::Char('m')), Some(Order::Preview(2, change("a", Verb::Maintenance))));
    bench.desk.looked(1, Ok(Looked::default()));
    assert!(matches!(bench.desk.hand, Hand::Asking(_)), "that was the answer to another question");
    bench.desk.looked(2, Err("refused".to_owned()));
    assert_eq!((bench.message(), &bench.desk.hand), ("refused", &Hand::Browse));
}

#[test]
fn nothing_is_begun_or_sent_where_nothing_can_be_changed() {
    let mut bench = Bench::new();
    bench.locked = Some("the file decides");
    for key in ['d', 'a', 'm'] {
        assert_eq!(bench.key(KeyCode::Char(key)), None);
        assert_eq!((bench.message(), &bench.desk.hand), ("the file decides", &Hand::Browse));
    }
    bench.locked = None;
    bench.keys(&[KeyCode::Char('m')]);
    bench.desk.looked(1, Ok(Looked::default()));
    bench.locked = Some("nobody answers");
    assert_eq!((bench.key(KeyCode::Char('y')), bench.message()), (None, "nobody answers"));
    let mut bench = Bench::new();
    bench.rows.clear();
    assert_eq!((bench.key(KeyCode::Char('d')), bench.message()), (None, "there is no backend to act on"));
}

#[test]
fn control_c_ends_it_whatever_is_under_hand() {
    let end = || KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for before in [&[][..], &[KeyCode::Char('/')], &[KeyCode::Char('d')], &[KeyCode::Char('m')], &[KeyCode::Char('?')]]
    {
        let mut bench = Bench::new();
        bench.keys(before);
        assert_eq!(bench.key(end()), Some(Order::Quit), "{before:?}");
    }
    assert_eq!(Desk::default().press(end(), SEEN), Some(Order::Quit));
    let mut bench = Bench::new();
    assert_eq!((bench.keys(&[KeyCode::Char('?'), KeyCode::Char('q')]), &bench.desk.hand), (None, &Hand::Browse));
}
