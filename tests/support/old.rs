//! Balancers that Steadfast takes over from: HAProxy and nginx from Debian, in front of the same backends.

use super::{Folder, Outcome, eventually, process::Running};
use std::{
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
};

/// A balancer with one port for each way in which it makes sessions stick.
#[derive(Debug)]
pub struct Old {
    pub addresses: Vec<String>,
    pub process: Running,
    folder: Folder,
}

impl Old {
    /// What it runs by.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path(FILE)
    }
}

const FILE: &str = "old.conf";

/// HAProxy with static cookies, with static ones that have dates, and with `dynamic-cookie-key`, in this order.
#[track_caller]
pub fn haproxy(backends: &[(String, String)], key: &str) -> Old {
    let server = |(name, address): &(String, String)| format!("  server {name} {address}");
    let fixed: String = backends.iter().map(|backend| format!("{} cookie {}\n", server(backend), backend.0)).collect();
    let free: String = backends.iter().map(|backend| format!("{}\n", server(backend))).collect();
    start(3, |_, addresses| {
        let [one, two, three] = addresses else { unreachable!("as many as asked for") };
        let text = format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             listen static\n  bind {one}\n  cookie SERVERID insert indirect nocache\n{fixed}\
             listen dated\n  bind {two}\n  cookie SERVERID insert indirect maxidle 30m maxlife 8h\n{fixed}\
             listen dynamic\n  bind {three}\n  dynamic-cookie-key {key}\n  cookie SERVERID insert indirect dynamic\n{free}"
        );
        (text, vec!["haproxy".into(), "-db".into(), "-f".into()])
    })
}

/// nginx with maps that do what `sticky cookie` would: Debian's has no such directive. The digests are `md5sum`'s, of
/// the addresses as nginx prints them.
#[track_caller]
pub fn nginx_sticky(backends: &[(String, String)]) -> Old {
    let servers: String = backends.iter().map(|(_, address)| format!("server {address};")).collect();
    let digests: Vec<_> = backends.iter().map(|(_, address)| (address, md5sum(address))).collect();
    let there: String = digests.iter().map(|(address, digest)| format!("\"{address}\" \"{digest}\";")).collect();
    let back: String = digests.iter().map(|(address, digest)| format!("\"{digest}\" \"{address}\";")).collect();
    start(1, |folder, addresses| {
        let folder = folder.path("");
        let folder = folder.to_str().unwrap().trim_end_matches('/');
        let mut text = format!(
            "master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n\
             http {{ access_log off; upstream shop {{ {servers} }}\n\
             map $upstream_addr $sid {{ {there} }} map $cookie_route $to {{ default shop; {back} }}\n"
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            text += &format!("{kind}_temp_path {folder}/{kind};\n");
        }
        text += &format!(
            "server {{ listen {}; location / {{ proxy_pass http://$to; add_header Set-Cookie \"route=$sid\"; }} }} }}\n",
            addresses[0]
        );
        (text, vec!["nginx".into(), "-g".into(), "daemon off;".into(), "-c".into()])
    })
}

#[track_caller]
fn md5sum(text: &str) -> String {
    let mut command = Command::new("bash");
    command.args(["-c", "printf %s \"$1\" | md5sum", "bash", text]);
    Outcome::of(command).stdout.split(' ').next().unwrap().to_owned()
}

/// Starts a balancer by what `configure` makes of its folder and its addresses: its configuration, and the words of its
/// command before that file. Neither takes port 0: ports that are free now may be taken a moment later, and others are tried then.
#[track_caller]
pub fn start(ports: usize, configure: impl Fn(&Folder, &[String]) -> (String, Vec<String>)) -> Old {
    eventually("the old balancer finds free ports", || {
        let folder = Folder::new();
        let held: Vec<_> = (0..ports).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = held.iter().map(|held| held.local_addr().unwrap().to_string()).collect();
        let (text, words) = configure(&folder, &addresses);
        let file = folder.write(FILE, &text);
        drop(held);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(file);
        let mut process = Running::start(command);
        let serves = eventually("the old balancer serves or gives up", || match process.has_ended() {
            true => Some(false),
            false => addresses.iter().all(|address| TcpStream::connect(address).is_ok()).then_some(true),
        });
        serves.then_some(Old { addresses, process, folder })
    })
}
