//! Signed statements of who we are (RFC 7523), made anew for each request for a token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use rustls::{
    SignatureScheme,
    crypto::ring::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use serde_json::{Map, Value, json};

use super::Error;
use crate::config::{
    Secret,
    token::{Algorithm, Statement},
};

/// The statement as it is sent.
pub(super) fn signed(statement: &Statement, now: DateTime<Utc>) -> Result<Secret, Error> {
    let mut header = Map::from_iter([
        ("alg".to_owned(), statement.algorithm.name().into()),
        ("typ".to_owned(), "JWT".into()),
    ]);
    if let Some(id) = &statement.key_id {
        header.insert("kid".to_owned(), id.as_str().into());
    }
    let seconds = now.timestamp();
    let life = i64::try_from(statement.life.as_secs()).unwrap_or(i64::MAX);
    let mut claims = Map::new();
    for (name, value) in &statement.claims {
        claims.insert(name.clone(), value.expose().into());
    }
    claims.insert("iat".to_owned(), json!(seconds));
    claims.insert("exp".to_owned(), json!(seconds.saturating_add(life)));
    // Servers that take each statement once know it by this.
    let id = uuid::Uuid::now_v7().to_string();
    claims.insert("jti".to_owned(), id.into());
    let text = |map| URL_SAFE_NO_PAD.encode(Value::Object(map).to_string());
    let input = format!("{}.{}", text(header), text(claims));
    let signature = sign(statement, input.as_bytes()).ok_or(Error::BadKey)?;
    let signature = URL_SAFE_NO_PAD.encode(signature);
    Ok(Secret::new(format!("{input}.{signature}")))
}

fn sign(statement: &Statement, input: &[u8]) -> Option<Vec<u8>> {
    let key = PrivateKeyDer::from_pem_slice(statement.key.expose().as_bytes()).ok()?;
    let scheme = match statement.algorithm {
        Algorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
        Algorithm::Rs384 => SignatureScheme::RSA_PKCS1_SHA384,
        Algorithm::Rs512 => SignatureScheme::RSA_PKCS1_SHA512,
        Algorithm::Ps256 => SignatureScheme::RSA_PSS_SHA256,
    };
    let signer = any_supported_type(&key).ok()?.choose_scheme(&[scheme])?;
    signer.sign(input).ok()
}
