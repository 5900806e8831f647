//! HAProxy's own cookie: sessions that it bound go on where they are.

use super::{backend::Made, proxy::Proxy, sections::Statement, time};
use crate::import::{
    draft::Noted,
    report::{Ledger, Place, Verdict},
};
use control::spec::{
    Adopt, AdoptFrom, Affinity, AppCookie, AppCookieStyle, Cookie, Mode, Pool, SameSite, Secret, Span,
};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum How {
    #[default]
    Insert,
    Rewrite,
    Prefix,
}

/// What stands behind `cookie`.
#[derive(Debug, Default)]
struct Written {
    how: How,
    dynamic: bool,
    ours: Cookie,
    domain: Option<String>,
}

pub(super) fn cookie(ledger: &mut Ledger, proxy: &Proxy<'_>, pool: &mut Noted<Pool>, made: &[Made], line: &Statement) {
    let name = line.words.get(1).map_or("", String::as_str);
    let written = written(ledger, line);
    if written.how == How::Prefix {
        prefix(ledger, pool, line, name);
        return;
    }
    let key = proxy.last(&["dynamic-cookie-key"]).filter(|_| written.dynamic);
    let mut values = values(ledger, made);
    if key.is_none() {
        // A value that is its backend's name needs no word.
        values.retain(|value, name| value != name);
    }
    let adopt = Adopt {
        from: Some(if key.is_some() { AdoptFrom::HaproxyDynamic } else { AdoptFrom::Haproxy }),
        cookie: name.to_owned(),
        key: key.and_then(|key| key.words.get(1)).map(|key| Secret(key.clone())),
        values,
        domain: written.domain.clone(),
        ..Adopt::default()
    };
    let mut ours = written.ours;
    if ours.name == name {
        // Both have to be told apart.
        ours.name = format!("{name}-2");
    }
    let done = pool.set("affinity.cookie", line.place, |pool| {
        pool.affinity = Affinity { mode: Mode::Cookie, cookie: ours, ..Affinity::default() };
    });
    if let Err(why) = done {
        ledger.remark(line.place, Verdict::not_taken(why));
        return;
    }
    if let Err(why) = pool.set("affinity.adopt.0", line.place, |pool| pool.affinity.adopt = vec![adopt]) {
        ledger.remark(line.place, Verdict::not_taken(format!("its sessions begin anew: {why}")));
        return;
    }
    for made in made {
        if let Some(place) = made.server.options.get("cookie").map(|given| given.place) {
            pool.note("affinity.adopt.0", place);
        }
    }
    if let Some(key) = key {
        pool.note("affinity.adopt.0", key.place);
        ledger.remark(key.place, Verdict::taken("affinity.adopt.key"));
    } else if written.dynamic {
        ledger.part(line.place, "dynamic", Verdict::not_taken("there is no `dynamic-cookie-key`, which it needs"));
    }
    ledger.remark(
        line.place,
        match written.how {
            How::Rewrite => {
                let but = "the application's own cookie is left as it is and ours set beside it";
                Verdict::otherwise("affinity.mode = \"cookie\", with its sessions adopted", but)
            }
            How::Insert | How::Prefix => Verdict::taken("affinity.mode = \"cookie\", with its sessions adopted"),
        },
    );
}

fn written(ledger: &mut Ledger, line: &Statement) -> Written {
    let mut written = Written::default();
    let mut words = line.words.iter().skip(2).map(String::as_str);
    let place = line.place;
    while let Some(word) = words.next() {
        match word {
            "insert" => written.how = How::Insert,
            "rewrite" => written.how = How::Rewrite,
            "prefix" => written.how = How::Prefix,
            "dynamic" => written.dynamic = true,
            "postonly" => written.ours.postonly = true,
            "secure" => written.ours.secure = true,
            // So they are here unless set.
            "indirect" | "nocache" | "httponly" => {}
            "domain" => {
                let domain = words.next().unwrap_or_default();
                if written.domain.is_some() {
                    ledger.part(place, domain, Verdict::not_taken("a cookie has one domain"));
                } else {
                    written.domain = Some(domain.to_owned());
                    written.ours.domain = Some(domain.to_owned());
                }
            }
            "maxidle" => written.ours.idle_timeout = limit(ledger, place, word, words.next()),
            "maxlife" => written.ours.lifetime = limit(ledger, place, word, words.next()),
            "attr" => attribute(ledger, place, &mut written.ours, words.next().unwrap_or_default()),
            "preserve" => {
                let why = "what the application says of this cookie is passed on and not heeded";
                ledger.part(place, word, Verdict::not_taken(why));
            }
            other => ledger.part(place, other, Verdict::not_taken("nothing is known of it here")),
        }
    }
    written
}

fn limit(ledger: &mut Ledger, place: Place, word: &str, text: Option<&str>) -> Option<Span> {
    let read = time::read(text.unwrap_or_default(), "s");
    let fits = read.and_then(|span| match span >= Span::from_secs(1) {
        true => Ok(span),
        false => Err("the shortest is a second".to_owned()),
    });
    fits.map_err(|why| ledger.part(place, word, Verdict::not_taken(why))).ok()
}

fn attribute(ledger: &mut Ledger, place: Place, ours: &mut Cookie, attribute: &str) {
    let lower = attribute.to_ascii_lowercase();
    let (name, value) = lower.split_once('=').unwrap_or((&lower, ""));
    match (name.trim(), value.trim()) {
        ("samesite", "strict") => ours.same_site = SameSite::Strict,
        ("samesite", "lax") => ours.same_site = SameSite::Lax,
        ("samesite", "none") => ours.same_site = SameSite::None,
        ("partitioned", _) => ours.partitioned = true,
        ("max-age", seconds) if seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0) => {
            ours.max_age = seconds.parse::<u32>().ok().map(|seconds| Span::from_secs(seconds.into()));
        }
        _ => ledger.part(place, attribute, Verdict::not_taken("our cookie has no such attribute")),
    }
}

/// Backends by the values that HAProxy gave them.
fn values(ledger: &mut Ledger, made: &[Made]) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for Made { server, name } in made {
        let Some(given) = server.options.get("cookie") else { continue };
        let value = &given.argument;
        let octets = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        if value.is_empty() || !value.bytes().all(octets) {
            ledger.part(given.place, format!("cookie {value}"), Verdict::not_taken("it can't be a cookie's value"));
        } else if let Some(first) = values.get(value) {
            let why = format!("`{first}` has that value too, and gets its sessions");
            ledger.part(given.place, format!("cookie {value}"), Verdict::not_taken(why));
        } else {
            values.insert(value.clone(), name.clone());
        }
    }
    values
}

/// The pin stands in front of the application's cookie, here as there; but not in the same words.
fn prefix(ledger: &mut Ledger, pool: &mut Noted<Pool>, line: &Statement, name: &str) {
    let app_cookie = AppCookie { name: name.to_owned(), style: AppCookieStyle::Prefix, path_parameter: None };
    let done = pool.set("affinity", line.place, |pool| {
        pool.affinity = Affinity { mode: Mode::AppCookie, app_cookie: Some(app_cookie), ..Affinity::default() };
    });
    let why = match done {
        Ok(()) => {
            "it is mode = \"app-cookie\" with style = \"prefix\" here, but sessions that HAProxy has begun can't be \
                   adopted: let them end there before the cut-over, or their users begin anew"
                .to_owned()
        }
        Err(why) => why,
    };
    ledger.part(line.place, "prefix", Verdict::not_taken(why));
}
