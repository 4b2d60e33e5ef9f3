//! `POST /webhooks/…`: what payment providers send. Not part of the API's description: no client of ours calls them.

use crate::domain::limits::WEBHOOK_BYTES_MAX;
use crate::http::declared::{Declaration, Declared, Quota, Who};
use crate::http::extract::json::Raw;
use crate::http::problem::Problem;
use crate::service::webhooks::Webhooks;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};

/// The routes. Anybody may call them: the signature says who it was.
#[must_use]
pub fn routes() -> Vec<Declared> {
    let path = "/webhooks/stripe".to_owned();
    let stripe_route = Declaration { method: Method::POST, path, who: Who::Anybody, quota: Quota::Webhooks };
    vec![Declared::other(stripe_route, stripe)]
}

/// Answers as soon as the event is in the inbox, durably; it is worked on later.
async fn stripe(
    webhooks: web::Data<Webhooks>,
    request: HttpRequest,
    Raw(body): Raw<WEBHOOK_BYTES_MAX>,
) -> Result<HttpResponse, Problem> {
    let signature = request.headers().get("Stripe-Signature").and_then(|value| value.to_str().ok());
    webhooks.receive(signature.unwrap_or_default(), &body).await?;
    Ok(HttpResponse::Ok().finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::routing::Routes;
    use crate::payments::stripe::secret::StripeSecret;
    use crate::payments::stripe::signature::sign;
    use crate::service::clock::Clock;
    use crate::storage::{connect, sqlite_url};
    use actix_web::{App, test};
    use std::sync::Arc;

    #[actix_web::test]
    async fn a_signed_event_is_answered_200_and_anything_else_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let store = connect(&sqlite_url(&dir.path().join("test.db"))).await.unwrap();
        store.migrate().await.unwrap();
        let (clock, secret) = (Clock::default(), StripeSecret::new("whsec_1".to_owned()));
        let webhooks = Webhooks::new(Arc::clone(&store), clock.clone(), vec![secret.clone()]);
        let app = App::new().app_data(web::Data::new(webhooks)).service(Routes::of(routes(), |_, _| &[]));
        let app = test::init_service(app).await;
        let send = async |signature: &str, media_type: &str, body: Vec<u8>| {
            let request = test::TestRequest::post().uri("/webhooks/stripe").set_payload(body);
            let request = request.insert_header(("stripe-signature", signature));
            let request = request.insert_header(("content-type", media_type));
            test::call_service(&app, request.to_request()).await.status().as_u16()
        };
        const JSON: &str = "application/json; charset=utf-8";
        // Spaces and the order of fields are signed, so the bytes are taken as they are.
        let body =
            b"{ \"type\": \"a_new.type\",\n \"data\": {\"object\": {\"name\": \"Zo\xc3\xab\"}}, \"id\": \"evt_1\" }"
                .to_vec();
        let signature = sign(&body, &secret, clock.now());
        for _ in 0..2 {
            assert_eq!(send(&signature, JSON, body.clone()).await, 200);
        }
        assert_eq!(send("", JSON, body.clone()).await, 400);
        assert_eq!(send(&signature, JSON, [&body[..], b" "].concat()).await, 400);
        assert_eq!(send(&signature, "text/plain", body).await, 415);
        assert_eq!(send(&signature, JSON, vec![b' '; WEBHOOK_BYTES_MAX + 1]).await, 413);
        let due = store.webhooks_due(clock.now(), 10).await.unwrap();
        assert_eq!(due.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["evt_1"]);
        // Stripe sends again what could not be kept.
        store.close().await;
        let next = br#"{"id":"evt_2","type":"a_new.type","data":{"object":{}}}"#.to_vec();
        assert_eq!(send(&sign(&next, &secret, clock.now()), JSON, next).await, 503);
    }
}
