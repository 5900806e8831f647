//! What only the machine can tell about a configuration: files and folders, the user, the length of socket paths.

use super::Purpose;
use crate::user::Account;
use control::{
    Path, Problem,
    access_log::{AccessLog, LogTo},
    check::Step,
    config::{Config, Etcd, Global},
    spec::{Certificate, Tls, TlsSettings},
};
use rustix::{
    fs::{Access, access},
    process::geteuid,
};
use std::{
    fs::{self, Metadata},
    io,
    net::SocketAddr,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path,
    time::{SystemTime, UNIX_EPOCH},
};

/// The longest path of a Unix socket, in bytes; one more ends it.
const MAX_SOCKET_PATH: usize = 107;

#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// Looks and changes nothing. `file` is the configuration itself.
pub(super) fn look(config: &Config, file: &path::Path, purpose: Purpose) -> Findings {
    let mut findings = Findings::default();
    let root = Path::default();
    let (global, admin) = (root.key("global"), root.key("admin"));
    let runs_as = user(&mut findings, config, purpose);
    if let (Some(account), Ok(metadata)) = (&runs_as, fs::metadata(file))
        && !may_read(account, &metadata)
    {
        let wrong = format!("user `{}`, whom the admin process runs as, can't read this file", account.name);
        findings.wrong(
            root.clone(),
            wrong,
            format!("chgrp it to a group of that user and chmod 640 {}", file.display()),
        );
    }
    for (key, folder, default) in [
        ("state_dir", &config.global.state_dir, Global::default().state_dir),
        ("runtime_dir", &config.global.runtime_dir, Global::default().runtime_dir),
    ] {
        // As root with a user set, the supervisor makes the folder and gives it to that user.
        if runs_as.is_none()
            && let Err(wrong) = may_fill(folder)
        {
            // A disk may become read-only while all runs. Whoever starts again then does with what is there: the data plane
            // serves by its snapshot, and the admin process names its store.
            if purpose == Purpose::Serve && key == "state_dir" && folder.is_dir() {
                findings.warnings.push(format!("global.{key}: {wrong}"));
                continue;
            }
            let right = format!("set global.{key} to a folder that you may write to");
            let right = if *folder == default { format!("{right}, or run as root") } else { right };
            findings.wrong(global.key(key), wrong, right);
        }
    }
    // The longest name of those in it.
    socket_path(&mut findings, global.key("runtime_dir"), &config.global.runtime_dir.join("dataplane.notify"));
    if let Some(socket) = config.admin.listen.strip_prefix("unix:") {
        socket_path(&mut findings, admin.key("listen"), path::Path::new(socket));
    }
    if let Some(file) = &config.admin.token_file {
        let right = "write a long random token into it";
        filled_secret(&mut findings, &admin.key("token_file"), file, runs_as.as_ref(), right);
    }
    if let Some(AccessLog { to: LogTo::File(file), .. }) = &config.access_log {
        log_file(&mut findings, &root.key("access_log").key("to"), file, "data plane");
    }
    if let Some(file) = &config.admin.audit_log {
        log_file(&mut findings, &admin.key("audit_log"), file, "admin process");
    }
    if matches!(purpose, Purpose::Run | Purpose::Reload) {
        certificates(&mut findings, config, runs_as.as_ref());
    }
    admin_tls(&mut findings, config, runs_as.as_ref());
    if let Some(settings) = &config.membership.etcd {
        etcd(&mut findings, settings, runs_as.as_ref());
    }
    secret(&mut findings, &global.key("keys_file"), &config.global.keys_path(), runs_as.as_ref(), false);
    findings
}

/// That there is a folder for the file. What is there by then is looked at when it is opened: a log that can't be written keeps
/// nobody from serving.
fn log_file(findings: &mut Findings, at: &Path, file: &path::Path, writer: &str) {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let right = format!("make it, and let the user write there whom the {writer} runs as");
        findings.wrong(at.clone(), format!("there is no folder `{}`", folder.display()), right);
    } else if file.is_dir() {
        findings.wrong(at.clone(), format!("`{}` is a folder", file.display()), "name a file in it");
    }
}

impl Findings {
    fn wrong(&mut self, path: Path, wrong: impl Into<String>, right: impl Into<String>) {
        self.problems.push(Problem { path, wrong: wrong.into(), right: right.into() });
    }
}

