//! The screen, from what is known and what is under hand. States are told in words, and colours only repeat them.

mod dialog;
mod parts;

use super::{
    keys::{Desk, Hand},
    model::{Model, Row},
    order::chosen,
    rates::Millis,
};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

/// The time by both clocks, in milliseconds: since the start, and Unix time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) at: Millis,
    pub(super) unix: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    /// False where `NO_COLOR` says so.
    pub(super) colour: bool,
}

impl Theme {
    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn warn(self) -> Style {
        self.coloured(Color::Yellow)
    }

    fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    fn heading(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// How many lines each part has, from above; what is left is the backends'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Heights {
    head: usize,
    missing: usize,
    problems: usize,
    /// With their heading.
    pools: usize,
    outcome: usize,
    /// With their title and heading.
    backends: usize,
    detail: usize,
    events: usize,
    foot: usize,
}

type Part = fn(&mut Heights) -> &mut usize;

impl Heights {
    /// `wanted` but for the backends, who get what is left; the less urgent gives way until they have some lines.
    fn fit(height: usize, wanted: Self, rows: usize) -> Self {
        let mut fit = wanted;
        let sum = |fit: &Self| {
            fit.head + fit.missing + fit.problems + fit.pools + fit.outcome + fit.detail + fit.events + fit.foot
        };
        let enough = 2 + rows.clamp(1, (height / 3).max(3));
        // In the order in which they give way, each down to so many lines.
        let steps: [(Part, usize); 12] = [
            (|fit| &mut fit.events, 1),
            (|fit| &mut fit.pools, 4),
            (|fit| &mut fit.detail, 1),
            (|fit| &mut fit.problems, 1),
            (|fit| &mut fit.events, 0),
            (|fit| &mut fit.foot, 1),
            (|fit| &mut fit.detail, 0),
            (|fit| &mut fit.pools, 2),
            (|fit| &mut fit.outcome, 0),
            (|fit| &mut fit.pools, 0),
            (|fit| &mut fit.problems, 0),
            (|fit| &mut fit.head, 0),
        ];
        for (part, least) in steps {
            let over = (sum(&fit) + enough).saturating_sub(height);
            let part = part(&mut fit);
            *part = part.saturating_sub(over).max((*part).min(least));
        }
        // A heading alone says nothing.
        for part in [&mut fit.pools, &mut fit.events] {
            *part = if *part == 1 { 0 } else { *part };
        }
        fit.backends = height.saturating_sub(sum(&fit));
        fit
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, desk: &mut Desk, now: Now, theme: Theme) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let open = model.view.open.as_ref().filter(|open| Some(&open.name) == desk.pool.as_ref());
    let all = open.and_then(|open| open.backends.as_deref()).unwrap_or_default();
    let rows = chosen(all, &desk.filter, desk.by, desk.reversed);
    let names: Vec<_> = rows.iter().map(|row| row.name()).collect();
    let at = desk.at(&names);
    let (missing, foot) = (parts::missing(model, now, theme), parts::foot(desk, model, now, width, theme));
    let wanted = Heights {
        head: 1,
        missing: missing.len().min(3),
        problems: model.view.problems.len().min((height / 5).clamp(2, 10)),
        pools: 1 + model.view.pools.len().clamp(1, 8),
        outcome: 1,
        backends: 0,
        detail: 2,
        events: if height < 20 { 0 } else { 4 },
        foot: foot.len().min(4),
    };
    let heights = Heights::fit(height, wanted, rows.len());
    desk.page = heights.backends.saturating_sub(2).max(1);
    desk.first = first(desk.first, at, desk.page, rows.len());

    let stale = model.is_stale(now.at);
    let selected: Option<&Row> = rows.get(at).copied();
    let shown = rows.iter().skip(desk.first).take(desk.page).copied().collect::<Vec<_>>();
    let mut lines = Vec::new();
    push(&mut lines, heights.head, vec![parts::head(model, theme)]);
    push(&mut lines, heights.missing, missing);
    push(&mut lines, heights.problems, parts::problems(model, heights.problems, theme));
    push(&mut lines, heights.pools, parts::pools(model, desk, heights.pools, width, theme));
    push(&mut lines, heights.outcome, vec![parts::outcome(model, theme)]);
    let table = parts::Backends { all: all.len(), found: rows.len(), shown: &shown, selected };
    push(&mut lines, heights.backends, table.lines(model, desk, width, theme));
    push(&mut lines, heights.detail, parts::detail(selected, now, theme));
    push(&mut lines, heights.events, parts::events(model, now, heights.events, theme));
    if stale {
        let pale = |line: Line<'static>| line.patch_style(theme.quiet());
        let from = heights.head + heights.missing;
        lines = lines.into_iter().enumerate().map(|(at, line)| if at < from { line } else { pale(line) }).collect();
    }
    push(&mut lines, heights.foot, foot);
    for (line, y) in lines.iter().take(height).zip(area.y..) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
    if desk.hand != Hand::Browse && desk.hand != Hand::Filter {
        dialog::draw(frame, desk, theme);
    }
}

/// Exactly so many lines: cut, or filled up.
fn push(lines: &mut Vec<Line<'static>>, height: usize, part: Vec<Line<'static>>) {
    lines.extend(part.into_iter().chain(std::iter::repeat_with(Line::default)).take(height));
}

/// The first row that is seen, so that the selected one is, and no room is left empty.
fn first(before: usize, at: usize, page: usize, rows: usize) -> usize {
    let last = rows.saturating_sub(page);
    before.clamp((at + 1).saturating_sub(page), at).min(last)
}

fn styled(text: impl Into<String>, style: Style) -> Span<'static> {
    Span::styled(text.into(), style)
}

#[cfg(test)]
mod tests;
