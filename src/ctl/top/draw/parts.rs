use super::{
    super::{
        keys::{Desk, Hand},
        model::{Model, Outcome, Row},
        order::Column,
        words,
    },
    Now, Theme, styled,
};
use crate::ctl::show::cell;
use ratatui::{
    style::Style,
    text::{Line, Span},
};
use serde_json::Value;

pub(super) fn head(model: &Model, theme: Theme) -> Line<'static> {
    let text = if model.view.head.is_empty() { "steadfast" } else { &model.view.head };
    Line::from(styled(text, theme.heading()))
}

pub(super) fn missing(model: &Model, now: Now, theme: Theme) -> Vec<Line<'static>> {
    model.missing(now.at).into_iter().map(|line| Line::from(styled(line, theme.bad()))).collect()
}

pub(super) fn problems(model: &Model, height: usize, theme: Theme) -> Vec<Line<'static>> {
    let all = &model.view.problems;
    let line = |text: String| Line::from(styled(text, theme.bad()));
    let told = |problem: &String| line(format!("! {problem}"));
    if all.len() <= height {
        return all.iter().map(told).collect();
    }
    let shown = height.saturating_sub(1);
    let more = line(format!(
        "! and {} more: see `steadfast ctl status`",
        words::plural((all.len() - shown) as u64, "problem")
    ));
    all.iter().take(shown).map(told).chain([more]).collect()
}

/// A cell: its text, whether it is a figure, and its look.
type Cell = (String, bool, Style);

/// Rows below headings in columns as wide as their widest cell; as many columns as fit, the first always.
fn table(headings: &[Cell], rows: &[Vec<Cell>], order: &[usize], width: usize) -> (Vec<usize>, Vec<usize>) {
    let widest = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).chain(headings.get(at));
        cells.map(|(text, ..)| text.chars().count()).max().unwrap_or(0).min(32)
    };
    let widths: Vec<_> = (0..headings.len()).map(widest).collect();
    let mut left = width.saturating_sub(2);
    let mut shown: Vec<usize> = order
        .iter()
        .copied()
        .take_while(|at| {
            let fits = *at == 0 || widths[*at] < left;
            left = left.saturating_sub(widths[*at] + 2);
            fits
        })
        .collect();
    shown.sort_unstable();
    (shown, widths)
}

fn line(marker: &str, cells: &[Cell], (shown, widths): &(Vec<usize>, Vec<usize>)) -> Line<'static> {
    let mut spans = vec![Span::raw(format!("{marker} "))];
    for at in shown {
        let (Some((text, is_figure, style)), Some(width)) = (cells.get(*at), widths.get(*at)) else { continue };
        let text: String = text.chars().take(*width).collect();
        spans.push(styled(if *is_figure { format!("{text:>width$}") } else { format!("{text:<width$}") }, *style));
        spans.push(Span::raw("  "));
    }
    Line::from(spans)
}

fn count(value: &Value) -> String {
    words::count(value.as_u64())
}

pub(super) fn pools(model: &Model, desk: &Desk, height: usize, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let names = [
        "POOL",
        "UP",
        "DOWN",
        "UNKNOWN",
        "DRAINING",
        "MAINT",
        "SESS",
        "FLIGHT",
        "REQ/S",
        "FAIL/S",
        "UNSERVED/S",
        "P50",
        "P99",
        "LOST",
    ];
    let headings: Vec<Cell> =
        names.iter().enumerate().map(|(at, name)| ((*name).to_owned(), at > 0, theme.heading())).collect();
    let pools = &model.view.pools;
    let room = height.saturating_sub(1).max(1);
    let at = pools.iter().position(|pool| Some(pool.name()) == desk.pool.as_deref()).unwrap_or(0);
    let first = super::first(0, at, room, pools.len());
    let shown = || pools.iter().skip(first).take(room);
    let rows: Vec<_> = shown().map(|pool| pool_cells(pool, theme)).collect();
    // Those without which a night can be spent come last.
    let layout = table(&headings, &rows, &[0, 8, 9, 2, 6, 10, 1, 12, 4, 11, 7, 13, 5, 3], width);
    let mut lines = vec![line(" ", &headings, &layout)];
    for (pool, cells) in shown().zip(&rows) {
        lines.push(line(if Some(pool.name()) == desk.pool.as_deref() { ">" } else { " " }, cells, &layout));
    }
    if pools.is_empty() && !model.view.head.is_empty() {
        lines.push(Line::from(styled("  there is no pool yet", theme.quiet())));
    }
    lines
}