/// The certificates of the listeners with TLS. A data plane that starts again serves by those that it can read.
fn certificates(findings: &mut Findings, config: &Config, reader: Option<&Account>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for (index, pool) in config.pools.iter().enumerate() {
        let at = Path::default().key("pool").index(index).key("tls");
        let problems = pool.tls.as_ref().and_then(|tls| certificates::trust(tls, &at, &[]).err());
        findings.problems.extend(problems.into_iter().flatten());
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let Some(Tls::With(settings)) = &listener.tls else { continue };
        let at = Path::default().key("listener").index(index).key("tls");
        match certificates::load(settings, &at) {
            Err(problems) => findings.problems.extend(problems),
            Ok(loaded) => {
                for (certificate, facts) in settings.certificates.iter().zip(&loaded.facts) {
                    if let Some(why) = facts.untimely(now) {
                        let shown = certificate.chain.display();
                        findings.warnings.push(format!("the certificate in {shown} {why}; clients will refuse it"));
                    }
                }
            }
        }
        for (index, certificate) in settings.certificates.iter().enumerate() {
            readers(findings, &at.key("certificate").index(index), certificate, reader);
        }
    }
}

/// What the API is served with over TLS; and whether it should be.
fn admin_tls(findings: &mut Findings, config: &Config, reader: Option<&Account>) {
    let at = Path::default().key("admin").key("tls");
    let Some(certificate) = &config.admin.tls else {
        let exposed = config.admin.listen.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
        if exposed {
            let warning = "the API leaves this machine in plain text, the token with it: set admin.tls";
            findings.warnings.push(warning.to_owned());
        }
        return;
    };
    let settings = TlsSettings { certificates: vec![certificate.clone()], ..TlsSettings::default() };
    for mut problem in certificates::load(&settings, &at).err().into_iter().flatten() {
        // There is one, and no list of them.
        problem.path.0.retain(|step| !matches!(step, Step::Index(_)) && *step != Step::Key("certificate".to_owned()));
        findings.problems.push(problem);
    }
    readers(findings, &at, certificate, reader);
}

/// What the admin process needs to speak to etcd.
fn etcd(findings: &mut Findings, settings: &Etcd, reader: Option<&Account>) {
    let at = Path::default().key("membership").key("etcd");
    if let Some(file) = &settings.password_file {
        let right = "write the password of the user into it";
        filled_secret(findings, &at.key("password_file"), file, reader, right);
        let plain = settings.endpoints.iter().find(|endpoint| {
            let host = endpoint.strip_prefix("http://").unwrap_or("127.");
            !["127.", "localhost:", "[::1]:"].iter().any(|own| host.starts_with(own))
        });
        if let Some(endpoint) = plain {
            findings.warnings.push(format!("the password goes to {endpoint} in plain text: use https"));
        }
    }
    // The files are told by the keys that they have here.
    let called = [("ca", "ca_file"), ("chain", "cert_file"), ("key", "key_file")];
    for mut problem in certificates::trust(&settings.tls(), &at, &[]).err().into_iter().flatten() {
        if let Some(Step::Key(last)) = problem.path.0.last_mut()
            && let Some((_, own)) = called.iter().find(|(there, _)| there == last)
        {
            (*own).clone_into(last);
        }
        findings.problems.push(problem);
    }
    for (key, file) in [("cert_file", &settings.cert_file), ("key_file", &settings.key_file)] {
        let Some((file, metadata)) = file.as_ref().and_then(|file| Some((file, fs::metadata(file).ok()?))) else {
            continue;
        };
        let shown = file.display();
        if let Some(account) = reader.filter(|account| !may_read(account, &metadata)) {
            let wrong = format!("`{shown}` can't be read by user `{}`, whom the admin process runs as", account.name);
            let right = format!("chgrp it to a group of that user and chmod 640 {shown}");
            findings.wrong(at.key(key), wrong, right);
        }
    }
}

/// That those can read a certificate's files who have to, and nobody else its key.
fn readers(findings: &mut Findings, at: &Path, certificate: &Certificate, reader: Option<&Account>) {
    for (key, file) in [("chain", &certificate.chain), ("key", &certificate.key)] {
        let Ok(metadata) = fs::metadata(file) else { continue };
        let shown = file.display();
        if let Some(account) = reader.filter(|account| !may_read(account, &metadata)) {
            let wrong = format!("`{shown}` can't be read by user `{}`, whom the children run as", account.name);
            let right = format!("chgrp it to a group of that user and chmod 640 {shown}");
            findings.wrong(at.key(key), wrong, right);
        }
        if key == "key" && metadata.mode() & 0o007 != 0 {
            let warning = format!("every user of this machine can read the key {shown}: chmod 640 {shown}");
            findings.warnings.push(warning);
        }
    }
}

