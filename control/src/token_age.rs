//! How long ago the sessions began whose tokens come: what says how long sessions last, and when a key is no longer needed.

/// How long ago a session began, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenAge {
    Under1h,
    Under1d,
    Under7d,
    Older,
}

impl TokenAge {
    pub const ALL: [Self; 4] = [Self::Under1h, Self::Under1d, Self::Under7d, Self::Older];
    pub const COUNT: usize = Self::ALL.len();

    /// As it is named in reports, answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Under1h => "under_1h",
            Self::Under1d => "under_1d",
            Self::Under7d => "under_7d",
            Self::Older => "older",
        }
    }

    /// Of a session that began so many seconds ago.
    pub const fn of(seconds: u32) -> Self {
        const HOUR: u32 = 3_600;
        match seconds {
            ..HOUR => Self::Under1h,
            HOUR..86_400 => Self::Under1d,
            86_400..604_800 => Self::Under7d,
            604_800.. => Self::Older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_ends_where_the_next_begins() {
        for (seconds, age) in [
            (0, TokenAge::Under1h),
            (3_599, TokenAge::Under1h),
            (3_600, TokenAge::Under1d),
            (86_399, TokenAge::Under1d),
            (86_400, TokenAge::Under7d),
            (604_799, TokenAge::Under7d),
            (604_800, TokenAge::Older),
            (u32::MAX, TokenAge::Older),
        ] {
            assert_eq!(TokenAge::of(seconds), age, "{seconds}");
        }
        assert!(TokenAge::ALL.iter().enumerate().all(|(at, age)| *age as usize == at));
    }
}