fn pool_cells(pool: &Row, theme: Theme) -> Vec<Cell> {
    let plain = Style::new();
    let some = |value: &Value, style: Style| if value.as_u64() == Some(0) { plain } else { style };
    let rate = |rate: Option<f64>, hurts: bool| {
        let style = if hurts && rate.is_some_and(|rate| rate > 0.0) { theme.bad() } else { plain };
        (words::rate(rate), true, style)
    };
    let value = &pool.value;
    let figure = |key: &str, style: Style| (cell(&value[key]), true, some(&value[key], style));
    let counted = |key: &str| (count(&value[key]), true, plain);
    let latency = |key: &str| (words::millis(value["latency"][key].as_f64()), true, plain);
    vec![
        (cell(&value["name"]), false, plain),
        figure("up", theme.good()),
        figure("down", theme.bad()),
        figure("unknown", theme.warn()),
        figure("draining", theme.warn()),
        figure("maintenance", theme.warn()),
        counted("live_sessions"),
        counted("requests_in_flight"),
        rate(pool.rates.map(|rates| rates.requests), false),
        rate(pool.rates.map(|rates| rates.failed), true),
        rate(pool.rates.map(|rates| rates.unserved), true),
        latency("p50"),
        latency("p99"),
        counted("sessions_lost"),
    ]
}

/// What became of the returning requests of the open pool.
pub(super) fn outcome(model: &Model, theme: Theme) -> Line<'static> {
    let Some((open, outcome)) = model.view.open.as_ref().and_then(|open| Some((open, open.outcome?))) else {
        return Line::default();
    };
    let Outcome { returning, kept, repinned, spilled, lost } = outcome;
    let begin = format!("  {}, last minute: ", open.name);
    if returning == 0 {
        return Line::from(styled(format!("{begin}nobody has returned"), theme.quiet()));
    }
    let hurts = |count: u64, style: Style| if count > 0 { style } else { Style::new() };
    Line::from(vec![
        Span::raw(begin),
        styled(format!("kept {}", words::share(kept, returning)), theme.good()),
        styled(format!(", repinned {}", words::share(repinned, returning)), hurts(repinned, theme.warn())),
        styled(format!(", spilled {}", words::share(spilled, returning)), hurts(spilled, theme.warn())),
        styled(format!(", lost {}", words::share(lost, returning)), hurts(lost, theme.bad())),
        Span::raw(format!(", of {} that returned", words::plural(returning, "request"))),
    ])
}

/// How much of a reason is seen at least, on a screen that has so many columns.
const REASON: usize = 14;
const ROOM_FOR_REASONS: usize = 70;

/// The backends of the open pool, of which those that are seen are drawn.
#[derive(Debug)]
pub(super) struct Backends<'a> {
    pub(super) all: usize,
    pub(super) found: usize,
    pub(super) shown: &'a [&'a Row],
    pub(super) selected: Option<&'a Row>,
}

