//! Connections that leave HTTP.
//!
//! actix-http keeps two buffers and its state machine for the life of a connection, even for a session that is silent
//! for hours. So a connection whose request was answered with a session is taken from it: the handler puts the session
//! into its answer's extensions, and the session gets the socket itself (`Socket`). A request for any other upgrade
//! gets the usual answer, and the connection ends with it.

use super::handover::{Opened, Upgradable};
use super::ws_socket::Socket;
use crate::http::transport::liveness::Line;
use crate::http::transport::socket::DISCONNECT_TIMEOUT;
use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::body::{BodySize, MessageBody};
use actix_http::h1::{Codec, Message};
use actix_http::{HttpMessage, Request, Response};
use actix_service::{Service, ServiceFactory, always_ready};
use actix_web::Error;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::{ConnectionType, Method};
use futures_util::SinkExt;
use futures_util::future::LocalBoxFuture;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_util::codec::Encoder;

/// A worker's application. It is built once, for requests and for upgrades.
pub(in crate::http) struct Application<S: ServiceFactory<Request>>(Rc<Shared<S>>);

struct Shared<S: ServiceFactory<Request>> {
    factory: S,
    built: OnceCell<Rc<S::Service>>,
}

impl<S: ServiceFactory<Request, Config = AppConfig>> Shared<S> {
    async fn service(&self) -> Result<Rc<S::Service>, S::InitError> {
        let build = async || self.factory.new_service(AppConfig::default()).await.map(Rc::new);
        self.built.get_or_try_init(build).await.cloned()
    }
}

impl<S: ServiceFactory<Request>> Application<S> {
    pub fn new(factory: S) -> Self {
        Self(Rc::new(Shared { factory, built: OnceCell::new() }))
    }
}

impl<S: ServiceFactory<Request>> Clone for Application<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> ServiceFactory<Request> for Application<S>
where
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Config = ();
    type Service = Rc<S::Service>;
    type InitError = S::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let shared = Rc::clone(&self.0);
        Box::pin(async move { shared.service().await })
    }
}

impl<T, S, B> ServiceFactory<(Request, Framed<T, Codec>)> for Application<S>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = Error;
    type Config = ();
    type Service = Upgrade<S::Service>;
    type InitError = S::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let shared = Rc::clone(&self.0);
        Box::pin(async move { shared.service().await.map(Upgrade) })
    }
}

/// The service for requests with an upgrade.
pub(in crate::http) struct Upgrade<S>(Rc<S>);

impl<T, S, B> Service<(Request, Framed<T, Codec>)> for Upgrade<S>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<(), Error>>;

    always_ready!();

    fn call(&self, (request, framed): (Request, Framed<T, Codec>)) -> Self::Future {
        let app = Rc::clone(&self.0);
        Box::pin(async move {
            let line = Line::of(&request);
            let asks_for_head = request.method() == Method::HEAD;
            request.extensions_mut().insert(Upgradable);
            let mut response = match app.call(request).await {
                Ok(response) => Response::from(response).map_into_boxed_body(),
                Err(error) => error.error_response().into(),
            };
            let opened = response.extensions_mut().remove::<Opened>();
            match opened {
                Some(opened) => hand_over(framed, response, opened, line),
                None => _ = refuse(framed, response, asks_for_head).await,
            }
            Ok(())
        })
    }
}

/// Gives the socket to the session, with the unwritten and the already read bytes.
fn hand_over<T, B>(framed: Framed<T, Codec>, response: Response<B>, opened: Opened, line: Option<Line>)
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut parts = framed.into_parts();
    let head = Message::Item((response.drop_body(), BodySize::None));
    if let Err(error) = parts.codec.encode(head, &mut parts.write_buf) {
        tracing::warn!(%error, "a session could not be greeted");
        return;
    }
    if let Some(line) = &line {
        line.left_http();
    }
    // A task of its own: the connection's task has the size of all HTTP state.
    actix_web::rt::spawn(Socket::new(parts.io, line, opened, &parts.read_buf, parts.write_buf.freeze()));
}

/// Sends the answer, and ends the connection. Fails if the client has gone.
async fn refuse<T, B>(framed: Framed<T, Codec>, mut response: Response<B>, head_only: bool) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
    B: MessageBody,
{
    response.head_mut().set_connection_type(ConnectionType::Close);
    let (head, body) = response.into_parts();
    let size = if head_only { BodySize::None } else { body.size() };
    // The codec of an upgrade would announce chunks and send none.
    let mut framed = framed.replace_codec(Codec::default());
    framed.feed(Message::Item((head, size))).await?;
    if !matches!(size, BodySize::None) {
        let mut body = pin!(body);
        while let Some(chunk) = poll_fn(|context| body.as_mut().poll_next(context)).await {
            let chunk = chunk.map_err(|error| io::Error::other(error.into().to_string()))?;
            framed.feed(Message::Chunk(Some(chunk))).await?;
        }
        framed.feed(Message::Chunk(None)).await?;
    }
    framed.flush().await?;
    let mut connection = framed.into_parts().io;
    let goodbye = timeout(DISCONNECT_TIMEOUT, async {
        connection.shutdown().await?;
        // Reads the rest of the request: closing a socket with unread data would discard the answer.
        while connection.read(&mut [0; 1_024]).await? > 0 {}
        Ok(())
    });
    goodbye.await.unwrap_or(Ok(()))
}
