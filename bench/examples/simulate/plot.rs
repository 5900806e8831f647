//! Plots as SVG.

use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};
use std::{error::Error, ops::Range, path::Path};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Axes<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) log_x: bool,
    pub(crate) log_y: bool,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (760, 420);
/// The height of a line's name.
const KEY_LINE: u32 = 18;

pub(crate) fn lines(path: &Path, axes: Axes<'_>, lines: &[Line]) -> Result<()> {
    let all = || lines.iter().flat_map(|line| &line.points);
    let x = span(all().map(|point| point.0));
    let y = span(all().map(|point| point.1));
    let from_zero = 0.0..y.end * 1.05;
    match (axes.log_x, axes.log_y) {
        (false, false) => draw(path, axes, x, from_zero, lines),
        (true, false) => draw(path, axes, x.log_scale(), from_zero, lines),
        (false, true) => draw(path, axes, x, y.log_scale(), lines),
        (true, true) => draw(path, axes, x.log_scale(), y.log_scale(), lines),
    }
}

fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, f64::MIN), |(least, most), value| (value.min(least), value.max(most)));
    least..most
}

fn draw<X, Y>(path: &Path, axes: Axes<'_>, x: X, y: Y, lines: &[Line]) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let names = KEY_LINE * lines.len() as u32 + 12;
    let root = SVGBackend::new(path, (SIZE.0, SIZE.1 + names)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(SIZE.1);
    let mut chart = ChartBuilder::on(&above)
        .caption(axes.title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    let number = |value: &f64| short(*value);
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .max_light_lines(0)
        .draw()?;
    for (index, line) in lines.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart.draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)).point_size(3))?;
        // Beneath the plot, where it hides none of it.
        let y = (KEY_LINE * index as u32 + KEY_LINE / 2) as i32;
        below.draw(&PathElement::new([(76, y), (100, y)], color.stroke_width(3)))?;
        below.draw(&Text::new(line.name.as_str(), (108, y - 6), ("sans-serif", 13)))?;
    }
    root.present()?;
    Ok(())
}

/// Bars that begin at `from`, the first at the top.
pub(crate) fn bars(path: &Path, title: &str, what: &str, from: f64, bars: &[(String, f64)]) -> Result<()> {
    let root = SVGBackend::new(path, (SIZE.0, 100 + 34 * bars.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = bars.iter().fold(from, |most, bar| most.max(bar.1));
    let end = bars.len() as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(42)
        .build_cartesian_2d(from..from + (most - from) * 1.6, 0.0..end)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().x_desc(what).max_light_lines(0).draw()?;
    let places = || bars.iter().enumerate().map(|(index, bar)| (end - index as f64 - 1.0, bar));
    let color = Palette99::pick(2).mix(0.7);
    chart.draw_series(
        places().map(|(y, (_, value))| Rectangle::new([(from, y + 0.15), (*value, y + 0.85)], color.filled())),
    )?;
    chart.draw_series(places().map(|(y, (name, value))| {
        Text::new(format!(" {name}: {value:.2}"), (*value, y + 0.7), ("sans-serif", 14).into_font())
    }))?;
    root.present()?;
    Ok(())
}

/// A number for an axis: 10,000,000 as 10M.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value if value == 0.0 || value >= 1.0 => format!("{}", (value * 10.0).round() / 10.0),
        value => format!("{}", (value * 1e6).round() / 1e6),
    }
}