impl Backends<'_> {
    pub(super) fn lines(&self, model: &Model, desk: &Desk, width: usize, theme: Theme) -> Vec<Line<'static>> {
        let mut lines = vec![self.title(model, desk, theme)];
        let why = Column::ALL.len();
        let mark = |column: Column| {
            let down = desk.reversed != column.begins_with_the_most();
            let mark = if column != desk.by {
                ""
            } else if down {
                " v"
            } else {
                " ^"
            };
            (format!("{}{mark}", column.heading()), is_figure(column), theme.heading())
        };
        let mut headings: Vec<Cell> = Column::ALL.into_iter().map(mark).collect();
        headings.push(("WHY".to_owned(), false, theme.heading()));
        let rows: Vec<Vec<Cell>> = self.shown.iter().map(|row| cells(row, theme)).collect();
        let drains = self.shown.iter().any(|row| row.value["drain_progress"].is_object());
        let order = [0, 1, 2, 6, 7, 8, 4, 5, 3];
        let order: Vec<_> = order.into_iter().filter(|at| *at != 8 || drains || desk.by == Column::Left).collect();
        // A reason may be cut: it has what is left.
        let reasons = self.shown.iter().any(|row| row.value["health_reason"].is_string());
        let reserved = if reasons && width >= ROOM_FOR_REASONS { REASON } else { 0 };
        let mut layout = table(&headings, &rows, &order, width.saturating_sub(reserved));
        let used: usize = layout.0.iter().map(|at| layout.1[*at] + 2).sum();
        let left = width.saturating_sub(used + 2);
        if reasons && left >= 8 {
            layout.0.push(why);
            layout.1[why] = left;
        }
        lines.push(line(" ", &headings, &layout));
        for (row, cells) in self.shown.iter().zip(&rows) {
            let is_selected = self.selected.is_some_and(|selected| selected.name() == row.name());
            let line = line(if is_selected { ">" } else { " " }, cells, &layout);
            lines.push(if is_selected { line.patch_style(theme.selected()) } else { line });
        }
        lines
    }

    fn title(&self, model: &Model, desk: &Desk, theme: Theme) -> Line<'static> {
        let mut spans = Vec::new();
        match &model.view.open {
            Some(open) if Some(open.name.as_str()) == desk.pool.as_deref() && open.backends.is_none() => {
                spans.push(styled(format!("pool {} is not there any more", open.name), theme.warn()));
            }
            Some(open) if Some(open.name.as_str()) == desk.pool.as_deref() => {
                let of = |number: usize| words::count(Some(number as u64));
                let range = match self.shown.len() {
                    0 => String::new(),
                    shown if shown == self.found => String::new(),
                    shown => format!(", {} to {} seen", of(desk.first + 1), of(desk.first + shown)),
                };
                let found = if self.found == self.all {
                    words::plural(self.all as u64, "backend")
                } else {
                    format!("{} of {}", of(self.found), words::plural(self.all as u64, "backend"))
                };
                spans.push(styled(format!("{}: {found}{range}", open.name), theme.heading()));
            }
            _ => spans.push(styled(
                desk.pool.as_ref().map_or(String::new(), |pool| format!("{pool}: asking ...")),
                theme.quiet(),
            )),
        }
        if desk.hand == Hand::Filter || !desk.filter.is_empty() {
            let cursor = if desk.hand == Hand::Filter { "_" } else { "" };
            spans.push(styled(format!("   /{}{cursor}", desk.filter), theme.warn()));
        }
        Line::from(spans)
    }
}

fn is_figure(column: Column) -> bool {
    column.begins_with_the_most()
}

fn cells(row: &Row, theme: Theme) -> Vec<Cell> {
    let value = &row.value;
    let state = if value["admin_state"] == "active" { Style::new() } else { theme.warn() };
    let health = match value["health"].as_str() {
        Some("up") => theme.good(),
        Some("unknown") => theme.warn(),
        _ => theme.bad(),
    };
    let failed = if row.rates.is_some_and(|rates| rates.failed > 0.0) { theme.bad() } else { Style::new() };
    let styles = [(Column::State, state), (Column::Health, health), (Column::Failed, failed)];
    let style =
        |column: Column| styles.iter().find(|(other, _)| *other == column).map_or(Style::new(), |(_, style)| *style);
    let cell_of = |column: Column| (column.text(row), is_figure(column), style(column));
    let why = cell(&value["health_reason"]);
    Column::ALL.into_iter().map(cell_of).chain([(why, false, theme.quiet())]).collect()
}

