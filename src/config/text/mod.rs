//! From a text to a [`Config`] and all that is wrong with it, whatever machine it is for. Knows nothing of this program but
//! `control`: the fuzz target compiles it as it stands.

mod document;
mod wording;

use control::{Problem, check, config::Config};
use document::Document;

/// One mistake with the line that it is on, counted from 1; none where it concerns what the file does not mention.
#[derive(Clone, Debug)]
pub(crate) struct Mistake {
    pub(crate) line: Option<usize>,
    pub(crate) problem: Problem,
}

/// What could be read of the text, and every mistake in it; `look` finds those that the text does not tell.
pub(crate) fn judge(text: &str, look: impl FnOnce(&Config) -> Vec<Problem>) -> (Config, Vec<Mistake>) {
    let (mut document, mut mistakes) = Document::read(text);
    let decoded = document.decode();
    let problems = check::config(&decoded.config).into_iter().chain(look(&decoded.config));
    mistakes.extend(decoded.mistakes.iter().cloned());
    mistakes
        .extend(problems.filter(|problem| !decoded.explains(&problem.path)).map(|problem| document.locate(problem)));
    (decoded.config, mistakes)
}
