use super::Limits;

/// Says when a head that comes in small pieces is worth another parse, so that a client which sends it byte by byte costs
/// no more than a few passes over it. One scan per head; it changes when an answer comes, never the answer.
///
/// Due are: the first bytes, each that ends an empty line, each doubling since the last parse, and the limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    seen: usize,
    parsed: usize,
}

impl HeadScan {
    /// `buf` is all that was read of the head up to now.
    pub fn due(&mut self, buf: &[u8], limits: &Limits) -> bool {
        let fresh = buf.get(self.seen.saturating_sub(2)..).unwrap_or_default();
        let due = buf.len() >= self.parsed * 2 || ends_empty_line(fresh) || limits.exhausted(buf);
        self.seen = buf.len();
        if due {
            self.parsed = buf.len();
        }
        due
    }
}

/// Whether an LF stands right after an LF or an LF CR: what a parser would take for the end, even where it is refused.
fn ends_empty_line(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| matches!(bytes.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_dribbles_in_is_parsed_a_few_times_and_at_once_when_it_is_whole() {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(10_000));
        let limits = Limits::default();
        let mut scan = HeadScan::default();
        let due: Vec<usize> =
            (1..=head.len()).filter(|len| scan.due(head.get(..*len).unwrap().as_bytes(), &limits)).collect();
        assert!(due.len() <= 16, "{due:?}");
        assert_eq!(due.last(), Some(&head.len()));
    }

    #[test]
    fn the_limit_is_always_due() {
        let limits = Limits { head: 100, ..Limits::default() };
        let mut scan = HeadScan::default();
        assert!(scan.due(&[b'x'; 90], &limits));
        assert!(!scan.due(&[b'x'; 99], &limits));
        assert!(scan.due(&[b'x'; 100], &limits));
    }
}