/// More on the selected backend.
pub(super) fn detail(selected: Option<&Row>, now: Now, theme: Theme) -> Vec<Line<'static>> {
    let Some(row) = selected else { return Vec::new() };
    let value = &row.value;
    let mut parts = vec![format!("{} at {}", row.name(), cell(&value["address"]))];
    for (key, what) in [("resolved", "leads to"), ("instance", "instance"), ("health_reason", "health:")] {
        if value[key].is_string() {
            parts.push(format!("{what} {}", cell(&value[key])));
        }
    }
    parts.push(format!("incarnation {}", cell(&value["incarnation"])));
    parts.push(format!("lost {}", count(&value["sessions_lost"])));
    let mut lines = vec![Line::from(styled(parts.join(", "), theme.quiet()))];
    if value["drain_progress"].is_object() {
        lines.push(Line::from(styled(drain(&value["drain_progress"], now), theme.warn())));
    }
    lines
}

/// As in `drains (persist) for 5m, 12 of 40 sessions left, 95% gone in 6m10s, all in 11m, deadline in 25m`.
fn drain(progress: &Value, now: Now) -> String {
    let mut parts = vec![format!("drains ({})", cell(&progress["mode"]))];
    if let Some(since) = progress["since"].as_u64() {
        parts[0] += &format!(" for {}", words::span(now.unix.saturating_sub(since)));
    }
    match (progress["live_sessions"].as_u64(), progress["sessions_at_start"].as_u64()) {
        _ if progress["empty"] == true => parts.push("nothing is left".to_owned()),
        (Some(live), Some(start)) => {
            parts.push(format!(
                "{} of {} left",
                count(&progress["live_sessions"]),
                words::plural(start.max(live), "session")
            ));
        }
        (Some(live), None) => parts.push(format!("{} left", words::plural(live, "session"))),
        (None, _) => parts.push("sessions not known".to_owned()),
    }
    let estimate = &progress["estimate"];
    if progress["empty"] != true {
        match ["p95", "all"].map(|key| estimate[key].as_f64().map(crate::ctl::progress::rounded)) {
            [Some(most), Some(all)] => parts.push(format!("95% gone in {most}, all in {all}")),
            _ => parts.push("no estimate yet".to_owned()),
        }
    }
    match progress["deadline"].as_u64() {
        Some(deadline) if deadline > now.unix => {
            parts.push(format!("deadline in {}", words::span(deadline - now.unix)))
        }
        Some(_) => parts.push("its deadline has passed".to_owned()),
        None => parts.push("no deadline".to_owned()),
    }
    parts.join(", ")
}

pub(super) fn events(model: &Model, now: Now, height: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(styled("EVENTS", theme.heading()))];
    for (at, text) in model.events.iter().take(height.saturating_sub(1)) {
        lines.push(Line::from(format!("{:>7} ago  {text}", words::span(now.unix.saturating_sub(*at)))));
    }
    lines
}

/// The message, or else what can be pressed.
pub(super) fn foot(desk: &Desk, model: &Model, now: Now, width: usize, theme: Theme) -> Vec<Line<'static>> {
    if let Some(message) = &desk.message {
        let style = if message.bad { theme.bad() } else { theme.good() };
        return wrapped(&message.text, width).into_iter().map(|text| Line::from(styled(text, style))).collect();
    }
    let text = if desk.hand == Hand::Filter {
        "type a part of a name, an address, a state or a health; Enter keeps it, Esc takes it away"
    } else if model.locked(now.at).is_some() {
        "q quit  ? help  / filter  s sort  Tab pool  arrows select  (only to be looked at now)"
    } else {
        "q quit  ? help  d drain  a activate  m maintenance  / filter  s sort  Tab pool"
    };
    vec![Line::from(styled(text, theme.quiet()))]
}

/// In lines of that width, broken at spaces where there are some.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let needed = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && needed > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}
