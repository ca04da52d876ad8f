//! Verifies access tokens.

use crate::keys::Keys;
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind, get_current_timestamp};
use serde::Deserialize;

const MAX_TOKEN: usize = 8 << 10;
const FUTURE: u64 = 30; // seconds that iat may be ahead: the clocks of issuer and resource server differ

/// Refused says why a request may not pass.
#[derive(Debug)]
pub enum Refused {
    NoToken,
    Malformed,
    Expired,
    Invalid,
    /// Says nothing about the token: the keys could not be had.
    Unavailable,
}

/// Claims of an access token (RFC 9068, section 2.2). Those without a default are required; of iss, aud and exp the library demands
/// it, see `new`.
#[derive(Deserialize)]
pub struct Claims {
    pub sub: String,
    #[serde(default)]
    pub scope: String,
    #[serde(default)]
    pub roles: Vec<String>,
    iat: u64,
    #[serde(rename = "jti")]
    _jti: String,
    #[serde(rename = "client_id")]
    _client_id: String,
}

pub struct Verifier {
    issuer: String,
    audience: String,
    keys: Keys,
}

impl Verifier {
    pub fn new(issuer: &str, audience: &str) -> Result<Self, String> {
        let host = issuer.strip_prefix("http://").unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
        if !issuer.starts_with("https://") && !["localhost", "127.0.0.1"].contains(&host) {
            return Err(format!("issuer {issuer} must be https, or http on a loopback address"));
        }
        Ok(Verifier { issuer: issuer.into(), audience: audience.into(), keys: Keys::new(issuer) })
    }

    /// Tells whether tokens can be checked.
    pub fn ready(&self) -> bool {
        self.keys.loaded()
    }

    /// Returns the claims of a valid access token.
    pub fn verify(&self, raw: &str) -> Result<Claims, Refused> {
        if raw.len() > MAX_TOKEN {
            return Err(Refused::Invalid);
        }
        let header = decode_header(raw).map_err(|_| Refused::Invalid)?;
        // Not an ID token or whatever else the issuer signs (RFC 9068, section 2.1), and nothing that would have to be understood.
        if header.typ.as_deref() != Some("at+jwt") || header.crit.is_some() {
            return Err(Refused::Invalid);
        }
        let (algorithm, key) = self.keys.get(&header.kid.ok_or(Refused::Invalid)?)?;
        let mut validation = Validation::new(algorithm); // the key decides; a token has no say (RFC 8725, section 3.1)
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        let claims = decode::<Claims>(raw, &key, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Refused::Expired,
                _ => Refused::Invalid,
            })?
            .claims;
        if claims.iat > get_current_timestamp() + FUTURE {
            return Err(Refused::Invalid);
        }
        Ok(claims)
    }
}
