//! The terminal: taken over, and given back whatever happens.

use super::fetch::News;
use crate::failure::Failure;
use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor, execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
};
use std::{
    io::{self, Stdout},
    panic,
    sync::mpsc::Sender,
    thread,
};

/// Gives the terminal back with its end.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    pub(super) fn open() -> io::Result<Self> {
        let before = panic::take_hook();
        // A panic ends the process at once in a release: nothing else would give the terminal back.
        panic::set_hook(Box::new(move |why| {
            give_back();
            before(why);
        }));
        enable_raw_mode()?;
        let taken = execute!(io::stdout(), EnterAlternateScreen, cursor::Hide);
        taken.and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())).map(Self)).inspect_err(|_| give_back())
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Where the terminal is gone there is nobody to tell.
fn give_back() {
    drop(disable_raw_mode());
    drop(execute!(io::stdout(), LeaveAlternateScreen, cursor::Show));
}

/// Ends by a signal as by a key, so that the terminal is given back.
pub(super) fn end_by_signals(news: &Sender<News>) -> Result<(), Failure> {
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM]).map_err(Failure::doing("can't watch for signals"))?;
    let news = news.clone();
    thread::spawn(move || {
        for signal in signals.forever() {
            if news.send(News::End(Some(signal))).is_err() {
                return;
            }
        }
    });
    Ok(())
}
