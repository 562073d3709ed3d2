//! TLS for listeners: certificates chosen by SNI, made when the configuration is compiled and swapped whole.

use crate::config::Named;
use crate::config::error::{Fault, unknown};
use crate::config::listener::{Certificate, Listener, Protocol, TlsVersion};
use pingora::listeners::tls::Acceptor;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Chooses a certificate by the name the client asks for.
#[derive(Debug)]
struct BySni {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// `example.com` for `*.example.com` (RFC 6125 §6.4.3: one label).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let Some(name) = hello.server_name() else { return self.default.clone() };
        // Rustls gives the name in lower case.
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1)).or(self.default.as_ref()).cloned()
    }
}

/// Makes the TLS side of a listener. `path` is the listener's place in the configuration, for faults.
pub fn acceptor(
    listener: &Listener,
    certificates: &Named<Certificate>,
    base: &Path,
    path: &str,
) -> Result<Option<Arc<Acceptor>>, Vec<Fault>> {
    let Some(tls) = &listener.tls else { return Ok(None) };
    let mut faults = Vec::new();
    let mut by_sni = BySni { exact: HashMap::new(), wildcard: HashMap::new(), default: None };
    if tls.certificates.is_empty() {
        faults.push(Fault::at(format!("{path}.tls.certificates"), "name at least one certificate"));
    }
    for (i, name) in tls.certificates.iter().enumerate() {
        match certificates.get(name) {
            None => {
                let known = certificates.keys().map(String::as_str);
                faults.push(Fault::at(format!("{path}.tls.certificates[{i}]"), unknown("certificate", name, known)));
            }
            Some(c) => match load(c, base) {
                Ok((names, key)) => by_sni.add(names, key),
                Err(message) => faults.push(Fault::at(format!("certificates.{name}"), message)),
            },
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let config = server_config(by_sni, tls.min_version, &listener.protocols)
        .map_err(|e| vec![Fault::at(format!("{path}.tls"), e.to_string())])?;
    Ok(Some(Arc::new(Acceptor::from_server_config(Arc::new(config)))))
}

fn server_config(by_sni: BySni, min: TlsVersion, protocols: &[Protocol]) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&rustls::SupportedProtocolVersion] = match min {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_sni));
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    let h2 = protocols.contains(&Protocol::H2).then(|| b"h2".to_vec());
    let h1 = protocols.contains(&Protocol::H1).then(|| b"http/1.1".to_vec());
    config.alpn_protocols = h2.into_iter().chain(h1).collect();
    Ok(config)
}

impl BySni {
    fn add(&mut self, names: Vec<String>, key: CertifiedKey) {
        let key = Arc::new(key);
        self.default.get_or_insert_with(|| Arc::clone(&key));
        for name in names {
            let (map, name) = match name.strip_prefix("*.") {
                Some(rest) => (&mut self.wildcard, rest.to_owned()),
                None => (&mut self.exact, name),
            };
            map.entry(name).or_insert_with(|| Arc::clone(&key));
        }
    }
}

/// Reads a chain and its key; gives the DNS names of the leaf with it.
fn load(c: &Certificate, base: &Path) -> Result<(Vec<String>, CertifiedKey), String> {
    let cert_path = base.join(&c.cert);
    let chain = CertificateDer::pem_file_iter(&cert_path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| format!("cert {}: {e}", cert_path.display()))?;
    let key_path = base.join(&c.key);
    let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|e| format!("key {}: {e}", key_path.display()))?;
    let leaf = chain.first().ok_or_else(|| format!("cert {}: no certificate in it", cert_path.display()))?.clone();
    let signer = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| format!("key {}: {e}", c.key))?;
    let certified = CertifiedKey::new(chain, signer);
    certified.keys_match().map_err(|_| format!("key {} does not belong to cert {}", c.key, c.cert))?;
    let parsed = webpki::EndEntityCert::try_from(&leaf).map_err(|e| format!("cert {}: {e}", c.cert))?;
    let names = parsed.valid_dns_names().map(str::to_ascii_lowercase).collect();
    Ok((names, certified))
}
