//! The issuer's published keys.

use crate::verifier::Refused;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{JwkSet, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

const MAX_AGE: Duration = Duration::from_secs(300); // after which a key may have been withdrawn
const COOLDOWN: Duration = Duration::from_secs(30); // between two fetches for kids that are not known

type Key = (Algorithm, DecodingKey);

/// Keys keeps the last good set while the issuer is down.
pub struct Keys {
    issuer: String,
    agent: ureq::Agent,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: HashMap<String, Key>,
    asked: Option<Instant>,
}

/// What is needed of the authorization server metadata (RFC 8414).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Keys {
    pub fn new(issuer: &str) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).max_redirects(0);
        Keys { issuer: issuer.into(), agent: config.build().into(), state: Mutex::default() }
    }

    pub fn loaded(&self) -> bool {
        let mut state = self.state.lock().expect("no panic while it was held");
        if state.keys.is_empty() {
            self.fetch(&mut state);
        }
        !state.keys.is_empty()
    }

    /// Returns the key of a kid and the one algorithm that it is for.
    pub fn get(&self, kid: &str) -> Result<Key, Refused> {
        let mut state = self.state.lock().expect("no panic while it was held");
        let age = state.asked.map_or(Duration::MAX, |asked| asked.elapsed());
        if age > MAX_AGE || age > COOLDOWN && !state.keys.contains_key(kid) || state.keys.is_empty() {
            self.fetch(&mut state);
        }
        if state.keys.is_empty() {
            return Err(Refused::Unavailable);
        }
        state.keys.get(kid).cloned().ok_or(Refused::Invalid)
    }

    fn fetch(&self, state: &mut State) {
        state.asked = Some(Instant::now());
        match self.read() {
            Ok(keys) => state.keys = keys,
            Err(error) => eprintln!("cannot fetch the keys: {error}"),
        }
    }

    fn read(&self) -> Result<HashMap<String, Key>, Box<dyn std::error::Error>> {
        let (scheme, rest) = self.issuer.split_once("://").ok_or("the issuer is no URL")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        // The well-known part goes between host and path (RFC 8414, section 3.1).
        let slash = if path.is_empty() { "" } else { "/" };
        let address = format!("{scheme}://{host}/.well-known/oauth-authorization-server{slash}{}", path.trim_end_matches('/'));
        let metadata: Metadata = self.agent.get(&address).call()?.body_mut().read_json()?;
        if metadata.issuer != self.issuer {
            return Err(format!("the metadata is that of {}", metadata.issuer).into());
        }
        let set: JwkSet = self.agent.get(&metadata.jwks_uri).call()?.body_mut().read_json()?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let algorithm = match jwk.common.key_algorithm {
                Some(KeyAlgorithm::ES256) => Algorithm::ES256,
                Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
                Some(KeyAlgorithm::RS256) => Algorithm::RS256,
                _ => continue,
            };
            if let (Some(kid), Some(PublicKeyUse::Signature)) = (&jwk.common.key_id, &jwk.common.public_key_use) {
                keys.insert(kid.clone(), (algorithm, DecodingKey::from_jwk(jwk)?));
            }
        }
        Ok(keys)
    }
}
