//! Simulations of what can't be seen on one machine in minutes: hours, ten million sessions, ten thousand backends. They call
//! the product's own decisions, and all follows from the seed. Fails where a figure that is promised does not hold.
#![allow(clippy::cast_precision_loss, reason = "all counts here are far below 2^53")]

mod counts;
mod drains;
mod imbalance;
mod movement;
mod plot;
mod ramps;
mod random;
mod table;

use clap::{Parser, ValueEnum};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};
use table::Markdown;

/// Simulates sessions, prints what came of it, and with --write puts it into bench/README.md with its plots.
#[derive(Debug, Parser)]
struct Args {
    /// Which simulations to run.
    #[arg(value_enum, default_values_t = What::value_variants().to_vec())]
    what: Vec<What>,
    #[arg(long, value_enum, default_value_t = Scale::Full)]
    scale: Scale,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder whose README.md takes the results, and whose simulated/ takes the plots.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// The count of live sessions.
    Counts,
    /// The estimate of a drain.
    Drains,
    /// Sessions moved by changes of the members.
    Movement,
    /// How evenly each policy spreads load.
    Imbalance,
    /// False alarms of a ramp, and how soon it finds harm.
    Ramps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scale {
    /// Seconds.
    Short,
    /// Some minutes.
    Full,
}

/// Where results go.
#[derive(Debug)]
struct Report {
    seed: u64,
    folder: Option<PathBuf>,
    broken: Vec<String>,
}

impl Report {
    /// Holds that a figure is as promised.
    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(what());
        }
    }

    /// Prints a result, and puts it between the marks of this name in the README.
    fn section(
        &self,
        name: &str,
        text: &str,
        table: &Markdown,
        plot: impl FnOnce(&Path) -> Result<(), Box<dyn Error>>,
    ) -> Result<(), Box<dyn Error>> {
        println!("== {name}\n\n{text}\n\n{}", table.as_str());
        let Some(folder) = &self.folder else { return Ok(()) };
        let plots = folder.join("simulated");
        fs::create_dir_all(&plots)?;
        plot(&plots.join(format!("{name}.svg")))?;
        let readme = folder.join("README.md");
        let page = fs::read_to_string(&readme)?;
        let (begin, end) = (format!("<!-- simulated: {name} -->\n"), format!("<!-- end of {name} -->"));
        let (before, rest) = page.split_once(&begin).ok_or_else(|| format!("{begin:?} is not in the README"))?;
        let (_, after) = rest.split_once(&end).ok_or_else(|| format!("{end:?} is not in the README"))?;
        let result = format!("{text}\n\n{}\n![{name}](simulated/{name}.svg)\n", table.as_str());
        fs::write(&readme, format!("{before}{begin}{result}{end}{after}"))?;
        Ok(())
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let mut report = Report { seed: args.seed, folder: args.write, broken: Vec::new() };
    for what in &args.what {
        let begun = Instant::now();
        match what {
            What::Counts => counts::simulate(args.scale, &mut report)?,
            What::Drains => drains::simulate(args.scale, &mut report)?,
            What::Movement => movement::simulate(args.scale, &mut report)?,
            What::Imbalance => imbalance::simulate(args.scale, &mut report)?,
            What::Ramps => ramps::simulate(args.scale, &mut report)?,
        }
        eprintln!("{what:?}: {:.0} s", begun.elapsed().as_secs_f64());
    }
    for broken in &report.broken {
        eprintln!("promised otherwise: {broken}");
    }
    Ok(if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
