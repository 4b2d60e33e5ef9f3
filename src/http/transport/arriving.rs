//! Request bodies that arrive slowly: their received bytes are counted until they are complete or given up.
//!
//! A body that arrives with its head, as most do, is not counted. If many bodies are incomplete, one that needs more
//! room is refused, so that slow uploads take bounded memory on any number of connections.

use super::connection::Connection;
use crate::http::transport::liveness;
use crate::service::{Code, Failure};
use actix_web::HttpRequest;
use std::sync::Arc;

/// Seconds after which a client may retry a refused body.
const RETRY_AFTER_S: u32 = 5;

/// The room of one incomplete body.
pub struct ArrivingRoom {
    connection: Option<Arc<Connection>>,
    bytes: usize,
}

impl ArrivingRoom {
    /// Starts without reserved bytes.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        Self { connection: liveness::connection(request), bytes: 0 }
    }

    /// Reserves room until it is at least `bytes`.
    ///
    /// # Errors
    /// `overloaded` if there is not enough.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        let more = bytes.saturating_sub(self.bytes);
        let Some(connection) = self.connection.as_deref().filter(|_| more > 0) else { return Ok(()) };
        if !connection.connections().take_arriving(more) {
            let detail = "Too many bodies are arriving slowly; nothing was done".into();
            return Err(Failure { detail, ..Failure::retry(Code::Overloaded, RETRY_AFTER_S) });
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for ArrivingRoom {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.connections().give_back_arriving(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::tests::connected;
    use super::*;
    use crate::domain::limits::ARRIVING_BYTES_MAX;
    use actix_web::HttpMessage;
    use actix_web::test::TestRequest;

    #[test]
    fn bodies_share_the_room_and_give_it_back() {
        let (connection, _client, _owned) = connected(false);
        let connection = Arc::new(connection);
        let request = TestRequest::post().to_http_request();
        request.extensions_mut().insert(Arc::clone(&connection));
        let metrics = connection.connections().metrics();
        let (mut first, mut second) = (ArrivingRoom::of(&request), ArrivingRoom::of(&request));
        assert!(first.hold(0).is_ok() && first.hold(10).is_ok() && first.hold(5).is_ok());
        assert_eq!(metrics.arriving_bytes.get(), 10);
        assert!(second.hold(ARRIVING_BYTES_MAX - 10).is_ok());
        let refused = first.hold(11).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::Overloaded, Some(RETRY_AFTER_S)));
        assert_eq!((metrics.arriving_bytes.get(), metrics.bodies_refused.get()), (ARRIVING_BYTES_MAX as i64, 1));
        drop(second);
        assert!(first.hold(11).is_ok());
        drop(first);
        assert_eq!(metrics.arriving_bytes.get(), 0);
    }
}
