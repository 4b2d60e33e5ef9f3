//! REST and WebSocket.
