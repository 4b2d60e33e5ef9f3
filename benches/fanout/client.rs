//! The client: one thread, one epoll, any number of sockets. Per message it only counts bytes. All measured servers get
//! the same client.

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The limit of every wait; no measured step takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The maximum of concurrent handshakes.
const IN_FLIGHT: usize = 256;

enum Phase {
    Connecting,
    /// The number of bytes seen so far of the empty line after the head.
    Head(usize),
    Open,
}

struct Socket {
    stream: TcpStream,
    phase: Phase,
    header: [u8; 4],
    header_len: usize,
    payload_left: usize,
    frames: u64,
}

/// The client's connections.
pub struct Crowd {
    poll: Poll,
    events: Events,
    sockets: Vec<Socket>,
    buffer: Vec<u8>,
    /// Frames received so far, over all connections.
    pub frames: u64,
}

impl Crowd {
    /// Opens the connections, at most `pace` a second, sends `request` on each (if empty, frames come at once), and
    /// waits until each has `greeting` frames. Also returns the time.
    pub fn connect(
        address: SocketAddr,
        count: usize,
        pace: Option<f64>,
        request: &str,
        greeting: u64,
    ) -> (Self, Duration) {
        let poll = Poll::new().expect("epoll");
        let mut crowd = Self {
            poll,
            events: Events::with_capacity(1_024),
            sockets: Vec::new(),
            buffer: vec![0; 256 << 10],
            frames: 0,
        };
        let began = Instant::now();
        let mut open = 0;
        while open < count {
            let due = pace.map_or(count, |pace| count.min((began.elapsed().as_secs_f64() * pace) as usize + 1));
            while crowd.sockets.len() < due && crowd.sockets.len() - open < IN_FLIGHT {
                crowd.dial(address);
            }
            assert!(began.elapsed() < PATIENCE, "{open} of {count} sessions are open");
            crowd.turn(request);
            open = crowd.sockets.iter().filter(|socket| socket.is_open(greeting)).count();
        }
        (crowd, began.elapsed())
    }

    fn dial(&mut self, address: SocketAddr) {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let token = Token(self.sockets.len());
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).expect("epoll");
        let phase = Phase::Connecting;
        self.sockets.push(Socket { stream, phase, header: [0; 4], header_len: 0, payload_left: 0, frames: 0 });
    }

    /// Reads until all connections together have `frames` frames; returns the time of the last.
    pub fn until(&mut self, frames: u64) -> Instant {
        let began = Instant::now();
        while self.frames < frames {
            assert!(began.elapsed() < PATIENCE, "{} of {frames} frames came", self.frames);
            self.turn("");
        }
        Instant::now()
    }

    /// Reads greetings and pings for this long.
    pub fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn("");
        }
    }

    fn turn(&mut self, request: &str) {
        self.poll.poll(&mut self.events, Some(Duration::from_millis(2))).expect("epoll");
        for event in &self.events {
            let socket = &mut self.sockets[event.token().0];
            if matches!(socket.phase, Phase::Connecting) && event.is_writable() {
                let _ = socket.stream.set_nodelay(true);
                socket.phase = if request.is_empty() { Phase::Open } else { Phase::Head(0) };
                socket.stream.write_all(request.as_bytes()).expect("room for a request");
            }
            if event.is_readable() {
                self.frames += socket.read(&mut self.buffer);
            }
        }
    }
}

impl Socket {
    fn is_open(&self, greeting: u64) -> bool {
        matches!(self.phase, Phase::Open) && self.frames >= greeting
    }

    fn read(&mut self, buffer: &mut [u8]) -> u64 {
        let before = self.frames;
        loop {
            match self.stream.read(buffer) {
                Ok(0) => panic!("the server closed a connection"),
                Ok(count) => self.take(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.frames - before,
                Err(error) => panic!("a connection failed: {error}"),
            }
        }
    }

    /// Counts a server's frames (RFC 6455, section 5.2: no mask; none here is longer than 64 KiB).
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            match &mut self.phase {
                Phase::Connecting => self.phase = Phase::Open,
                Phase::Head(seen) => {
                    *seen = if first == b"\r\n\r\n"[*seen] { *seen + 1 } else { usize::from(first == b'\r') };
                    if *seen == 4 {
                        self.phase = Phase::Open;
                    }
                    bytes = &bytes[1..];
                }
                Phase::Open if self.payload_left > 0 => {
                    let skipped = self.payload_left.min(bytes.len());
                    self.payload_left -= skipped;
                    bytes = &bytes[skipped..];
                    self.frames += u64::from(self.payload_left == 0);
                }
                Phase::Open => {
                    self.header[self.header_len] = first;
                    self.header_len += 1;
                    bytes = &bytes[1..];
                    let long = self.header[1] == 126;
                    if self.header_len == if long { 4 } else { 2 } || (self.header_len == 2 && !long) {
                        let [opcode, short, high, low] = self.header;
                        self.payload_left =
                            if long { usize::from(u16::from_be_bytes([high, low])) } else { short.into() };
                        // Pings are empty, and not counted as messages.
                        self.frames += u64::from(self.payload_left == 0 && opcode == 0x81);
                        (self.header_len, self.header) = (0, [0; 4]);
                    }
                }
            }
        }
    }
}
