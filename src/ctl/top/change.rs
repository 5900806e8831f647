//! What can be done to a backend from here.

use super::words;
use crate::ctl::args::{Change as Question, How, Mode};
use control::spec::Span;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Drain { mode: Mode, deadline: Option<Span> },
    Activate,
    Maintenance,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) pool: String,
    pub(super) name: String,
    pub(super) verb: Verb,
}

impl Change {
    /// What its preview is asked with.
    pub(super) fn question(&self) -> Value {
        let name = self.name.clone();
        let question = match self.verb {
            Verb::Drain { mode, deadline } => Question::Drain { name, how: how(mode, deadline) },
            Verb::Activate => Question::Activate { name },
            Verb::Maintenance => Question::Maintenance { name },
        };
        question.to_body()
    }

    /// The last word of its path, and its body.
    pub(super) fn call(&self) -> (&'static str, Option<Value>) {
        match self.verb {
            Verb::Drain { mode, deadline } => ("/drain", Some(how(mode, deadline).to_body())),
            Verb::Activate => ("/activate", None),
            Verb::Maintenance => ("/maintenance", None),
        }
    }

    /// As in `Drain cart-1 (persist, deadline 30m)`.
    pub(super) fn words(&self) -> String {
        let name = &self.name;
        match self.verb {
            Verb::Drain { mode, deadline } => {
                let deadline = deadline.map_or("no deadline".to_owned(), |deadline| format!("deadline {deadline}"));
                format!("Drain {name} ({}, {deadline})", mode.name())
            }
            Verb::Activate => format!("Activate {name}"),
            Verb::Maintenance => format!("Put {name} into maintenance"),
        }
    }
}

fn how(mode: Mode, deadline: Option<Span>) -> How {
    How { mode: Some(mode), deadline, share: None, then: None }
}

/// What is asked before a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) mode: Mode,
    /// As it was typed; nothing is none.
    pub(super) deadline: String,
    /// Whether keys go to the deadline.
    pub(super) at_deadline: bool,
    pub(super) wrong: Option<String>,
}

impl Default for Form {
    /// What harms nobody: sessions stay until they end.
    fn default() -> Self {
        Self { mode: Mode::Persist, deadline: String::new(), at_deadline: false, wrong: None }
    }
}

impl Form {
    pub(super) fn about(&self) -> &'static str {
        match self.mode {
            Mode::Persist => "its sessions stay until they end",
            Mode::Retire => "they stay, and are not renewed",
            Mode::Migrate => "they move, all by the deadline",
        }
    }

    pub(super) fn turn(&mut self, forward: bool) {
        let modes = [Mode::Persist, Mode::Retire, Mode::Migrate];
        let at = modes.iter().position(|mode| *mode == self.mode).unwrap_or(0);
        self.mode = modes[(at + if forward { 1 } else { 2 }) % 3];
        // There is no other mode that needs one.
        if self.mode == Mode::Migrate && self.deadline.is_empty() {
            "30m".clone_into(&mut self.deadline);
        }
    }

    /// # Errors
    /// What is wrong with what was typed, and what would be right.
    pub(super) fn verb(&self) -> Result<Verb, String> {
        let deadline = words::typed(&self.deadline)?;
        if self.mode == Mode::Migrate && deadline.is_none() {
            return Err("migrate needs a deadline by which all have moved, as 30m".to_owned());
        }
        Ok(Verb::Drain { mode: self.mode, deadline })
    }
}

/// What a change would do, as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) lines: Vec<String>,
    /// Sessions would lose their state.
    pub(super) harms: bool,
    /// For each node the tag of what it said the backend is.
    pub(super) tags: Vec<(String, Option<String>)>,
}

impl Looked {
    pub(super) fn new(preview: &Value, tags: Vec<(String, Option<String>)>) -> Self {
        let [moved, lost] = ["moved", "lost"].map(|key| preview[key].as_u64());
        let told =
            |number: Option<u64>| number.map_or("not known".to_owned(), |number| words::plural(number, "session"));
        let mut lines = vec![format!("moves {}; loses the state of {}", told(moved), told(lost))];
        if let [Some(most), Some(all)] = ["p95", "all"].map(|key| preview["estimate"][key].as_f64()) {
            let [most, all] = [most, all].map(crate::ctl::progress::rounded);
            lines.push(format!("95% of its sessions end in about {most}, all in about {all}"));
        }
        lines.extend(crate::ctl::show::list(&preview["notes"]).map(crate::ctl::show::cell));
        Self { lines, harms: lost != Some(0), tags }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(verb: Verb) -> Change {
        Change { pool: "shop".to_owned(), name: "a".to_owned(), verb }
    }

    #[test]
    fn each_has_its_question_its_call_and_its_words() {
        let drain = change(Verb::Drain { mode: Mode::Retire, deadline: Some(Span::from_secs(60)) });
        let body = json!({"mode": "retire", "deadline": "1m"});
        assert_eq!(drain.question(), json!({"drain": {"name": "a", "mode": "retire", "deadline": "1m"}}));
        assert_eq!(drain.call(), ("/drain", Some(body)));
        assert_eq!(drain.words(), "Drain a (retire, deadline 1m)");
        let activate = change(Verb::Activate);
        assert_eq!((activate.question(), activate.call()), (json!({"activate": "a"}), ("/activate", None)));
        assert_eq!(change(Verb::Maintenance).question(), json!({"maintenance": "a"}));
    }

    #[test]
    fn a_form_begins_with_what_harms_nobody_and_says_what_is_wrong() {
        let mut form = Form::default();
        assert_eq!(form.verb(), Ok(Verb::Drain { mode: Mode::Persist, deadline: None }));
        form.turn(false);
        let half_an_hour = Some(Span::from_secs(1_800));
        assert_eq!(form.verb(), Ok(Verb::Drain { mode: Mode::Migrate, deadline: half_an_hour }));
        form.deadline.clear();
        assert!(form.verb().unwrap_err().contains("migrate needs a deadline"));
        "soon".clone_into(&mut form.deadline);
        assert!(form.verb().unwrap_err().contains("is not a duration"));
        form.turn(true);
        assert_eq!(form.mode, Mode::Persist);
    }

    #[test]
    fn a_preview_in_words_says_whether_it_harms() {
        let preview = json!({"moved": 4, "lost": 1, "estimate": {"p95": 75.3, "all": 4000.0}, "notes": ["so it is"]});
        let looked = Looked::new(&preview, Vec::new());
        let lines = [
            "moves 4 sessions; loses the state of 1 session",
            "95% of its sessions end in about 1m15s, all in about 1h6m",
            "so it is",
        ];
        assert_eq!((looked.lines, looked.harms), (lines.map(str::to_owned).to_vec(), true));
        let safe = Looked::new(&json!({"moved": 0, "lost": 0, "estimate": null, "notes": []}), Vec::new());
        assert!(!safe.harms && Looked::new(&json!({"moved": null, "lost": null}), Vec::new()).harms);
    }
}
