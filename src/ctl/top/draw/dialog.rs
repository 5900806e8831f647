use super::{
    super::{
        change::Form,
        keys::{Desk, Hand},
    },
    Theme, parts, styled,
};
use ratatui::{
    Frame,
    layout::Rect,
    style::Style,
    text::Line,
    widgets::{Block, Clear, Paragraph},
};

const HELP: [&str; 16] = [
    "up down j k      select a backend",
    "PgUp PgDn g G    by pages, first, last",
    "Tab Shift-Tab    next pool, pool before",
    "/                filter by name, address, state, health",
    "Esc              no filter",
    "s r              sort by the next column, reverse",
    "d                drain: no new sessions",
    "m                maintenance: nothing at all",
    "a                activate: sessions old and new",
    "q Ctrl-C         quit",
    "",
    "Each change is previewed, and made when you press y.",
    "Rates are of the last 10 s. FAIL/S: errors of backends,",
    "and their responses with status 500 to 599. UNSERVED/S:",
    "answered 503 since no backend was usable or had room.",
    "A dash: not known.",
];

/// What is under hand, in a box over the rest.
pub(super) fn draw(frame: &mut Frame<'_>, desk: &Desk, theme: Theme) {
    let area = frame.area();
    let width = usize::from(area.width).saturating_sub(4).clamp(1, 72);
    let (title, lines) = match &desk.hand {
        Hand::Browse | Hand::Filter => return,
        Hand::Help => ("help".to_owned(), HELP.map(|text| Line::from(text.to_owned())).to_vec()),
        Hand::Form { name, form, .. } => (format!("drain {name}"), filled(form, width, theme)),
        Hand::Asking(change) => {
            (change.words(), vec![Line::from("asking what it would move and lose ..."), Line::from("Esc leaves it")])
        }
        Hand::Confirm(change, looked) => {
            let style = if looked.harms { theme.bad() } else { Style::new() };
            let mut lines = Vec::new();
            for (at, text) in looked.lines.iter().enumerate() {
                let style = if at == 0 { style } else { Style::new() };
                lines.extend(parts::wrapped(text, width).into_iter().map(|text| Line::from(styled(text, style))));
            }
            lines.push(Line::default());
            lines.push(Line::from(styled(format!("{}? y/N", change.words()), theme.warn())));
            ("what it would do".to_owned(), lines)
        }
        Hand::Sending(change) => (change.words(), vec![Line::from("sent; waiting for all workers ...")]),
    };
    let inner = lines.iter().map(Line::width).max().unwrap_or(0).max(title.chars().count()).min(width);
    let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
    let size = (short(inner + 4).min(area.width), short(lines.len() + 2).min(area.height));
    let at = (area.x + (area.width - size.0) / 2, area.y + (area.height - size.1) / 2);
    let place = Rect { x: at.0, y: at.1, width: size.0, height: size.1 };
    frame.render_widget(Clear, place);
    // The question stands last: what does not fit is cut from above.
    let room = usize::from(size.1.saturating_sub(2)).max(1);
    let cut = if matches!(desk.hand, Hand::Confirm(..)) { lines.len().saturating_sub(room) } else { 0 };
    let padded = lines.into_iter().skip(cut).map(|line| {
        let mut spans = vec![styled(" ", Style::new())];
        spans.extend(line.spans);
        Line::from(spans)
    });
    let block = Block::bordered().title(format!(" {title} "));
    frame.render_widget(Paragraph::new(padded.collect::<Vec<_>>()).block(block), place);
}

fn filled(form: &Form, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let [mode, deadline] = [!form.at_deadline, form.at_deadline];
    let field = |here: bool, text: String| {
        let marker = if here { ">" } else { " " };
        Line::from(styled(format!("{marker} {text}"), if here { theme.heading() } else { Style::new() }))
    };
    let typed = match (form.deadline.as_str(), deadline) {
        ("", false) => "none".to_owned(),
        (text, true) => format!("{text}_"),
        (text, false) => text.to_owned(),
    };
    let mut lines = vec![
        field(mode, format!("mode      < {} >", form.mode.name())),
        Line::from(styled(format!("            {}", form.about()), theme.quiet())),
        field(deadline, format!("deadline  {typed}")),
        Line::from(styled("            from now, as 30m; what is left then goes elsewhere", theme.quiet())),
        Line::default(),
        Line::from("left right: mode   Tab: field   Enter: preview   Esc: leave"),
    ];
    if let Some(wrong) = &form.wrong {
        lines.extend(parts::wrapped(wrong, width).into_iter().map(|text| Line::from(styled(text, theme.bad()))));
    }
    lines
}
