//! An API that accepts Handstamp's access tokens, which it checks offline with the issuer's published keys.
//!
//! ```sh
//! cargo run -- --issuer http://127.0.0.1:8080 --audience http://127.0.0.1:8080 --listen 127.0.0.1:9094
//! ```
//!
//! GET /hello wants a valid token and answers its subject. GET /readyz tells whether tokens can be checked.
//!
//! It does not follow the revocation feed, so a revoked token is accepted until it expires. verify-node and verify-python show how
//! to follow it, in about two hundred lines.

mod bearer;
mod keys;
mod verifier;

use serde_json::json;
use std::{error::Error, sync::Arc, thread};
use tiny_http::{Header, Request, Response, Server};
use verifier::{Refused, Verifier};

const THREADS: usize = 4;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut issuer = String::from("http://127.0.0.1:8080");
    let mut audience = None; // name of this API, as in the aud of its tokens; the default is the issuer
    let mut listen = String::from("127.0.0.1:9094");
    let mut args = std::env::args().skip(1);
    while let (Some(flag), value) = (args.next(), args.next()) {
        let value = value.ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--issuer" => issuer = value,
            "--audience" => audience = Some(value),
            "--listen" => listen = value,
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }

    let audience = audience.unwrap_or_else(|| issuer.clone());
    let verifier = Arc::new(Verifier::new(&issuer, &audience)?);
    let server = Arc::new(Server::http(&listen)?);
    println!("listening on http://{}", server.server_addr());
    let workers: Vec<_> = (0..THREADS)
        .map(|_| {
            let (server, verifier) = (server.clone(), verifier.clone());
            thread::spawn(move || {
                for request in server.incoming_requests() {
                    answer(request, &verifier);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| "a worker has panicked")?;
    }
    Ok(())
}

fn answer(request: Request, verifier: &Verifier) {
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, challenge, body) = match (request.method().as_str(), path) {
        ("GET", "/hello") => match hello(&request, verifier) {
            Ok(body) => (200, None, body),
            Err(refused) => refused.answer(),
        },
        ("GET", "/readyz") => (if verifier.ready() { 200 } else { 503 }, None, json!({})),
        _ => (404, None, json!({"error": "not_found"})),
    };
    let mut response = Response::from_string(format!("{body}\n"))
        .with_status_code(status)
        .with_header(header("Content-Type", "application/json"))
        .with_header(header("Cache-Control", "no-store"));
    if let Some(challenge) = challenge {
        response.add_header(header("WWW-Authenticate", &challenge));
    }
    if status == 503 {
        response.add_header(header("Retry-After", "1"));
    }
    let _ = request.respond(response); // the client may be gone
}

fn hello(request: &Request, verifier: &Verifier) -> Result<serde_json::Value, Refused> {
    let claims = verifier.verify(bearer::token(request)?)?;
    Ok(json!({"subject": claims.sub, "scope": claims.scope, "roles": claims.roles}))
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("ASCII")
}
