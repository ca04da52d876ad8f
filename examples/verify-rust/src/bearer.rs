//! Bearer tokens in HTTP: where a token is found, and how a request without a good one is answered (RFC 6750).

use crate::verifier::Refused;
use serde_json::{Value, json};
use tiny_http::Request;

/// Returns the token in the Authorization header. It is never taken from the query, where logs and histories keep it, nor from the
/// body (RFC 9700, section 4.3.2).
pub fn token(request: &Request) -> Result<&str, Refused> {
    let mut headers = request.headers().iter().filter(|h| h.field.equiv("Authorization"));
    let header = headers.next().ok_or(Refused::NoToken)?.value.as_str();
    if headers.next().is_some() {
        return Err(Refused::Malformed);
    }
    let end = header.find([' ', '\t', ',']).unwrap_or(header.len());
    if !header[..end].eq_ignore_ascii_case("Bearer") {
        return Err(Refused::NoToken);
    }
    let token = header[end..].trim_start_matches(' ');
    let well_formed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    let query = request.url().split_once('?').map_or("", |(_, query)| query);
    if token.is_empty() || !token.chars().all(well_formed) || query.split('&').any(|pair| pair.starts_with("access_token=")) {
        return Err(Refused::Malformed);
    }
    Ok(token)
}

impl Refused {
    /// Returns status, challenge and body of the answer. Which check failed is nobody's business, but that a token has expired.
    pub fn answer(&self) -> (u16, Option<String>, Value) {
        let (status, code, description) = match self {
            Refused::NoToken => (401, "unauthorized", "An access token is required"),
            Refused::Malformed => (400, "invalid_request", "One bearer token must be in one Authorization header"),
            Refused::Expired => (401, "invalid_token", "The access token expired"),
            Refused::Invalid => (401, "invalid_token", "The access token is not valid"),
            Refused::Unavailable => (503, "temporarily_unavailable", "The access token cannot be checked now"),
        };
        let challenge = match self {
            // Who did not know that a token is needed did nothing wrong, and is not given an error code (RFC 6750, section 3.1).
            Refused::NoToken => Some("Bearer".into()),
            Refused::Unavailable => None,
            _ => Some(format!(r#"Bearer error="{code}", error_description="{description}""#)),
        };
        (status, challenge, json!({"error": code, "error_description": description}))
    }
}
