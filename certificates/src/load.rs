//! From files to certificates that can be shown, or to all that is wrong with them.

use control::{
    Path, Problem,
    spec::{Certificate, TlsSettings},
};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use std::{fs, io, path, sync::Arc};
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    prelude::{FromDer, X509Certificate},
};

/// The largest file that is read for a certificate: chains have a few kilobytes, lists of authorities a few hundred.
const MAX_FILE: u64 = 4 << 20;

/// What a listener's files hold.
pub struct Loaded {
    /// In the order of the settings, and never empty.
    pub(crate) certificates: Vec<Arc<CertifiedKey>>,
    pub facts: Vec<Facts>,
    /// The authorities of clients' certificates; absent where none is asked for.
    pub(crate) authorities: Option<Authorities>,
}

pub(crate) struct Authorities {
    pub(crate) roots: Arc<RootCertStore>,
    /// The file as it was, by which a change of it is seen.
    pub(crate) pem: Vec<u8>,
}

impl Loaded {
    /// By what a change of the clients' authorities shows.
    pub fn authorities_pem(&self) -> Option<&[u8]> {
        self.authorities.as_ref().map(|authorities| authorities.pem.as_slice())
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The names that it is for, in lower case: `shop.example.com`, `*.example.com`, or an address.
    pub names: Vec<String>,
    /// Unix seconds.
    pub not_before: u64,
    /// Unix seconds.
    pub not_after: u64,
}

impl Facts {
    /// Why no client takes it at this time, in Unix seconds.
    pub fn untimely(&self, now: u64) -> Option<&'static str> {
        if self.not_after <= now {
            return Some("has expired");
        }
        (self.not_before > now).then_some("is not valid yet")
    }
}

/// Reads all the files of a listener's `[listener.tls]`, of which `at` is the place in the configuration.
///
/// # Errors
/// Everything that is wrong with them. That a certificate has expired is not: see [`Facts::untimely`].
pub fn load(settings: &TlsSettings, at: &Path) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let (mut certificates, mut facts) = (Vec::new(), Vec::new());
    for (index, each) in settings.certificates.iter().enumerate() {
        match certificate(each, &at.key("certificate").index(index)) {
            Ok((certified, about)) => {
                certificates.push(Arc::new(certified));
                facts.push(about);
            }
            Err(found) => problems.extend(found),
        }
    }
    let authorities = settings.clients.ca.as_deref().map(|file| authorities(file, &at.key("clients").key("ca")));
    let authorities = match authorities.transpose() {
        Ok(authorities) => authorities,
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    if problems.is_empty() && !certificates.is_empty() {
        return Ok(Loaded { certificates, facts, authorities });
    }
    Err(problems)
}

fn certificate(settings: &Certificate, at: &Path) -> Result<(CertifiedKey, Facts), Vec<Problem>> {
    let chain = chain(&settings.chain, &at.key("chain"));
    let key = key(&settings.key, &at.key("key"));
    let staple = settings.ocsp.as_deref().map(|file| read(file, &at.key("ocsp"))).transpose();
    let (((chain, facts), key), staple) = match (chain, key, staple) {
        (Ok(chain), Ok(key), Ok(staple)) => ((chain, key), staple),
        (chain, key, staple) => return Err([chain.err(), key.err(), staple.err()].into_iter().flatten().collect()),
    };
    let file = settings.key.display();
    let signs = aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|_| {
        vec![problem(
            &at.key("key"),
            format!("the key in `{file}` can't be used"),
            "take an RSA key of 2048 to 8192 bits, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key",
        )]
    })?;
    let mut certified = CertifiedKey::new(chain, signs);
    certified.ocsp = staple;
    match certified.keys_match() {
        // Of some kinds of key the public half is not known: then the handshake shows it.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok((certified, facts)),
        Err(_) => {
            let wrong = format!("the key in `{file}` is not that of the certificate in `{}`", settings.chain.display());
            Err(vec![problem(
                &at.key("key"),
                wrong,
                "name the key that the certificate was made for, and put the server's own certificate first",
            )])
        }
    }
}

