//! What came through, held to what readers of others make of it: `judges.py`.

use super::{
    backend::Taken,
    cases::{Answering, Asking, Forwarded, Passed, bytes, string, text},
    support::{Folder, Outcome, peers::python_within},
};
use serde_json::{Value, json};
use std::time::Duration;

/// What a backend saw of a case, by its connections, and what it has to have been.
pub struct Seen<'c> {
    pub case: &'c Asking,
    pub expected: Vec<Forwarded>,
    pub came: Taken,
}

/// What a client saw of a case.
pub struct Came<'c> {
    pub case: &'c Answering,
    pub bytes: Vec<u8>,
    pub reset: bool,
    /// What it asked for behind that.
    pub next: Option<String>,
}

/// An answer of the recording backend, as it came to the client.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub seen: String,
}

impl Answer {
    /// The first one in these bytes, which are then those behind it.
    pub fn take(rest: &mut &[u8], method: &str) -> Option<Self> {
        loop {
            let end = rest.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            let head = text(&rest[..end]);
            let status: u16 = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
            let value =
                |name: &str| Some(head.split_once(&format!("\r\n{name}: "))?.1.split("\r\n").next()?.to_owned());
            let length = value("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let length = if status < 200 || method == "HEAD" { 0 } else { length };
            *rest = rest.get(end + length..)?;
            if status >= 200 {
                let seen = value("X-Seen").or_else(|| value("x-seen")).unwrap_or_default();
                return Some(Self { status, seen });
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn ask(question: &Value) -> Value {
    let folder = Folder::new();
    let file = folder.write("bytes.json", &question.to_string());
    let arguments = [file.to_str().unwrap()];
    let Outcome { stdout, stderr, .. } = python_within(Duration::from_secs(120), include_str!("judges.py"), &arguments);
    assert_eq!(stderr, "");
    serde_json::from_str(&stdout).unwrap()
}

/// Holds what backends saw to what was to be seen, and tells what is otherwise.
pub fn requests(seen: &[Seen<'_>]) -> Vec<String> {
    let streams: Vec<_> = seen.iter().flat_map(|seen| seen.came.streams.iter().map(|stream| hex(stream))).collect();
    let told = ask(&json!({ "requests": streams, "responses": [] }));
    let mut told = told["requests"].as_array().unwrap().iter();
    // It may come at any time, for nobody waits for it.
    let perhaps: Vec<_> = seen.iter().flat_map(|seen| &seen.case.perhaps).collect();
    let mut wrong = Vec::new();
    for seen in seen {
        let told: Vec<_> = told.by_ref().take(seen.came.streams.len()).collect();
        for reader in ["h11", "llhttp", "gunicorn"] {
            let told: Vec<_> = told.iter().map(|told| &told[reader]).collect();
            if let Err(why) = agrees(seen, reader, &told, &perhaps) {
                let streams: Vec<_> = seen.came.streams.iter().map(|stream| text(stream)).collect();
                wrong.push(format!("{}: {reader}: {why}\n    of {streams:?}", seen.case.name));
            }
        }
        if let Err(why) = carelessly(seen, &perhaps) {
            wrong.push(format!("{}: carelessly: {why}", seen.case.name));
        }
        let text: String = seen.came.streams.iter().map(|stream| text(stream).to_lowercase()).collect();
        for absent in &seen.case.absent {
            if text.contains(&absent.to_lowercase()) {
                wrong.push(format!("{}: {absent:?} came through: {text:?}", seen.case.name));
            }
        }
        for present in &seen.case.present {
            if !text.contains(&present.to_lowercase()) {
                wrong.push(format!("{}: {present:?} is gone: {text:?}", seen.case.name));
            }
        }
    }
    wrong
}

/// Whether a reader found in the streams of a case what was to be found.
fn agrees(seen: &Seen<'_>, reader: &str, told: &[&Value], perhaps: &[&Forwarded]) -> Result<(), String> {
    let mut found = Vec::new();
    for stream in told {
        for request in stream["requests"].as_array().unwrap() {
            framed_once(request)?;
            found.push(Forwarded {
                method: string(request, "method"),
                target: string(request, "target"),
                host: string(request, "host"),
                body: string(request, "body"),
            });
        }
        let rest = string(stream, "rest");
        let may_be_cut = rest == "incomplete" && (seen.case.cut || seen.case.begun);
        let is_unread = rest.starts_with("refused") && seen.case.unread_by.iter().any(|unread| unread == reader);
        if !rest.is_empty() && !may_be_cut && !is_unread {
            return Err(format!("the rest is {rest:?}"));
        }
    }
    if seen.case.unread_by.iter().any(|unread| unread == reader) {
        // It reads no request of this kind, and so in no other way.
        let others = found.iter().filter(|found| !seen.expected.iter().any(|expected| reads_as(expected, found)));
        return others.map(|other| Err(format!("it found {other:?}"))).next().unwrap_or(Ok(()));
    }
    let mut expected = seen.expected.clone();
    expected.iter_mut().for_each(|each| each.body = text(&bytes(&each.body)));
    found.retain(|found| !perhaps.iter().any(|perhaps| reads_as(perhaps, found)));
    expected.sort();
    found.sort();
    if found == expected { Ok(()) } else { Err(format!("it found {found:?}")) }
}

/// The same of the most careless reader, who asks for no host.
fn carelessly(seen: &Seen<'_>, perhaps: &[&Forwarded]) -> Result<(), String> {
    let plain = |each: &Forwarded| (each.method.clone(), each.target.clone(), text(&bytes(&each.body)));
    let perhaps: Vec<_> = perhaps.iter().map(|each| plain(each)).collect();
    let mut expected: Vec<_> = seen.expected.iter().map(plain).collect();
    let read = seen.came.read.iter().map(|each| (each.method.clone(), each.target.clone(), text(&each.body)));
    let mut found: Vec<_> = read.filter(|found| !perhaps.contains(found)).collect();
    expected.sort();
    found.sort();
    if found == expected { Ok(()) } else { Err(format!("it found {found:?}")) }
}

fn reads_as(expected: &Forwarded, found: &Forwarded) -> bool {
    let body = text(&bytes(&expected.body));
    Forwarded { body, ..expected.clone() } == *found
}

/// A request says once where it ends, in the one way that nobody reads otherwise, and once for whom it is.
fn framed_once(request: &Value) -> Result<(), String> {
    let (mut framing, mut hosts) = (0, 0);
    for field in request["fields"].as_array().unwrap() {
        let (name, value) = (field[0].as_str().unwrap(), field[1].as_str().unwrap());
        match name {
            "content-length" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => framing += 1,
            "transfer-encoding" if value == "chunked" => framing += 1,
            "content-length" | "transfer-encoding" => return Err(format!("{name}: {value:?}")),
            "host" => hosts += 1,
            _ => {}
        }
    }
    if framing < 2 && hosts == 1 { Ok(()) } else { Err(format!("it is framed or addressed in two ways: {request}")) }
}

/// Holds what clients saw to what was to be seen, and tells what is otherwise.
pub fn responses(seen: &[Came<'_>]) -> Vec<String> {
    let asked: Vec<_> =
        seen.iter().map(|came| json!({ "method": came.case.method, "bytes": hex(&came.bytes) })).collect();
    let told = ask(&json!({ "requests": [], "responses": asked }));
    let mut wrong = Vec::new();
    for (came, told) in seen.iter().zip(told["responses"].as_array().unwrap()) {
        for (reader, told) in told.as_object().unwrap() {
            if let Err(why) = came.is(reader, told) {
                wrong.push(format!("{}: {reader}: {why}\n    of {:?}", came.case.name, text(&came.bytes)));
            }
        }
    }
    wrong
}

impl Came<'_> {
    /// Whether a reader found what was to be found.
    fn is(&self, reader: &str, told: &Value) -> Result<(), String> {
        let ours = self.case.refused.map(|status| Passed { status, ..Passed::default() });
        let expected = self.case.passed.as_ref().or(ours.as_ref()).unwrap();
        if expected.cut && told["status"] == 502 && told["whole"] == true {
            // What is wrong came together with the head, and nothing of it was sent.
            return self.is_alone(false, &string(told, "left"), reader);
        }
        if told["status"] != expected.status {
            return Err(format!("not {}: {told}", expected.status));
        }
        let whole = told["whole"] == true && !self.reset;
        if whole == expected.cut && !expected.taken_by.iter().any(|taken| taken == reader) {
            return Err(format!("whole: {whole}, {told}"));
        }
        let (body, meant) = (string(told, "body"), text(&bytes(&expected.body)));
        let is_so = if expected.cut { meant.starts_with(&body) } else { body == meant || self.case.refused.is_some() };
        if !is_so {
            return Err(format!("the body is {body:?}"));
        }
        if reader != "http.client" && self.case.refused.is_none() && told["interim"] != json!(expected.interim) {
            return Err(format!("before it came {}", told["interim"]));
        }
        let head = text(&self.bytes).to_lowercase();
        if let Some(absent) = expected.absent.iter().find(|absent| head.contains(&absent.to_lowercase())) {
            return Err(format!("{absent:?} came through"));
        }
        self.is_alone(expected.cut, &string(told, "left"), reader)
    }

    /// Behind the response stands nothing but the answer to what the client asked for next.
    fn is_alone(&self, cut: bool, left: &str, reader: &str) -> Result<(), String> {
        match (&self.next, left) {
            (_, "") => Ok(()),
            (Some(_), "another response") if !cut && reader == "llhttp" => Ok(()),
            (Some(next), left) if !cut => {
                let bytes = bytes(left);
                let mut rest = &bytes[..];
                let answer =
                    Answer::take(&mut rest, "GET").filter(|answer| (answer.status, &answer.seen) == (200, next));
                if answer.is_some() && rest.is_empty() { Ok(()) } else { Err(format!("behind it stands {left:?}")) }
            }
            _ => Err(format!("behind it stands {left:?}")),
        }
    }
}
