use super::{Checker, MAX_NAME, Path, backend_at, is_address};
use crate::spec::{Backend, Discover, Pool, Span};
use std::net::SocketAddr;

/// Leaves room for `-` and the longest address (RFC 4291 §2.2, with an embedded IPv4 address).
const MAX_DISCOVER: usize = MAX_NAME - 48;
const DAY: Span = Span::from_secs(86_400);
const YEAR: Span = Span::from_secs(365 * 86_400);

pub(super) fn names(checker: &mut Checker, path: &Path, pool: &Pool) {
    let at = path.key("names");
    let (interval, linger) = (pool.names.interval, pool.names.linger);
    let holds = (Span::from_secs(1)..=DAY).contains(&interval);
    checker.require(holds, at.key("interval"), format!("{interval} is out of range"), "write \"1s\" to \"1d\"");
    checker.require(linger <= YEAR, at.key("linger"), format!("{linger} is out of range"), "write \"0s\" to \"365d\"");
    let list = path.key("discover");
    checker.distinct(&list, pool.discover.iter().map(|each| each.name.as_str()));
    for (index, each) in pool.discover.iter().enumerate() {
        discover(checker, &list.index(index), each);
    }
}

fn discover(checker: &mut Checker, path: &Path, discover: &Discover) {
    checker.name(path.key("name"), &discover.name);
    let length = discover.name.len();
    checker.require(
        length <= MAX_DISCOVER || length > MAX_NAME,
        path.key("name"),
        format!("`{}` leaves no room for an address behind it", discover.name),
        format!("write at most {MAX_DISCOVER} bytes"),
    );
    let Discover { name: _, address, file, weight, backup } = discover.clone();
    if let Some(file) = file {
        let holds = !file.as_os_str().is_empty();
        checker.require(holds, path.key("file"), "is empty", "name a JSON file with a list of addresses");
        let right = "leave out either `address` or `file`";
        checker.require(address.is_empty(), path.key("address"), "is of no use beside `file`", right);
        // The weight has to be right all the same.
        let any = "127.0.0.1:1".to_owned();
        backend_at(checker, path, &Backend { name: String::new(), address: any, weight, backup });
        return;
    }
    let is_name = !is_address(&address) || (address.parse::<SocketAddr>().is_err() && !address.starts_with("unix:"));
    checker.require(
        is_name,
        path.key("address"),
        format!("`{address}` has no name"),
        "write \"app.internal:8080\", or make it a [[pool.backend]]",
    );
    backend_at(checker, path, &Backend { name: String::new(), address, weight, backup });
}