/// Whom the children will run as, where that is not who this process is.
fn user(findings: &mut Findings, config: &Config, purpose: Purpose) -> Option<Account> {
    if matches!(purpose, Purpose::Serve | Purpose::Reload) {
        return None;
    }
    let (path, is_root) = (Path::default().key("global").key("user"), geteuid().is_root());
    let Some(name) = &config.global.user else {
        if is_root {
            findings.warnings.push("runs as root; set global.user to a user without rights of its own".to_owned());
        }
        return None;
    };
    match Account::find(name) {
        Ok(Some(account)) if is_root => return Some(account),
        Ok(Some(account)) if account.is_self() => {}
        Ok(Some(_)) => findings.wrong(
            path,
            format!("only root can run the children as `{name}`"),
            "start it as root, or remove the key to run as yourself",
        ),
        Ok(None) => findings.wrong(path, format!("there is no user `{name}`"), "name a user of this machine"),
        Err(error) => findings.wrong(path, format!("can't look up user `{name}`: {error}"), "name a user"),
    }
    None
}

/// Whether this process may make files in `folder`, which need not be there yet.
fn may_fill(folder: &path::Path) -> Result<(), String> {
    let there = folder.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()).unwrap_or(path::Path::new("."));
    let subject = if there == folder {
        format!("`{}`", folder.display())
    } else {
        format!("`{}` can't be made: `{}`", folder.display(), there.display())
    };
    if !there.is_dir() {
        return Err(format!("{subject} is no folder"));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("{subject} can't be written to: {}", io::Error::from(error)))
}

fn socket_path(findings: &mut Findings, path: Path, socket: &path::Path) {
    let length = socket.as_os_str().as_bytes().len();
    if length > MAX_SOCKET_PATH {
        let wrong = format!("`{}` is too long for a socket: {length} bytes", socket.display());
        findings.wrong(path, wrong, format!("use a shorter folder; {MAX_SOCKET_PATH} bytes are the most"));
    }
}

/// That there is something in a file that must be a secret of whoever reads it.
fn filled_secret(findings: &mut Findings, at: &Path, file: &path::Path, reader: Option<&Account>, right: &str) {
    if let Some(content) = secret(findings, at, file, reader, true)
        && content.trim_ascii().is_empty()
    {
        findings.wrong(at.clone(), format!("`{}` is empty", file.display()), right);
    }
}

/// The content of a file that must be a secret of whoever reads it.
fn secret(
    findings: &mut Findings,
    at: &Path,
    file: &path::Path,
    reader: Option<&Account>,
    required: bool,
) -> Option<Vec<u8>> {
    let shown = file.display();
    let (metadata, content) = match (fs::metadata(file), fs::read(file)) {
        (Ok(metadata), Ok(content)) => (metadata, content),
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
            if required {
                findings.wrong(at.clone(), format!("there is no file `{shown}`"), "make it, with mode 0600");
            }
            return None;
        }
        (Err(error), _) | (_, Err(error)) => {
            let right = "let the user that Steadfast runs as read it";
            findings.wrong(at.clone(), format!("`{shown}` can't be read: {error}"), right);
            return None;
        }
    };
    if let Some(account) = reader.filter(|account| !may_read(account, &metadata)) {
        let wrong = format!("`{shown}` can't be read by user `{}`", account.name);
        findings.wrong(at.clone(), wrong, format!("chown {} {shown}", account.name));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o066 != 0 {
        let wrong = format!("others than its owner can read or write `{shown}` (mode {mode:04o})");
        findings.wrong(at.clone(), wrong, format!("chmod 600 {shown}"));
    }
    Some(content)
}

fn may_read(account: &Account, metadata: &Metadata) -> bool {
    let bit = match (metadata.uid() == account.uid, metadata.gid() == account.gid) {
        (true, _) => 0o400,
        (false, true) => 0o040,
        (false, false) => 0o004,
    };
    account.uid == 0 || metadata.mode() & bit != 0
}
