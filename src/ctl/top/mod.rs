//! `ctl top`: pools, backends, rates, sessions and drains, live on a terminal.

mod change;
mod draw;
mod fetch;
mod keys;
mod model;
mod order;
mod rates;
mod screen;
mod words;

use super::{args::Top, nodes::Nodes};
use crate::failure::Failure;
use draw::{Now, Theme};
use fetch::{Ask, News};
use keys::{Desk, Order, Seen};
use model::Model;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use screen::Screen;
use std::{
    env,
    io::{self, IsTerminal},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Ages are told in seconds.
const TICK: Duration = Duration::from_secs(1);

pub(super) fn run(nodes: &Nodes, wanted: &Top) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::general(
            "top draws on a terminal, and standard input or output is none: take `ctl status`, `ctl backends POOL` or \
             `ctl --json status`",
        ));
    }
    let (news, arrived) = channel();
    screen::end_by_signals(&news)?;
    let interval = wanted.interval.to_std();
    let asks = fetch::follow(nodes, interval, &news);
    // Two looks that failed to come, and what one may take.
    let stale_after = u64::try_from(interval.as_millis() * 2).unwrap_or(u64::MAX).saturating_add(2_500);
    let mut top = Running {
        nodes,
        began: Instant::now(),
        model: Model::new(nodes.names(), stale_after),
        desk: Desk::default(),
        asks,
        news,
        theme: Theme { colour: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) },
    };
    if let Some(pool) = &wanted.pool {
        let order = top.desk.open(pool);
        top.obey(order);
    }
    let mut screen = Screen::open().map_err(Failure::doing("can't draw on this terminal"))?;
    let telling = top.news.clone();
    thread::spawn(move || read_keys(&telling));
    let end = top.draw_until_the_end(&mut screen, &arrived);
    drop(screen);
    match end? {
        End::Asked => Ok(()),
        End::Signal(signal) => {
            // Whoever sent it sees that it was obeyed.
            signal_hook::low_level::emulate_default_handler(signal).map_err(Failure::doing("can't end by the signal"))
        }
        End::Gone => Err(Failure::general("the terminal is gone")),
    }
}

/// Ends with the terminal, or with whoever reads.
fn read_keys(news: &Sender<News>) {
    loop {
        let told = match event::read() {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => News::Key(key),
            Ok(_) => News::Resized,
            Err(_) => News::End(None),
        };
        let ends = matches!(told, News::End(_));
        if news.send(told).is_err() || ends {
            return;
        }
    }
}

struct Running<'a> {
    nodes: &'a Nodes,
    began: Instant,
    model: Model,
    desk: Desk,
    /// To the thread of each node.
    asks: Vec<Sender<Ask>>,
    news: Sender<News>,
    theme: Theme,
}

/// How it ends.
enum End {
    Asked,
    Signal(i32),
    /// There is no terminal any more.
    Gone,
}

impl Running<'_> {
    fn draw_until_the_end(&mut self, screen: &mut Screen, arrived: &Receiver<News>) -> Result<End, Failure> {
        loop {
            let now = self.now();
            let (model, desk, theme) = (&self.model, &mut self.desk, self.theme);
            screen
                .draw(|frame| draw::draw(frame, model, desk, now, theme))
                .map_err(Failure::doing("can't draw on this terminal"))?;
            let first = arrived.recv_timeout(TICK).ok();
            // All that has come is drawn at once.
            let end = first.into_iter().chain(arrived.try_iter()).find_map(|news| self.take(news));
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Now { at: millis(self.began.elapsed()), unix: millis(unix) }
    }

    fn take(&mut self, news: News) -> Option<End> {
        let now = self.now().at;
        match news {
            News::Key(key) => {
                let (pools, rows, locked) = (self.pools(), self.rows(), self.model.locked(now));
                let seen = Seen { pools: &pools, rows: &rows, locked: locked.as_deref() };
                let order = self.desk.press(key, seen);
                return self.obey(order);
            }
            News::Resized => {}
            News::End(None) => return Some(End::Gone),
            News::End(Some(signal)) => return Some(End::Signal(signal)),
            News::Told(node, Ok(told)) => {
                self.model.answered(node, now, told);
                let order = self.desk.settle(&self.pools());
                return self.obey(order);
            }
            News::Told(node, Err(problem)) => self.model.failed(node, now, problem),
            News::Happened(node, event) => self.model.happened(node, &event.kind, &event.data),
            News::Looked(number, looked) => self.desk.looked(number, looked),
            News::Written(number, written) => {
                self.desk.written(number, written);
                self.ask(&Ask::Now);
            }
        }
        None
    }

    fn obey(&mut self, order: Option<Order>) -> Option<End> {
        match order? {
            Order::Quit => return Some(End::Asked),
            Order::Open(pool) => self.ask(&Ask::Of(pool)),
            Order::Preview(number, change) => fetch::preview(self.nodes.clone(), number, change, self.news.clone()),
            Order::Commit(number, change, tags) => {
                fetch::commit(self.nodes.clone(), number, change, tags, self.news.clone());
            }
        }
        None
    }

    fn ask(&self, ask: &Ask) {
        // A thread ends only with this one.
        self.asks.iter().for_each(|node| drop(node.send(ask.clone())));
    }

    fn pools(&self) -> Vec<String> {
        self.model.view.pools.iter().map(|pool| pool.name().to_owned()).collect()
    }

    /// The backends as they stand on the screen.
    fn rows(&self) -> Vec<String> {
        let Desk { pool, filter, by, reversed, .. } = &self.desk;
        let open = self.model.view.open.as_ref().filter(|open| Some(&open.name) == pool.as_ref());
        let rows = open.and_then(|open| open.backends.as_deref()).unwrap_or_default();
        order::chosen(rows, filter, *by, *reversed).iter().map(|row| row.name().to_owned()).collect()
    }
}