/// A client's chain with its key.
pub(crate) fn chain_and_key(
    chain_file: &path::Path,
    key_file: &path::Path,
    at: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Vec<Problem>> {
    match (chain(chain_file, &at.key("chain")), key(key_file, &at.key("key"))) {
        (Ok((chain, _)), Ok(key)) => Ok((chain, key)),
        (chain, key) => Err([chain.err(), key.err()].into_iter().flatten().collect()),
    }
}

fn chain(file: &path::Path, at: &Path) -> Result<(Vec<CertificateDer<'static>>, Facts), Problem> {
    let shown = file.display();
    let pem = read(file, at)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| problem(at, format!("`{shown}` is no PEM file: {error}"), "name a PEM file"))?;
    let Some(leaf) = chain.first() else {
        return Err(problem(at, format!("there is no certificate in `{shown}`"), "name a PEM file with a certificate"));
    };
    let facts = facts(leaf).ok_or_else(|| {
        problem(
            at,
            format!("the first certificate in `{shown}` can't be read"),
            "name a file with an X.509 certificate",
        )
    })?;
    Ok((chain, facts))
}

fn key(file: &path::Path, at: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let shown = file.display();
    let pem = zeroize::Zeroizing::new(read(file, at)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        if !matches!(error, pem::Error::NoItemsFound) {
            return problem(at, format!("`{shown}` is no PEM file: {error}"), "name a PEM file");
        }
        if memchr::memmem::find(&pem, b"ENCRYPTED").is_some() {
            let wrong = format!("the key in `{shown}` is encrypted, and nobody is there to ask for its password");
            return problem(at, wrong, "decrypt it (openssl pkey -in FILE -out FILE) and keep others from the file");
        }
        problem(at, format!("there is no private key in `{shown}`"), "name a PEM file with a private key")
    })
}

pub(crate) fn authorities(file: &path::Path, at: &Path) -> Result<Authorities, Problem> {
    let shown = file.display();
    let pem = read(file, at)?;
    let right = "name a PEM file with the certificates of authorities";
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))
            .map_err(|error| problem(at, format!("a certificate in `{shown}` can't be used: {error}"), right))?;
    }
    if roots.is_empty() {
        return Err(problem(at, format!("there is no certificate in `{shown}`"), right));
    }
    Ok(Authorities { roots: Arc::new(roots), pem })
}

fn read(file: &path::Path, at: &Path) -> Result<Vec<u8>, Problem> {
    let shown = file.display();
    let size = fs::metadata(file).map(|metadata| metadata.len());
    if let Ok(size) = size
        && size > MAX_FILE
    {
        return Err(problem(at, format!("`{shown}` has {size} bytes"), "name a PEM file"));
    }
    fs::read(file).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return problem(at, format!("there is no file `{shown}`"), "name a file that is there");
        }
        problem(at, format!("`{shown}` can't be read: {error}"), "let the user that Steadfast runs as read it")
    })
}

pub(crate) fn problem(at: &Path, wrong: impl Into<String>, right: impl Into<String>) -> Problem {
    Problem { path: at.clone(), wrong: wrong.into(), right: right.into() }
}

pub(crate) fn facts(der: &[u8]) -> Option<Facts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(alternatives) = extension.parsed_extension() else { continue };
        for name in &alternatives.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            } else if let GeneralName::IPAddress(octets) = name {
                names.extend(address(octets));
            }
        }
    }
    if names.is_empty() {
        // As old tools make them. Browsers have stopped to look there; other clients have not.
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let validity = certificate.validity();
    Some(Facts { names, not_before: seconds(validity.not_before), not_after: seconds(validity.not_after) })
}

fn address(octets: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| std::net::IpAddr::from(octets).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| std::net::IpAddr::from(octets).to_string())).ok()
}

/// The subject of a client's certificate as RFC 4514 writes it, with what can't stand in a field's value left out.
pub fn subject(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject().to_string();
    Some(subject.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_from_its_first_second_to_its_last() {
        let facts = Facts { names: Vec::new(), not_before: 100, not_after: 200 };
        let found: Vec<_> = [99, 100, 199, 200].into_iter().map(|now| facts.untimely(now)).collect();
        assert_eq!(found, [Some("is not valid yet"), None, None, Some("has expired")]);
    }

    #[test]
    fn addresses_of_both_families_and_no_others() {
        assert_eq!(address(&[127, 0, 0, 1]).as_deref(), Some("127.0.0.1"));
        assert_eq!(address(&[0; 16]).as_deref(), Some("::"));
        assert_eq!(address(&[1, 2, 3]), None);
    }
}
