//! A shop that keeps its sessions in memory: the kind of backend that needs a sticky balancer.

use super::carts::{Carts, Session};
use crate::{cli, failure::Failure};
use std::{
    hash::{BuildHasher, RandomState},
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process,
    sync::Arc,
    thread,
    time::Duration,
};

/// Its own cookie; the balancer's stands beside it.
const COOKIE: &str = "demo-session";
/// The longest head and the longest body that it takes, in bytes.
const MAX: u64 = 64 << 10;
/// A kept connection is closed after so long without a request.
const IDLE: Duration = Duration::from_secs(60);

/// Says on standard output where it listens, and serves until its standard input ends.
pub(crate) fn run(arguments: &cli::DemoBackend) -> Result<(), Failure> {
    let address = ("127.0.0.1", arguments.port);
    let listener = TcpListener::bind(address)
        .map_err(Failure::doing(format_args!("backend {} can't bind port {}", arguments.name, arguments.port)))?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    thread::spawn(|| {
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        process::exit(0);
    });
    let carts = match &arguments.carts {
        Some(folder) => Carts::shared(folder).map_err(Failure::doing("can't make the folder of the carts"))?,
        None => Carts::own(),
    };
    let shop = Arc::new(Shop { name: arguments.name.clone(), carts });
    for client in listener.incoming().flatten() {
        let shop = Arc::clone(&shop);
        // A client that goes away ends its own connection and nothing else.
        thread::spawn(move || drop(serve(&shop, &client)));
    }
    Ok(())
}

fn serve(shop: &Shop, client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(IDLE))?;
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    while let Some(request) = read_request(&mut reader)? {
        let Reply { status, cookie, text } = shop.answer(&request)?;
        let cookie = cookie.map(|id| format!("Set-Cookie: {COOKIE}={id}; Path=/; HttpOnly\r\n")).unwrap_or_default();
        let body = if request.method == "HEAD" { "" } else { text.as_str() };
        let connection = if request.keep { "keep-alive" } else { "close" };
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n{cookie}\r\n{body}",
            text.len()
        );
        (&*client).write_all(reply.as_bytes())?;
        if !request.keep {
            break;
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Request {
    method: String,
    path: String,
    query: String,
    /// The value of [`COOKIE`].
    session: Option<String>,
    keep: bool,
}

/// `None` at the end of the connection, and for what it does not understand.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = reader.by_ref().take(MAX);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        session: None,
        keep: version == "HTTP/1.1",
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(u64::MAX),
            "connection" => request.keep = !value.eq_ignore_ascii_case("close"),
            "cookie" => request.session = cookie(value).map(str::to_owned).or(request.session),
            "transfer-encoding" => return Ok(None),
            _ => {}
        }
    }
    if length > MAX || io::copy(&mut reader.take(length), &mut io::sink())? < length {
        return Ok(None);
    }
    Ok(Some(request))
}

fn cookie(header: &str) -> Option<&str> {
    header.split(';').find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

struct Shop {
    name: String,
    carts: Carts,
}

struct Reply {
    status: &'static str,
    /// The session that begins with it.
    cookie: Option<String>,
    text: String,
}

impl Shop {
    fn answer(&self, request: &Request) -> io::Result<Reply> {
        if let ("POST", "/login") = (request.method.as_str(), request.path.as_str()) {
            return self.login(request);
        }
        let known = request.session.as_ref().map(|id| self.carts.with(id, |session| self.shop(request, session)));
        let known = known.transpose()?.flatten();
        Ok(known.unwrap_or_else(|| match (request.method.as_str(), request.path.as_str()) {
            ("GET" | "HEAD", "/health") => self.ok("is well"),
            ("GET" | "HEAD", "/") => self.ok("hello, stranger"),
            ("GET" | "HEAD" | "POST", "/cart" | "/checkout") => {
                self.reply("401 Unauthorized", "no such session, please log in")
            }
            _ => self.no_such_page(),
        }))
    }

    fn login(&self, request: &Request) -> io::Result<Reply> {
        let Some(user) = argument(&request.query, "user") else {
            return Ok(self.reply("400 Bad Request", "say who you are, as in /login?user=ada"));
        };
        let id = format!("{:016x}", RandomState::new().hash_one(&user));
        let welcome = format!("welcome, {user}");
        self.carts.begin(&id, Session { user, cart: Vec::new() })?;
        Ok(Reply { cookie: Some(id), ..self.ok(&welcome) })
    }

    fn shop(&self, request: &Request, Session { user, cart }: &mut Session) -> Reply {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET" | "HEAD", "/health") => self.ok("is well"),
            ("GET" | "HEAD", "/") => self.ok(&format!("hello, {user}")),
            ("GET" | "HEAD", "/cart") => self.ok(&format!("{user}'s cart: {}", listed(cart))),
            ("POST", "/cart") => {
                let Some(item) = argument(&request.query, "item") else {
                    return self.reply("400 Bad Request", "say what to add, as in /cart?item=tea");
                };
                cart.push(item);
                self.ok(&format!("{user}'s cart: {}", listed(cart)))
            }
            ("POST", "/checkout") => {
                let bought = listed(&std::mem::take(cart));
                self.ok(&format!("{user} bought: {bought}"))
            }
            ("GET" | "HEAD", "/checkout") => self.reply("401 Unauthorized", "no such session, please log in"),
            _ => self.no_such_page(),
        }
    }

    fn no_such_page(&self) -> Reply {
        self.reply("404 Not Found", "there is /, /login, /cart and /checkout")
    }

    fn ok(&self, text: &str) -> Reply {
        self.reply("200 OK", text)
    }

    fn reply(&self, status: &'static str, text: &str) -> Reply {
        Reply { status, cookie: None, text: format!("{}: {text}\n", self.name) }
    }
}

