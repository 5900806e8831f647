//! The lines of the control channel as they come, whatever they come from: the fuzz target compiles this as it stands.

use std::io::{BufRead, Read};

/// Puts the next line with its end into `line`; false where there is none any more.
///
/// # Errors
/// The reason, where nothing more can be read, the line has no end, or it has more than `most` bytes.
pub(super) fn next(reader: &mut impl BufRead, most: usize, line: &mut Vec<u8>) -> Result<bool, String> {
    line.clear();
    match reader.take(most as u64).read_until(b'\n', line) {
        Ok(0) => Ok(false),
        Ok(_) if line.last() == Some(&b'\n') => Ok(true),
        Ok(_) => Err("a line of the control channel was cut or too long".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
