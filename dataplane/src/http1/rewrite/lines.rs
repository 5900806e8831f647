use super::super::Field;
use std::ops::Range;

/// Appends field lines. Lines that stand side by side in the source, in the form in which they are written, are joined
/// into one copy.
pub(super) struct Lines<'b, 'o> {
    source: &'b [u8],
    out: &'o mut Vec<u8>,
    /// What is still to be copied from `source`.
    run: Range<usize>,
}

impl<'b, 'o> Lines<'b, 'o> {
    pub(super) fn new(source: &'b [u8], out: &'o mut Vec<u8>) -> Self {
        Self { source, out, run: 0..0 }
    }

    pub(super) fn keep(&mut self, field: &Field<'b>) {
        match self.plain_end(field) {
            Some(end) if field.at == self.run.end => self.run.end = end,
            Some(end) => {
                self.flush();
                self.run = field.at..end;
            }
            None => self.write(field, |value, out| {
                out.extend_from_slice(value);
                true
            }),
        }
    }

    /// Appends the line of `field` with the value that `write` makes of it, or no line where it returns false.
    pub(super) fn write(&mut self, field: &Field<'b>, write: impl FnOnce(&[u8], &mut Vec<u8>) -> bool) {
        self.flush();
        let before = self.out.len();
        self.out.extend_from_slice(field.label);
        self.out.extend_from_slice(b": ");
        if write(field.value, self.out) {
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.out.truncate(before);
        }
    }

    pub(super) fn finish(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        self.out.extend_from_slice(self.source.get(self.run.clone()).unwrap_or_default());
        self.run = 0..0;
    }

    /// Where the line ends, if it is `label: value CRLF` with no other space.
    fn plain_end(&self, field: &Field<'b>) -> Option<usize> {
        let line = self.source.get(field.at..)?;
        let (label, value) = (field.label.len(), field.value.len());
        let plain = line.get(label..)?.starts_with(b": ") && line.get(label + 2 + value..)?.starts_with(b"\r\n");
        plain.then_some(field.at + label + 2 + value + 2)
    }
}
