//! What keys do: a state machine without a terminal.

#![expect(clippy::wildcard_enum_match_arm, reason = "most keys do nothing")]

use super::{
    change::{Change, Form, Looked, Verb},
    order::Column,
};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What the person at the keys has under hand.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// The pool that is open.
    pub(super) pool: Option<String>,
    /// The backend on which the next command acts.
    pub(super) selected: Option<String>,
    pub(super) filter: String,
    pub(super) by: Column,
    pub(super) reversed: bool,
    pub(super) hand: Hand,
    pub(super) message: Option<Message>,
    /// How many backends can be seen at once, and which of them is the first.
    pub(super) page: usize,
    pub(super) first: usize,
    /// Questions are numbered, so that a late answer is known for one.
    pub(super) asked: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Hand {
    #[default]
    Browse,
    Filter,
    Help,
    Form {
        pool: String,
        name: String,
        form: Form,
    },
    /// Its preview is on its way.
    Asking(Change),
    Confirm(Change, Looked),
    Sending(Change),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) bad: bool,
}

/// What is seen while a key is pressed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) pools: &'a [String],
    /// The backends in the order in which they stand there.
    pub(super) rows: &'a [String],
    /// Why nothing can be changed now.
    pub(super) locked: Option<&'a str>,
}

/// What is to be done about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Quit,
    /// Another pool is open.
    Open(String),
    Preview(u64, Change),
    Commit(u64, Change, Vec<(String, Option<String>)>),
}

