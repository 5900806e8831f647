//! The exit ramp: how a pool lets go of its sessions, what the two cohorts are compared by, and what came of it.

use crate::{
    check::{Path, Problem},
    spec::Span,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A share of the sessions in hundredths of a percent: 1 to 10,000. Written as percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u16);

impl Percent {
    pub const ALL: Self = Self(10_000);

    /// Rounded to hundredths of a percent; `None` where that is not above 0 and at most 100 %.
    pub fn new(percent: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 1 to 10,000")]
        (0.01..=100.0).contains(&percent).then(|| Self((percent * 100.0).round() as u16))
    }

    pub const fn basis_points(self) -> u16 {
        self.0
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} %", self.as_f64())
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        Self::new(percent).ok_or_else(|| D::Error::custom(format!("{percent} is out of range: write 0.01 to 100")))
    }
}

/// What is asked for: how much is released when, and what makes it stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RampPlan {
    /// The shares that are released one after the other. They grow, and the first leaves a control group.
    pub steps: Vec<Percent>,
    /// How long each step is held at least.
    pub hold: Span,
    /// The share of the released sessions, 0 to 1, that may come to harm unseen: a step is left only once its traffic
    /// would have shown more.
    pub harm: f64,
    /// How likely the ramp may stop by mere luck, 0 to 1.
    pub alpha: f64,
    pub watch: Watch,
}

/// What is looked for in the responses, beyond what is looked for always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// A redirect to it, or below it, says that the session is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_path: Option<String>,
    /// The application's cookie: another value than the request had is another session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_cookie: Option<String>,
    /// The response header that tells whether a cache was hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_header: Option<String>,
    /// What that header has where one was; compared in any case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cache_hit: String,
}

/// What a session can show that the others don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// A status of 500 or above, ours too where a backend failed.
    ServerError,
    /// 401 or 403.
    Denied,
    /// A redirect to the login path.
    Login,
    /// Another application session than the request had.
    NewSession,
    /// Slower than nine in ten of all requests.
    Slow,
    /// A cache that was not hit.
    CacheMiss,
}

impl Signal {
    pub const ALL: [Self; 6] =
        [Self::ServerError, Self::Denied, Self::Login, Self::NewSession, Self::Slow, Self::CacheMiss];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ServerError => "server-error",
            Self::Denied => "denied",
            Self::Login => "login",
            Self::NewSession => "new-session",
            Self::Slow => "slow",
            Self::CacheMiss => "cache-miss",
        }
    }

    /// Whether it tells of lost state. The others tell of cost.
    pub const fn tells_of_state(self) -> bool {
        matches!(self, Self::ServerError | Self::Denied | Self::Login | Self::NewSession)
    }
}

/// How many times a session has to show a signal: each is a test of its own.
pub const TIMES: [u8; 5] = [1, 2, 4, 8, 16];

impl Watch {
    /// The signals that are looked for.
    pub fn signals(&self) -> impl Iterator<Item = Signal> + use<'_> {
        Signal::ALL.into_iter().filter(|signal| match signal {
            Signal::ServerError | Signal::Denied | Signal::Slow => true,
            Signal::Login => self.login_path.is_some(),
            Signal::NewSession => self.session_cookie.is_some(),
            Signal::CacheMiss => self.cache_header.is_some(),
        })
    }
}

/// The most steps of a plan.
pub const MAX_STEPS: usize = 16;

impl RampPlan {
    /// All that is wrong with it but the order of its steps, which [`Self::grows`] tells.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, key: &str, wrong: String, right: &str| {
            if !holds {
                problems.push(Problem { path: Path::default().key(key), wrong, right: right.to_owned() });
            }
        };
        let count = self.steps.len();
        require((1..=MAX_STEPS).contains(&count), "steps", format!("has {count} steps"), "write 1 to 16 of them");
        let control = count == 0 || self.steps.iter().any(|step| *step < Percent::ALL);
        require(control, "steps", "leaves no sessions to compare with".to_owned(), "begin below 100");
        let out = |value: f64| format!("{value} is out of range");
        require((0.005..=1.0).contains(&self.harm), "harm", out(self.harm), "write a share from 0.005 to 1");
        require((0.0001..=0.2).contains(&self.alpha), "alpha", out(self.alpha), "write 0.0001 to 0.2");
        let longest = Span::from_secs(365 * 86_400);
        let held = self.hold.as_millis() > 0 && self.hold <= longest;
        let right = "write a time above zero and of at most \"365d\"";
        require(held, "hold", format!("{} is out of range", self.hold), right);
        let Watch { login_path, session_cookie, cache_header, cache_hit } = &self.watch;
        let is_path = |path: &String| {
            let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
            path.starts_with('/') && path.bytes().all(fits)
        };
        let token = |name: &String| !name.is_empty() && name.len() <= 128 && name.bytes().all(is_token);
        let says = |text: &Option<String>| format!("`{}` does not fit", text.as_deref().unwrap_or("").escape_debug());
        require(login_path.as_ref().is_none_or(is_path), "login_path", says(login_path), "write a path, as \"/login\"");
        let right = "write a cookie's name, as \"JSESSIONID\"";
        require(session_cookie.as_ref().is_none_or(token), "session_cookie", says(session_cookie), right);
        let right = "write a header's name, as \"X-Cache\"";
        require(cache_header.as_ref().is_none_or(token), "cache_header", says(cache_header), right);
        let text = !cache_hit.is_empty() && cache_hit.len() <= 128 && cache_hit.bytes().all(|b| b.is_ascii_graphic());
        let right = "write a word of the header, as \"HIT\"";
        require(cache_header.is_none() || text, "cache_hit", says(&Some(cache_hit.clone())), right);
        problems
    }

    /// Whether each step releases more than the one before.
    pub fn grows(&self) -> bool {
        self.steps.is_sorted_by(|step, next| step < next)
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A release under way, or what has become of it. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Which release this is: what was seen of another one says nothing about it.
    pub id: u32,
    pub plan: RampPlan,
    pub state: ReleaseState,
    /// Which of the plan's steps it is at, from 0.
    pub step: usize,
    pub since: u64,
    pub step_since: u64,
    /// The steps that have been left upwards, with what they rest on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<Passed>,
    /// Why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    #[default]
    Running,
    /// Every step has passed that leaves a control group. What the last one released stays released.
    Finished,
    /// The released sessions are back on their pins.
    Stopped,
}

