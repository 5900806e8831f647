//! How backends are spoken to: whom they have to be, and who we are.

use crate::load::{authorities, chain_and_key, problem};
use control::{Path, Problem, spec::PoolTls};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    version::{TLS12, TLS13},
};
use std::sync::Arc;

/// What handshakes with the backends of a pool need. `protocols` are those of which a backend may choose one (RFC 7301), the best first.
/// `at` is the place of the settings in the configuration.
///
/// # Errors
/// Everything that is wrong with the files.
pub fn trust(settings: &PoolTls, at: &Path, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, Vec<Problem>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| vec![problem(at, error.to_string(), "report this as a bug")])?;
    let builder = if settings.verify {
        builder.with_root_certificates(roots(settings, at).map_err(|problem| vec![problem])?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    };
    let mut config = match (&settings.chain, &settings.key) {
        (Some(chain), Some(key)) => {
            let (chain, key) = chain_and_key(chain, key, at)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let right = "name the key that the certificate was made for";
                vec![problem(&at.key("key"), format!("can't be used with the certificate: {error}"), right)]
            })?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn roots(settings: &PoolTls, at: &Path) -> Result<Arc<RootCertStore>, Problem> {
    if let Some(ca) = &settings.ca {
        return Ok(authorities(ca, &at.key("ca"))?.roots);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let right = "name a PEM file with the authorities of the backends' certificates, or install ca-certificates";
        return Err(problem(&at.key("ca"), "is not set, and this machine has no authorities of its own", right));
    }
    Ok(Arc::new(roots))
}

/// Takes any certificate. What it signs is looked at all the same, so that it is the peer's own.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
