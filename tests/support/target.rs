//! An HTTP server that accepts events, or refuses them.

use serde_json::Value;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU16, Ordering},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// This status makes the target answer nothing.
pub const SILENT: u16 = 0;

#[derive(Clone)]
pub struct Target {
    pub url: String,
    answer: Arc<AtomicU16>,
    /// Events that it answered with 2xx, in the order of arrival.
    taken: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicU16>,
}

impl Target {
    /// Opens a target on a free port; it runs on the caller's runtime.
    pub async fn open(answer: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/events", listener.local_addr().expect("an address"));
        let target = Self { url, answer: Arc::new(answer.into()), taken: Arc::default(), asked: Arc::default() };
        let accepting = target.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let target = accepting.clone();
                tokio::spawn(async move { target.serve(socket).await });
            }
        });
        target
    }

    pub fn answers(&self, status: u16) {
        self.answer.store(status, Ordering::SeqCst);
    }

    /// The number of batches received.
    pub fn asked(&self) -> u16 {
        self.asked.load(Ordering::SeqCst)
    }

    /// The received events, each once. A repeated event must be identical.
    pub fn events(&self) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        for event in self.taken.lock().expect("no panic").iter() {
            match events.iter().find(|known| known["id"] == event["id"] && known["source"] == event["source"]) {
                None => events.push(event.clone()),
                Some(known) => assert_eq!(known, event),
            }
        }
        events
    }

    /// The number of received events of this type.
    pub fn count(&self, kind: &str) -> usize {
        self.events().iter().filter(|event| event["type"] == kind).count()
    }

    async fn serve(&self, socket: TcpStream) {
        let mut socket = BufReader::new(socket);
        loop {
            let mut length = None;
            loop {
                let mut line = String::new();
                match socket.read_line(&mut line).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse::<usize>().ok();
                }
                if let Some(value) = line.strip_prefix("content-type:") {
                    assert_eq!(value.trim(), "application/cloudevents-batch+json");
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length.expect("a length")];
            if socket.read_exact(&mut body).await.is_err() {
                return;
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            let batch: Vec<Value> = serde_json::from_slice(&body).expect("an array");
            let status = self.answer.load(Ordering::SeqCst);
            if status == SILENT {
                std::future::pending::<()>().await;
            }
            if (200..300).contains(&status) {
                self.taken.lock().expect("no panic").extend(batch);
            }
            let answer = format!("HTTP/1.1 {status} So\r\nContent-Length: 2\r\n\r\nno");
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