/// A step that has passed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Passed {
    #[cfg_attr(feature = "openapi", schema(value_type = f64))]
    pub percent: Percent,
    pub until: u64,
    /// Sessions that were first seen in their cohort at this step.
    pub sessions: By<u64>,
    /// The least share of the released sessions, 0 to 1, whose harm would have been found.
    pub detectable: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stopped {
    pub at: u64,
    pub reason: String,
    /// Absent where it was no harm that stopped it.
    #[serde(default)]
    pub finding: Option<Finding>,
}

/// A signal that the released sessions show more often than the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    pub signal: Signal,
    /// So many times at least for each of the sessions that `shown` counts.
    pub times: u8,
    /// Sessions compared.
    pub sessions: By<u64>,
    /// Those of them that showed it.
    pub shown: By<u64>,
    /// The most likely that mere luck looks as bad at any time of any ramp, 0 to 1.
    pub p_value: f64,
}

/// Something of the released sessions, and the same of the control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct By<T> {
    pub released: T,
    pub control: T,
}

impl<T> By<T> {
    pub fn of(&mut self, released: bool) -> &mut T {
        if released { &mut self.released } else { &mut self.control }
    }
}

impl By<u64> {
    pub fn add(&mut self, more: Self) {
        self.released += more.released;
        self.control += more.control;
    }
}

impl Release {
    /// The share of the sessions that is released now, in hundredths of a percent.
    pub fn basis_points(&self) -> u16 {
        match self.state {
            ReleaseState::Stopped => 0,
            ReleaseState::Running | ReleaseState::Finished => {
                self.plan.steps.get(self.step).map_or(0, |step| step.basis_points())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(steps: &[f64]) -> RampPlan {
        let steps = steps.iter().map(|step| Percent::new(*step).unwrap()).collect();
        RampPlan { steps, hold: Span::from_secs(1), harm: 0.1, alpha: 0.01, watch: Watch::default() }
    }

    #[test]
    fn percentages_are_read_as_they_are_written() {
        for (text, basis_points) in [("0.01", 1), ("1.0", 100), ("33.33", 3_333), ("100.0", 10_000)] {
            let percent: Percent = serde_json::from_str(text).unwrap();
            assert_eq!(
                (percent.basis_points(), serde_json::to_string(&percent).unwrap().as_str()),
                (basis_points, text)
            );
        }
        for text in ["0", "0.009", "100.1", "-1", "1e300", "\"a\""] {
            assert!(serde_json::from_str::<Percent>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        assert_eq!(plan(&[1.0, 10.0, 100.0]).check(), []);
        assert!(plan(&[1.0, 10.0]).grows() && !plan(&[10.0, 10.0]).grows() && !plan(&[10.0, 1.0]).grows());
        let text = |text: &str| Some(text.to_owned());
        let watch = Watch {
            login_path: text("login"),
            session_cookie: text("a b"),
            cache_header: text(""),
            cache_hit: String::new(),
        };
        let wrong = RampPlan { hold: Span::default(), harm: 0.0, alpha: 0.5, watch, ..plan(&[100.0]) };
        let named: Vec<_> = wrong.check().iter().map(|problem| problem.path.to_string()).collect();
        let keys = ["steps", "harm", "alpha", "hold", "login_path", "session_cookie", "cache_header", "cache_hit"];
        assert_eq!(named, keys);
        assert_eq!(plan(&[]).check().len(), 1);
    }

    #[test]
    fn what_has_stopped_releases_nobody() {
        let release = |state| Release {
            id: 1,
            plan: plan(&[1.0, 25.0]),
            state,
            step: 1,
            since: 0,
            step_since: 0,
            passed: Vec::new(),
            stopped: None,
        };
        let shares =
            [ReleaseState::Running, ReleaseState::Finished, ReleaseState::Stopped].map(|it| release(it).basis_points());
        assert_eq!(shares, [2_500, 2_500, 0]);
    }
}