impl Desk {
    pub(super) fn press(&mut self, key: KeyEvent, seen: Seen<'_>) -> Option<Order> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Order::Quit);
        }
        match std::mem::take(&mut self.hand) {
            Hand::Browse => {
                self.message = None;
                self.browse(key, seen)
            }
            Hand::Filter => {
                self.hand = self.type_filter(key);
                None
            }
            Hand::Help => None,
            Hand::Form { pool, name, form } => self.fill(key, (pool, name), form),
            Hand::Asking(change) => {
                self.hand = if key.code == KeyCode::Esc { self.leave() } else { Hand::Asking(change) };
                None
            }
            Hand::Confirm(change, looked) => self.decide(key, change, looked, seen),
            // What has been sent can't be taken back: its answer is waited for.
            Hand::Sending(change) => {
                self.hand = Hand::Sending(change);
                None
            }
        }
    }

    fn browse(&mut self, key: KeyEvent, seen: Seen<'_>) -> Option<Order> {
        let page = isize::try_from(self.page.max(1)).unwrap_or(1);
        match key.code {
            KeyCode::Char('q') => return Some(Order::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1, seen.rows),
            KeyCode::Down | KeyCode::Char('j') => self.step(1, seen.rows),
            KeyCode::PageUp => self.step(-page, seen.rows),
            KeyCode::PageDown => self.step(page, seen.rows),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN, seen.rows),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX, seen.rows),
            KeyCode::Tab | KeyCode::Right => return self.turn(1, seen.pools),
            KeyCode::BackTab | KeyCode::Left => return self.turn(seen.pools.len().saturating_sub(1), seen.pools),
            KeyCode::Char('/') => self.hand = Hand::Filter,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('s') => (self.by, self.reversed) = (self.by.next(), false),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('?' | 'h') => self.hand = Hand::Help,
            KeyCode::Char('d') => return self.begin(None, seen),
            KeyCode::Char('a') => return self.begin(Some(Verb::Activate), seen),
            KeyCode::Char('m') => return self.begin(Some(Verb::Maintenance), seen),
            _ => {}
        }
        None
    }

    /// Moves the selection by so many rows.
    fn step(&mut self, by: isize, rows: &[String]) {
        let at = self.at(rows);
        let last = rows.len().saturating_sub(1);
        self.selected = rows.get(at.saturating_add_signed(by).min(last)).cloned();
    }

    /// Which row is selected; the first where what was selected is not there.
    pub(super) fn at(&self, rows: &[impl AsRef<str>]) -> usize {
        let selected = self.selected.as_deref();
        rows.iter().position(|name| Some(name.as_ref()) == selected).unwrap_or(0)
    }

    fn turn(&mut self, by: usize, pools: &[String]) -> Option<Order> {
        let at = pools.iter().position(|name| Some(name) == self.pool.as_ref()).unwrap_or(0);
        let pool = pools.get((at + by) % pools.len().max(1))?;
        self.open(pool)
    }

    pub(super) fn open(&mut self, pool: &str) -> Option<Order> {
        if self.pool.as_deref() == Some(pool) {
            return None;
        }
        (self.pool, self.selected, self.first) = (Some(pool.to_owned()), None, 0);
        Some(Order::Open(pool.to_owned()))
    }

    /// Opens the first pool where none is open, or no longer there.
    pub(super) fn settle(&mut self, pools: &[String]) -> Option<Order> {
        let gone = match &self.pool {
            Some(pool) if pools.contains(pool) => return None,
            open => open.clone(),
        };
        let first = pools.first()?;
        if let Some(gone) = gone {
            self.say(&format!("there is no pool {gone}"), true);
        }
        self.open(first)
    }

    /// Without a verb a drain, which has more to be asked.
    fn begin(&mut self, verb: Option<Verb>, seen: Seen<'_>) -> Option<Order> {
        if let Some(locked) = seen.locked {
            self.say(locked, true);
            return None;
        }
        let (Some(pool), Some(name)) = (self.pool.clone(), seen.rows.get(self.at(seen.rows)).cloned()) else {
            self.say("there is no backend to act on", true);
            return None;
        };
        // What is selected by being the first must not change under the hand.
        self.selected = Some(name.clone());
        match verb {
            None => {
                self.hand = Hand::Form { pool, name, form: Form::default() };
                None
            }
            Some(verb) => Some(self.ask(Change { pool, name, verb })),
        }
    }

    fn ask(&mut self, change: Change) -> Order {
        self.asked += 1;
        self.hand = Hand::Asking(change.clone());
        Order::Preview(self.asked, change)
    }

    fn type_filter(&mut self, key: KeyEvent) -> Hand {
        match key.code {
            KeyCode::Enter => return Hand::Browse,
            KeyCode::Esc => {
                self.filter.clear();
                return Hand::Browse;
            }
            _ => typed(&mut self.filter, key),
        }
        Hand::Filter
    }

    fn fill(&mut self, key: KeyEvent, (pool, name): (String, String), mut form: Form) -> Option<Order> {
        match key.code {
            KeyCode::Esc => {
                self.hand = self.leave();
                return None;
            }
            KeyCode::Enter => match form.verb() {
                Ok(verb) => return Some(self.ask(Change { pool, name, verb })),
                Err(wrong) => form.wrong = Some(wrong),
            },
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Up | KeyCode::Down => form.at_deadline = !form.at_deadline,
            KeyCode::Left if !form.at_deadline => form.turn(false),
            KeyCode::Right | KeyCode::Char(' ') if !form.at_deadline => form.turn(true),
            _ if form.at_deadline => {
                form.wrong = None;
                typed(&mut form.deadline, key);
            }
            _ => {}
        }
        self.hand = Hand::Form { pool, name, form };
        None
    }

    fn decide(&mut self, key: KeyEvent, change: Change, looked: Looked, seen: Seen<'_>) -> Option<Order> {
        match (key.code, seen.locked) {
            (KeyCode::Char('y' | 'Y'), None) => {
                self.asked += 1;
                self.hand = Hand::Sending(change.clone());
                return Some(Order::Commit(self.asked, change, looked.tags));
            }
            (KeyCode::Char('y' | 'Y'), Some(locked)) => self.say(locked, true),
            (KeyCode::Char('n' | 'N') | KeyCode::Esc | KeyCode::Enter, _) => self.hand = self.leave(),
            // Anything else was not meant for this question.
            _ => self.hand = Hand::Confirm(change, looked),
        }
        None
    }

    fn leave(&mut self) -> Hand {
        self.say("nothing was changed", false);
        Hand::Browse
    }

    fn say(&mut self, text: &str, bad: bool) {
        self.message = Some(Message { text: text.to_owned(), bad });
    }

    /// A preview has come, or why there is none.
    pub(super) fn looked(&mut self, number: u64, looked: Result<Looked, String>) {
        if number != self.asked {
            return;
        }
        if let Hand::Asking(change) = &self.hand {
            let change = change.clone();
            self.hand = Hand::Browse;
            match looked {
                Ok(looked) => self.hand = Hand::Confirm(change, looked),
                Err(problem) => self.say(&problem, true),
            }
        }
    }

    /// A change has been made, or not.
    pub(super) fn written(&mut self, number: u64, written: Result<String, String>) {
        if number == self.asked && matches!(self.hand, Hand::Sending(_)) {
            self.hand = Hand::Browse;
        }
        match written {
            Ok(text) => self.say(&text, false),
            Err(problem) => self.say(&problem, true),
        }
    }
}

fn typed(text: &mut String, key: KeyEvent) {
    match key.code {
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
        KeyCode::Char(c) if !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => text.push(c),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
