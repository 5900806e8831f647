//! What a listener offers in handshakes, made of its settings and its files.

use crate::{
    load::{Loaded, facts},
    names::Names,
};
use control::spec::{ClientVerify, TlsSettings, TlsVersion};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::sync::Arc;

/// `protocols` are those of which clients may choose one (RFC 7301), the best first; `tickets` seal their sessions.
///
/// # Errors
/// The reason, in a few words.
pub fn offer(
    settings: &TlsSettings,
    loaded: &Loaded,
    tickets: Arc<dyn ProducesTickets>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[_] = match settings.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let config = match (&loaded.authorities, settings.clients.verify) {
        (None, _) | (_, ClientVerify::Off) => config.with_no_client_auth(),
        (Some(authorities), verify) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities.roots), provider);
            let verifier = match verify {
                ClientVerify::Optional => verifier.allow_unauthenticated(),
                ClientVerify::Off | ClientVerify::Required => verifier,
            };
            config.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let names = loaded.certificates.iter().cloned().zip(loaded.facts.iter().map(|facts| facts.names.as_slice()));
    let mut config = config.with_cert_resolver(Arc::new(Names::new(names)));
    // Sessions are resumed by tickets alone: a table of them would be shared between workers and lost with the process.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    // All that are offered are good; scanners want it said which is the best.
    config.ignore_client_order = true;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// What a listener offers that has no files.
///
/// # Errors
/// Where no certificate could be made.
pub fn self_signed() -> Result<Loaded, String> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let signs = aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    let certified = CertifiedKey::new(vec![cert.der().clone()], signs);
    let facts = facts(cert.der()).ok_or("the certificate that was made can't be read")?;
    Ok(Loaded { certificates: vec![Arc::new(certified)], facts: vec![facts], authorities: None })
}
