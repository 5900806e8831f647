//! What operators do, and what that has to lead to: told of the one member that a command is about, by itself.

use crate::random::Random;
use control::desired::{AdminState, DrainMode, Member, Then};

#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) pool: &'static str,
    pub(crate) backend: String,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Put {
        address: String,
        weight: u32,
    },
    Weight(u32),
    Remove,
    Drain {
        mode: DrainMode,
        deadline: Option<u64>,
        then: Option<Then>,
    },
    Activate,
    Maintain,
    Reset,
    Health(&'static str),
    Reload,
    /// A call that has to be refused, with its body.
    Wrong(&'static str, &'static str),
}

/// All that may ever be a backend.
pub(crate) const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

const WRONG: [(&str, &str); 8] = [
    ("PUT /v1/pools/shop/backends/a", r#"{"address": "no address", "weight": 1}"#),
    ("PUT /v1/pools/shop/backends/a", r#"{"address": "10.9.9.9:80", "weight": 1001}"#),
    ("PUT /v1/pools/shop/backends/zz", r#"{"address": "10.9.9.9:80", "colour": "red"}"#),
    ("PATCH /v1/pools/shop/backends/nobody", r#"{"weight": 2}"#),
    ("DELETE /v1/pools/shop/backends/nobody", ""),
    ("DELETE /v1/pools/shop", ""),
    ("POST /v1/pools/shop/backends/a/drain", r#"{"mode": "slowly"}"#),
    ("PUT /v1/pools/shop", r#"{"affinity": {"mode": "guess"}}"#),
];

impl Command {
    pub(crate) fn random(random: &mut Random) -> Self {
        let backend = random.pick(&NAMES).to_owned();
        let what = match random.below(21) {
            0..5 => {
                let address = format!("10.0.{}.{}:80", random.below(2), u32::from(backend.as_bytes()[0]));
                What::Put { address, weight: random.pick(&[1, 1, 1, 2, 0]) }
            }
            5 | 6 => What::Weight(random.pick(&[0, 1, 2, 5])),
            7..9 => What::Remove,
            9..13 => {
                let mode = random.pick(&[DrainMode::Persist, DrainMode::Retire, DrainMode::Migrate]);
                let deadline = random.percent(70).then(|| random.range(1, 60));
                let then = [None, Some(Then::Leave), Some(Then::Maintenance), Some(Then::Close), Some(Then::Remove)];
                What::Drain { mode, deadline, then: random.pick(&then) }
            }
            13 | 14 => What::Activate,
            15 => What::Maintain,
            16 => What::Reset,
            17 | 18 => What::Health(random.pick(&["up", "down", "down", "auto"])),
            19 => What::Reload,
            _ => {
                let (call, body) = random.pick(&WRONG);
                What::Wrong(call, body)
            }
        };
        Self { pool: random.pick(&["shop", "shop", "addresses"]), backend, what }
    }

    /// How it is told over REST.
    pub(crate) fn call(&self) -> (String, String) {
        let at = format!("/v1/pools/{}/backends/{}", self.pool, self.backend);
        let word = |word: &str| format!("POST {at}/{word}");
        match &self.what {
            What::Put { address, weight } => {
                (format!("PUT {at}"), format!(r#"{{"address": "{address}", "weight": {weight}}}"#))
            }
            What::Weight(weight) => (format!("PATCH {at}"), format!(r#"{{"weight": {weight}}}"#)),
            What::Remove => (format!("DELETE {at}"), String::new()),
            What::Drain { mode, deadline, then } => {
                let mode = match mode {
                    DrainMode::Persist => "persist",
                    DrainMode::Retire => "retire",
                    DrainMode::Migrate => "migrate",
                };
                let deadline = deadline.map_or(String::new(), |seconds| format!(r#", "deadline": "{seconds}s""#));
                let then = match then {
                    None => "",
                    Some(Then::Leave) => r#", "then": "leave""#,
                    Some(Then::Maintenance) => r#", "then": "maintenance""#,
                    Some(Then::Close) => r#", "then": "close""#,
                    Some(Then::Remove) => r#", "then": "remove""#,
                };
                (word("drain"), format!(r#"{{"mode": "{mode}"{deadline}{then}}}"#))
            }
            What::Activate => (word("activate"), String::new()),
            What::Maintain => (word("maintenance"), String::new()),
            What::Reset => (word("reset"), String::new()),
            What::Health(health) => (format!("PUT {at}/health"), format!(r#"{{"health": "{health}"}}"#)),
            What::Reload => ("POST /v1/reload".to_owned(), String::new()),
            What::Wrong(call, body) => ((*call).to_owned(), (*body).to_owned()),
        }
    }

    pub(crate) fn must_be_refused(&self) -> bool {
        matches!(self.what, What::Wrong(..))
    }

    /// Whether the member is what a drain ends with that this has begun, and that is over already.
    fn has_ended(&self, before: Option<&Member>, after: Option<&Member>) -> bool {
        let What::Drain { then, .. } = self.what else { return false };
        let then = then.or(before.and_then(|before| before.drain).and_then(|drain| drain.then)).unwrap_or_default();
        match after {
            None => then == Then::Remove,
            Some(after) => {
                after.admin_state == AdminState::Maintenance && matches!(then, Then::Maintenance | Then::Close)
            }
        }
    }

    /// Whether this is what the member becomes by it.
    pub(crate) fn leads(&self, before: Option<&Member>, after: Option<&Member>) -> bool {
        let same_but = |change: &dyn Fn(&mut Member)| match (before, after) {
            (Some(before), Some(after)) => {
                let mut wanted = before.clone();
                change(&mut wanted);
                wanted == *after
            }
            _ => false,
        };
        match &self.what {
            What::Put { address, weight } => match before {
                None => after.is_some_and(|after| {
                    (&after.address, after.weight, after.admin_state) == (address, *weight, AdminState::Active)
                        && after.drain.is_none()
                }),
                Some(_) => same_but(&|member| (member.address, member.weight) = (address.clone(), *weight)),
            },
            What::Weight(weight) => same_but(&|member| member.weight = *weight),
            What::Remove => before.is_some() && after.is_none(),
            What::Drain { mode, deadline, then } => {
                let drain = after.and_then(|after| after.drain);
                if before.is_some() && self.has_ended(before, after) {
                    return true;
                }
                let fits = drain.is_some_and(|drain| {
                    drain.mode == *mode
                        && (deadline.is_none() || drain.deadline.is_some())
                        && (then.is_none() || drain.then == *then)
                });
                fits && same_but(&|member| (member.admin_state, member.drain) = (AdminState::Draining, drain))
            }
            What::Activate => same_but(&|member| (member.admin_state, member.drain) = (AdminState::Active, None)),
            What::Maintain => same_but(&|member| (member.admin_state, member.drain) = (AdminState::Maintenance, None)),
            What::Reset => {
                let life = after.map(|after| after.incarnation);
                let is_new = life != before.map(|before| before.incarnation);
                is_new && same_but(&|member| member.incarnation = life.unwrap_or_default())
            }
            What::Health(_) | What::Reload | What::Wrong(..) => before == after,
        }
    }
}

/// Whether a member becomes this when its drain is over by `now`.
pub(crate) fn ends(before: Option<&Member>, after: Option<&Member>, now: u64) -> bool {
    let Some(before) = before else { return false };
    let Some(drain) = before.drain.filter(|_| before.admin_state == AdminState::Draining) else { return false };
    let is_due = drain.deadline.is_some_and(|deadline| deadline <= now) || drain.then.is_some();
    let fits = match (drain.at_deadline(), after) {
        (Then::Leave, _) => false,
        (Then::Remove, after) => after.is_none(),
        (Then::Maintenance | Then::Close, Some(after)) => {
            let kept = after.drain.is_none() || after.drain == Some(drain);
            kept && *after == Member { admin_state: AdminState::Maintenance, drain: after.drain, ..before.clone() }
        }
        (Then::Maintenance | Then::Close, None) => false,
    };
    is_due && fits
}
