//! Use cases shared by REST and WebSocket.
