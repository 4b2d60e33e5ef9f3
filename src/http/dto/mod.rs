//! Bodies of requests and answers, one file a resource. A request's `validate` names every bad field at once; what
//! only the use case can know (whose product, which currency) is checked there.

pub mod accounts;
pub mod creators;
pub mod drops;
pub mod notifications;
pub mod orders;
pub mod products;

/// Reads and validates a body in a test.
#[cfg(test)]
fn pointers<B: serde::de::DeserializeOwned, T>(
    json: &serde_json::Value,
    validate: fn(B) -> Result<T, crate::service::Failure>,
) -> Vec<String> {
    match super::json::parse::<B>(json.to_string().as_bytes()).and_then(validate) {
        Ok(_) => Vec::new(),
        Err(failure) => failure.fields.into_iter().map(|field| field.pointer).collect(),
    }
}
