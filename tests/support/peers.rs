//! Servers and clients that this project did not write.

use super::{Folder, eventually, process::Running};
use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

/// nginx from Debian, with one server for each name: it answers with its name at `/`, and with files at `/files/`.
#[derive(Debug)]
pub struct Nginx {
    pub backends: Vec<(String, String)>,
    pub process: Running,
    pub folder: Folder,
}

impl Nginx {
    #[track_caller]
    pub fn start(names: &[&str]) -> Self {
        Self::start_with(names, "", "", "")
    }

    /// The same with what is said behind `listen` and in each server (there `PORT` is its port), and what each answers with
    /// at `/` in place of its name.
    #[track_caller]
    pub fn start_with(names: &[&str], listen: &str, server: &str, says: &str) -> Self {
        // nginx takes no port 0: ports that are free now may be taken a moment later, and it then tries others.
        eventually("nginx finds free ports", || Self::try_start(names, [listen, server, says]))
    }

    fn try_start(names: &[&str], more: [&str; 3]) -> Option<Self> {
        let folder = Folder::new();
        let held: Vec<_> = names.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = held.iter().map(|held| held.local_addr().unwrap().to_string()).collect();
        let backends: Vec<_> = names.iter().map(|name| (*name).to_owned()).zip(addresses).collect();
        let file = folder.write("nginx.conf", &configuration(&folder.path(""), &backends, more));
        drop(held);
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file).args(["-g", "daemon off;"]);
        let mut process = Running::start(command);
        let serves = eventually("nginx serves or gives up", || match process.has_ended() {
            true => Some(false),
            false => backends.iter().all(|(_, address)| TcpStream::connect(address).is_ok()).then_some(true),
        });
        serves.then_some(Self { backends, process, folder })
    }

    /// A file that all servers have under `/files/`.
    pub fn file(&self, name: &str, content: &[u8]) {
        std::fs::write(self.folder.path("files").join(name), content).unwrap();
    }
}

fn configuration(folder: &Path, backends: &[(String, String)], [listen, server, says]: [&str; 3]) -> String {
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    std::fs::create_dir_all(format!("{folder}/files")).unwrap();
    let mut text = format!(
        "master_process off; pid {folder}/pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 2048; }}\n\
         http {{ access_log off; client_max_body_size 0; keepalive_requests 1000000;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        text += &format!("{kind}_temp_path {folder}/{kind};\n");
    }
    for (name, address) in backends {
        let server = server.replace("PORT", address.rsplit(':').next().unwrap());
        let says = if says.is_empty() { name } else { says };
        text += &format!(
            "server {{ listen {address} backlog=4096{listen}; {server} add_header X-Backend {name};\n\
             location / {{ return 200 \"{says}\"; }}\n\
             location /upload/ {{ root {folder}/files; dav_methods PUT; create_full_put_path on; }}\n\
             location /files/ {{ alias {folder}/files/; }} }}\n"
        );
    }
    text + "}\n"
}

/// Python's `http.server`, which serves the files of a folder over HTTP/1.0.
#[track_caller]
pub fn python_server(folder: &Folder) -> (String, Running) {
    let mut command = Command::new("python3");
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]).current_dir(folder.path(""));
    let process = Running::start(command);
    let port = eventually("http.server says its port", || {
        let said = process.stdout();
        let port = said.split_once(" port ")?.1.split_whitespace().next()?.to_owned();
        Some(port)
    });
    (format!("127.0.0.1:{port}"), process)
}

/// A Python program in the tests' own environment, made by `tests/run`.
pub fn python(program: &str, arguments: &[&str]) -> super::Outcome {
    super::Outcome::of(python_command(program, arguments))
}

/// The same, for one that may take longer than others.
#[track_caller]
pub fn python_within(patience: Duration, program: &str, arguments: &[&str]) -> super::Outcome {
    super::Outcome::within(patience, python_command(program, arguments))
}

/// The same, without waiting for its end.
pub fn start_python(program: &str, arguments: &[&str]) -> Running {
    Running::start(python_command(program, arguments))
}

fn python_command(program: &str, arguments: &[&str]) -> Command {
    let interpreter = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/python");
    assert!(interpreter.exists(), "no {}: run tests/run, which makes it", interpreter.display());
    let mut command = Command::new(interpreter);
    command.arg("-c").arg(program).args(arguments);
    command
}
