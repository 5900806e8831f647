//! What a response says of the application's session.

use crate::cookie::trim;

/// What becomes of the session that the application names, by the backend's response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    #[default]
    Nothing,
    /// It begins, or is named anew.
    Named,
    /// The application deletes its cookie.
    Deleted,
}

/// What one `Set-Cookie` value says of the cookie `name`; `None` where it is about another one. As browsers do (RFC 6265
/// section 5.3), `Max-Age` counts before `Expires`, and the last of each. An empty value names no session.
pub fn told_by_cookie(set_cookie: &[u8], name: &[u8], now: u32) -> Option<Told> {
    let mut parts = set_cookie.split(|byte| *byte == b';').map(trimmed);
    let (key, value) = cut(parts.next()?)?;
    if key != name {
        return None;
    }
    let (mut expires, mut max_age) = (None, None);
    for (key, value) in parts.filter_map(cut) {
        if key.eq_ignore_ascii_case(b"max-age") {
            max_age = ends_at_once(value).or(max_age);
        } else if key.eq_ignore_ascii_case(b"expires") {
            expires = unix_seconds(value).map(|at| at <= i64::from(now)).or(expires);
        }
    }
    let over = value.is_empty() || value == b"\"\"" || max_age.or(expires).unwrap_or(false);
    Some(if over { Told::Deleted } else { Told::Named })
}

fn trimmed(text: &[u8]) -> &[u8] {
    trim(text, |byte| matches!(byte, b' ' | b'\t'))
}

fn cut(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = memchr::memchr(b'=', pair)?;
    Some((trimmed(&pair[..equals]), trimmed(&pair[equals + 1..])))
}

/// Whether a `Max-Age` is zero or less; `None` where it is no number and does not count.
fn ends_at_once(value: &[u8]) -> Option<bool> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.len() < value.len() || digits.iter().all(|digit| *digit == b'0'))
}

const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// Reads a date as RFC 6265 section 5.1.1 has it, in whatever order its parts come.
fn unix_seconds(date: &[u8]) -> Option<i64> {
    let is_delimiter = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b':' && *byte < 0x80;
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in date.split(is_delimiter).filter(|token| !token.is_empty()) {
        let number = || str::from_utf8(token).ok()?.parse::<i64>().ok();
        let named = || {
            let letters = token.get(..3)?.to_ascii_lowercase();
            (0..).zip(MONTHS).find(|(_, name)| *name == letters).map(|(index, _)| index)
        };
        if time.is_none() && token.contains(&b':') {
            time = clock(token);
        } else if day.is_none() && token.len() <= 2 && number().is_some() {
            day = number();
        } else if month.is_none() && named().is_some() {
            month = named();
        } else if year.is_none() && matches!(token.len(), 2 | 4) {
            year = number().map(|year| match year {
                70..=99 => year + 1_900,
                0..=69 => year + 2_000,
                year => year,
            });
        }
    }
    let (time, day, month, year) = (time?, day?, month?, year?);
    let holds = (1..=31).contains(&day) && year >= 1_601;
    holds.then(|| days_since_1970(year, month, day) * 86_400 + time)
}

fn clock(token: &[u8]) -> Option<i64> {
    let mut parts = str::from_utf8(token).ok()?.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let holds = (0..24).contains(&hours) && (0..60).contains(&minutes) && (0..60).contains(&seconds);
    holds.then_some(hours * 3_600 + minutes * 60 + seconds)
}

/// Of the Gregorian calendar; `month` counts from 0. The year is taken to begin in March, so that a leap day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_a_backend_sets_is_read_without_harm(line in proptest::collection::vec(any::<u8>(), 0..80), date in "[0-9A-Za-z :,-]{0,40}") {
            told_by_cookie(&line, b"sid", NOW);
            told_by_cookie(format!("sid=1; Expires={date}").as_bytes(), b"sid", NOW);
        }
    }

    const NOW: u32 = 1_790_000_000;

    #[test]
    fn a_cookie_is_named_or_deleted() {
        for (line, told) in [
            ("sid=1", Some(Told::Named)),
            (" sid = 1 ; Path=/", Some(Told::Named)),
            ("sid=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", Some(Told::Named)),
            ("sid=1; Max-Age=0; Expires=Fri, 01 Jan 2100 00:00:00 GMT", Some(Told::Deleted)),
            ("sid=1; max-age=-1", Some(Told::Deleted)),
            ("sid=1; Max-Age=000", Some(Told::Deleted)),
            ("sid=1; Max-Age=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT", Some(Told::Deleted)),
            ("sid=1; Max-Age=0; Max-Age=9", Some(Told::Named)),
            ("sid=1; expires=Thu, 01-Jan-70 00:00:10 GMT", Some(Told::Deleted)),
            ("sid=1; Expires=Fri Jan  1 00:00:00 2100", Some(Told::Named)),
            ("sid=1; Expires=soon", Some(Told::Named)),
            ("sid=; Path=/", Some(Told::Deleted)),
            ("sid=\"\"", Some(Told::Deleted)),
            ("SID=1", None),
            ("sid", None),
            ("other=1; sid=1", None),
            ("", None),
        ] {
            assert_eq!(told_by_cookie(line.as_bytes(), b"sid", NOW), told, "{line}");
        }
    }

    #[test]
    fn dates_are_read_as_browsers_do() {
        for (date, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Tue, 29 Feb 2028 23:59:59 GMT", Some(1_835_481_599)),
            ("Wed, 01 Mar 2028 00:00:00 GMT", Some(1_835_481_600)),
            ("Mon, 21 Sep 2026 14:13:20 GMT", Some(1_790_000_000)),
            ("Thu, 01 Jan 1970 24:00:00 GMT", None),
            ("Thu, 32 Jan 1970 00:00:00 GMT", None),
            ("01 Jan 1970", None),
            ("", None),
        ] {
            assert_eq!(unix_seconds(date.as_bytes()), seconds, "{date}");
        }
    }
}
