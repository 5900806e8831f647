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
    let Discover { name: _, address, file, srv, weight, backup } = discover.clone();
    let other = if file.is_some() { "file" } else { "srv" };
    if let Some(file) = &file {
        let holds = !file.as_os_str().is_empty();
        checker.require(holds, path.key("file"), "is empty", "name a JSON file with a list of addresses");
        checker.require(srv.is_none(), path.key("srv"), "is of no use beside `file`", "leave out one of the two");
    }
    if let Some(name) = &srv {
        let right = "write a name of DNS such as \"_http._tcp.app.internal\"";
        checker.require(is_service(name), path.key("srv"), format!("`{}` is no such name", name.escape_debug()), right);
    }
    if file.is_some() || srv.is_some() {
        let right = format!("leave out either `address` or `{other}`");
        checker.require(address.is_empty(), path.key("address"), format!("is of no use beside `{other}`"), right);
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

/// Labels of 1 to 63 letters, digits, `-` and `_` (RFC 2782 has services begin with one), in 253 bytes (RFC 1035 section 2.3.4).
fn is_service(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
    };
    name.len() <= 253 && name.split('.').count() > 1 && name.split('.').all(is_label)
}
