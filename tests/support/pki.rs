//! Certificates from OpenSSL, in a folder of their own.

use super::{Folder, Outcome, Setup};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An authority.
#[derive(Debug)]
pub struct Pki {
    pub folder: Folder,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Issued {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Issued {
    /// As an element of `certificate = […]`.
    pub fn toml(&self) -> String {
        format!("{{ chain = {:?}, key = {:?} }}", self.chain, self.key)
    }

    /// Puts another in its place, the key first, as a tool that renews does.
    pub fn replace_with(&self, other: &Self) {
        for (to, from) in [(&self.key, &other.key), (&self.chain, &other.chain)] {
            let fresh = to.with_extension("fresh");
            fs::copy(from, &fresh).unwrap();
            fs::rename(&fresh, to).unwrap();
        }
    }
}

impl Pki {
    #[track_caller]
    pub fn new() -> Self {
        let pki = Self { folder: Folder::new() };
        let (key, file) = (pki.file("ca.key"), pki.file("ca.pem"));
        pki.openssl(&[
            &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"],
            &["-subj", "/CN=Test authority", "-keyout", &key, "-out", &file],
        ]);
        pki
    }

    /// The authority's own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path("ca.pem")
    }

    /// A certificate for these names, as in `DNS:shop.test,IP:127.0.0.1`; files are called by `name`.
    #[track_caller]
    pub fn issue(&self, name: &str, names: &str) -> Issued {
        self.issue_as(name, names, "ec", 30)
    }

    /// The same with a kind of key, `ec` or `rsa`, and the days from now to its end, which may have passed.
    #[track_caller]
    pub fn issue_as(&self, name: &str, names: &str, kind: &str, days: i32) -> Issued {
        self.issue_to(&format!("/O=Example/CN={name}"), (name, names), kind, days)
    }

    /// One whose subject has no common name.
    #[track_caller]
    pub fn issue_nameless(&self, name: &str, names: &str) -> Issued {
        self.issue_to("/O=Example", (name, names), "ec", 30)
    }

    #[track_caller]
    fn issue_to(&self, subject: &str, (name, names): (&str, &str), kind: &str, days: i32) -> Issued {
        let (key, request, chain) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let [key, request, chain] = [key, request, chain].map(|file| self.file(&file));
        let option = if kind == "ec" { "ec_paramgen_curve:P-256" } else { "rsa_keygen_bits:2048" };
        self.openssl(&[
            &["req", "-newkey", kind, "-pkeyopt", option, "-nodes", "-keyout", &key, "-out", &request],
            &["-subj", subject],
        ]);
        let extensions = self.folder.write("extensions", &format!("subjectAltName={names}"));
        self.openssl(&[
            &["x509", "-req", "-in", &request, "-CA", &self.file("ca.pem"), "-CAkey", &self.file("ca.key")],
            &["-CAcreateserial", "-days", &days.to_string(), "-extfile", extensions.to_str().unwrap(), "-out", &chain],
        ]);
        Issued { chain: chain.into(), key: key.into() }
    }

    /// An OCSP response of the authority for a certificate that it has issued, in DER.
    #[track_caller]
    pub fn ocsp(&self, issued: &Issued) -> PathBuf {
        let (ca, key) = (self.file("ca.pem"), self.file("ca.key"));
        let [index, asked, answer] = ["index", "asked.der", "answer.der"].map(|name| self.file(name));
        fs::write(&index, "").unwrap();
        self.openssl(&[&["ocsp", "-issuer", &ca, "-cert", issued.chain.to_str().unwrap(), "-reqout", &asked]]);
        self.openssl(&[
            &["ocsp", "-index", &index, "-CA", &ca, "-rsigner", &ca, "-rkey", &key],
            &["-reqin", &asked, "-respout", &answer, "-ndays", "1"],
        ]);
        answer.into()
    }

    fn file(&self, name: &str) -> String {
        self.folder.path(name).to_str().unwrap().to_owned()
    }

    #[track_caller]
    fn openssl(&self, arguments: &[&[&str]]) {
        let mut command = Command::new("openssl");
        command.args(arguments.concat());
        let outcome = Outcome::of(command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    }
}

/// curl at `https://NAME:PORT/PATH`, with the address in place of what the name would lead to.
#[track_caller]
pub fn curl(address: &str, name: &str, path: &str, ca: &Path, more: &[&str]) -> Outcome {
    let port = address.rsplit(':').next().unwrap();
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--resolve", &format!("{name}:{port}:127.0.0.1")]);
    command.arg("--cacert").arg(ca).args(more).arg(format!("https://{name}:{port}{path}"));
    Outcome::of(command)
}

/// A listener `web` with this below `[listener.tls]`, that leads to the pool `shop`.
pub fn setup<A: std::fmt::Display>(
    tls: &str,
    certificates: &[&Issued],
    pool: &str,
    backends: impl IntoIterator<Item = (impl std::fmt::Display, A)>,
) -> Setup {
    let certificates: Vec<_> = certificates.iter().map(|each| each.toml()).collect();
    let listener = format!(
        "timeouts = {{ head = \"1s\", idle = \"1s\" }}\n[listener.tls]\ncertificate = [{}]\n{tls}",
        certificates.join(", ")
    );
    Setup::listening(&listener, pool, backends)
}