fn listed(cart: &[String]) -> String {
    if cart.is_empty() { "nothing".to_owned() } else { cart.join(", ") }
}

/// The value of a query argument, decoded; `None` where it is absent or empty.
fn argument(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    let text: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(shop: &Shop, method: &str, target: &str, session: Option<&str>) -> (String, Option<String>, String) {
        let cookie = session.map(|id| format!("Cookie: lb-affinity=x; {COOKIE}={id}\r\n")).unwrap_or_default();
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{cookie}Content-Length: 2\r\n\r\nhi");
        let request = read_request(&mut text.as_bytes()).unwrap().unwrap();
        let Reply { status, cookie, text } = shop.answer(&request).unwrap();
        (status[..3].to_owned(), cookie, text)
    }

    #[test]
    fn a_session_shops_and_is_unknown_elsewhere() {
        let shop = |name: &str| Shop { name: name.to_owned(), carts: Carts::own() };
        let (here, elsewhere) = (shop("cart-1"), shop("cart-2"));
        assert_eq!(ask(&here, "GET", "/cart", None).0, "401");
        let (status, id, text) = ask(&here, "POST", "/login?user=Ada+L%C3%A9", None);
        assert_eq!((status.as_str(), text.as_str()), ("200", "cart-1: welcome, Ada Lé\n"));
        let id = id.as_deref();
        assert_eq!(ask(&here, "POST", "/cart?item=tea", id).2, "cart-1: Ada Lé's cart: tea\n");
        assert_eq!(ask(&here, "GET", "/cart", id).2, "cart-1: Ada Lé's cart: tea\n");
        assert_eq!(
            ask(&elsewhere, "GET", "/cart", id),
            ("401".into(), None, "cart-2: no such session, please log in\n".into())
        );
        assert_eq!(ask(&here, "POST", "/checkout", id).2, "cart-1: Ada Lé bought: tea\n");
        assert_eq!(ask(&here, "GET", "/cart", id).2, "cart-1: Ada Lé's cart: nothing\n");
        assert_eq!(ask(&here, "POST", "/cart", id).0, "400");
        assert_eq!(ask(&here, "DELETE", "/cart", id).0, "404");
    }

    #[test]
    fn requests_follow_each_other_and_nonsense_ends_the_connection() {
        let mut two = "GET / HTTP/1.1\r\n\r\nPOST /cart HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc".as_bytes();
        let first = read_request(&mut two).unwrap().unwrap();
        let second = read_request(&mut two).unwrap().unwrap();
        assert_eq!((first.path.as_str(), first.keep), ("/", true));
        assert_eq!((second.method.as_str(), second.keep), ("POST", false));
        for text in ["", "GET\r\n\r\n", "GET / HTTP/1.1\r\nHost: a", "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc"]
        {
            assert!(read_request(&mut text.as_bytes()).unwrap().is_none(), "{text}");
        }
    }
}
