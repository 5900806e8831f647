//! Cookies of other balancers, and which backend a value of theirs names. All that can be computed ahead is computed when
//! the table is built, so that a request does no more than look up.

use crate::cookie::CookieName;
use ahash::AHashMap;
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use control::spec::{Adopt, AdoptFrom};
use ketama::Ketama;
use md5::{Digest, Md5};
use sha2::Sha256;
use std::net::{IpAddr, SocketAddr};
use xxhash_rust::xxh64::xxh64;

mod ketama;
#[cfg(test)]
mod tests;

/// Room for what an Envoy cookie has in it: an IPv6 address with its port, and a time.
const MAX_DECODED: usize = 96;

/// A cookie of another balancer.
#[derive(Clone, Debug)]
pub struct Foreign {
    pub from: AdoptFrom,
    pub cookie: CookieName,
    named: AHashMap<Box<[u8]>, u16>,
    /// Of `ingress-nginx`, which places its sessions on a ring.
    ring: Option<Ketama>,
    /// The field line that takes it from the client; absent where it stays.
    pub deletion: Option<Box<[u8]>>,
}

/// A backend as another balancer may have known it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub name: &'a str,
    /// As it is configured, with a name or an address.
    pub configured: &'a str,
    /// Where that leads; absent while it has not resolved.
    pub address: Option<SocketAddr>,
}

impl Foreign {
    /// `None` where the settings are not whole, which their check refuses. Where two backends have one value, the first
    /// has it; what is configured comes before what follows from names and addresses.
    pub fn new(adopt: &Adopt, backends: &[Known<'_>]) -> Option<Self> {
        let from = adopt.from?;
        let cookie = CookieName::new(&adopt.cookie)?;
        let mut named = AHashMap::new();
        let indexed = || (0..u16::MAX).zip(backends);
        for (value, name) in &adopt.values {
            if let Some((index, _)) = indexed().find(|(_, backend)| backend.name == name) {
                named.insert(value.as_bytes().into(), index);
            }
        }
        for (index, backend) in indexed() {
            for value in values(from, adopt, backend) {
                named.entry(value.into_bytes().into()).or_insert(index);
            }
        }
        let places = || indexed().filter_map(|(index, backend)| Some((index, backend.address?.to_string(), 1)));
        let ring = (from == AdoptFrom::IngressNginx).then(|| Ketama::new(places()));
        let deletion = adopt.delete.then(|| deletion(adopt).into_bytes().into());
        Some(Self { from, cookie, named, ring, deletion })
    }

    /// The backend that a value names.
    pub fn backend(&self, value: &[u8]) -> Option<u16> {
        if let Some(index) = self.named.get(value) {
            return Some(*index);
        }
        match self.from {
            // `maxidle` and `maxlife` put dates behind it, each after a bar.
            AdoptFrom::Haproxy | AdoptFrom::HaproxyDynamic | AdoptFrom::IngressNginxPersistent => {
                self.named.get(before_bar(value)).copied()
            }
            AdoptFrom::IngressNginx => {
                // Time, process and a random number.
                let key = before_bar(value);
                let is_key = !key.is_empty() && key.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
                self.ring.as_ref().filter(|_| is_key)?.find(key)
            }
            AdoptFrom::Envoy => {
                let mut room = [0; MAX_DECODED];
                let length = LENIENT.decode_slice(value, &mut room).ok()?;
                self.named.get(envoy_address(&room[..length])?).copied()
            }
            AdoptFrom::Nginx | AdoptFrom::Traefik | AdoptFrom::Opaque => None,
        }
    }
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn before_bar(value: &[u8]) -> &[u8] {
    memchr::memchr(b'|', value).map_or(value, |bar| &value[..bar])
}

/// The address in what an Envoy cookie has: in newer ones the first field of a message (`address = 1`, `expires = 2`), in
/// older ones all of it. The time is Envoy's own clock, often a monotonic one, and tells nothing here.
fn envoy_address(decoded: &[u8]) -> Option<&[u8]> {
    const FIELD_1_TEXT: u8 = 0x0A;
    match decoded {
        [FIELD_1_TEXT, length, rest @ ..] => rest.get(..usize::from(*length)),
        address => Some(address),
    }
}

/// The values by which a backend is named, as far as they follow from its name and address.
fn values(from: AdoptFrom, adopt: &Adopt, backend: &Known<'_>) -> Vec<String> {
    let of_address = |make: &dyn Fn(SocketAddr) -> String| backend.address.map(make).into_iter().collect();
    match from {
        AdoptFrom::Haproxy => vec![backend.name.to_owned()],
        AdoptFrom::HaproxyDynamic => {
            let key = adopt.key.as_ref().map_or("", |key| &key.0);
            of_address(&|address| haproxy_dynamic(key, address))
        }
        AdoptFrom::Nginx => of_address(&|address| md5_hex(address.to_string())),
        AdoptFrom::IngressNginxPersistent => {
            let salt = adopt.service.as_deref().unwrap_or_default();
            of_address(&|address| md5_hex(format!("{salt}{address}")))
        }
        AdoptFrom::Traefik => traefik(backend),
        AdoptFrom::Envoy => of_address(&|address| address.to_string()),
        AdoptFrom::IngressNginx | AdoptFrom::Opaque => Vec::new(),
    }
}

/// HAProxy's `dynamic-cookie-key`: XXH64 of the key, the address' octets and the port in four (`srv_set_dyncookie` in its
/// `src/server.c`).
fn haproxy_dynamic(key: &str, address: SocketAddr) -> String {
    let mut bytes = key.as_bytes().to_vec();
    match address.ip() {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
    bytes.extend(u32::from(address.port()).to_be_bytes());
    format!("{:016x}", xxh64(&bytes, 0))
}

/// What Traefik has had in its cookies, from today to its first versions: 16 digits of the URL's SHA-256, its FNV-1, the
/// FNV-1 of that, and the URL itself (`pkg/server/service/loadbalancer/sticky.go` of version 3.7 accepts them all).
fn traefik(backend: &Known<'_>) -> Vec<String> {
    let resolved = backend.address.map(|address| address.to_string());
    let hosts = [Some(backend.configured.to_owned()), resolved];
    let urls = hosts.into_iter().flatten().flat_map(|host| [format!("http://{host}"), format!("http://{host}/")]);
    let forms = urls.flat_map(|url| {
        let once = format!("{:x}", fnv1(url.as_bytes()));
        let twice = format!("{:x}", fnv1(once.as_bytes()));
        let sha = hex(&Sha256::digest(&url)[..8]);
        [sha, once, twice, url]
    });
    forms.collect()
}

/// FNV-1 with 64 bits: multiplied first (Fowler, Noll and Vo; draft-eastlake-fnv).
fn fnv1(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| hash.wrapping_mul(0x0100_0000_01B3) ^ u64::from(*byte))
}

fn md5_hex(text: String) -> String {
    hex(&Md5::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn deletion(adopt: &Adopt) -> String {
    let domain = adopt.domain.as_ref().map_or(String::new(), |domain| format!("; Domain={domain}"));
    // Browsers hold these names to `Secure`, and the others don't mind it being left out.
    let secure = if adopt.cookie.starts_with("__") { "; Secure" } else { "" };
    format!("Set-Cookie: {}=; Max-Age=0; Path={}{domain}{secure}\r\n", adopt.cookie, adopt.path)
}
