use crate::failure::Failure;
use std::{
    io::{self, Write},
    process,
};

/// Writes to standard output at once. When whoever reads has had enough, as `head` has, the process ends well.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        written => written.map_err(Failure::doing("can't write to standard output")),
    }
}
