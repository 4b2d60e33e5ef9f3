//! The measured servers: LiveDrop itself, and two yardsticks, each in a process of its own (this program, started
//! again).
//!
//! - *bare*: a thread that writes the event to one socket after the other, without a protocol. Nothing is faster with
//!   one `write` a socket and one thread.
//! - *prototype*: actix-web-actors as its documentation shows it, an actor for each session, without any of our tuning.

use actix::{Actor, ActorContext, Addr, AsyncContext, Handler, Message, StreamHandler};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_web_actors::ws;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A server process. A byte `n` on its control connection makes a yardstick send `n` events.
pub struct Yardstick {
    child: Child,
    /// The address for clients.
    pub address: SocketAddr,
    control: TcpStream,
}

impl Yardstick {
    /// Starts a yardstick by name; its events have `bytes` bytes.
    pub fn start(name: &str, bytes: usize) -> Self {
        let this = std::env::current_exe().expect("this program");
        let mut command = Command::new(this);
        command.env("FANOUT_YARDSTICK", name).env("FANOUT_BYTES", bytes.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a yardstick");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut address = || lines.next().expect("an address").expect("text").parse().expect("an address");
        let (address, control): (SocketAddr, SocketAddr) = (address(), address());
        let control = TcpStream::connect(control).expect("a control connection");
        control.set_nodelay(true).expect("a socket option");
        Self { child, address, control }
    }

    /// Sends this many events to every client.
    pub fn send(&mut self, events: u8) {
        self.control.write_all(&[events]).expect("an open control connection");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Yardstick {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs as a yardstick if the environment says so; returns whether it did.
pub fn become_yardstick() -> bool {
    let Ok(name) = std::env::var("FANOUT_YARDSTICK") else { return false };
    let bytes = std::env::var("FANOUT_BYTES").ok().and_then(|text| text.parse().ok()).expect("a size");
    let clients = TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&clients, 4_096).expect("a backlog");
    let control = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}\n{}", clients.local_addr().expect("an address"), control.local_addr().expect("an address"));
    match name.as_str() {
        "bare" => bare(&clients, &control, bytes),
        _ => prototype(clients, control, bytes),
    }
    true
}

/// A text frame of this many bytes, header included.
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x81, 126];
    frame.extend(u16::try_from(bytes - 4).expect("a small event").to_be_bytes());
    frame.resize(bytes, b'x');
    frame
}

fn bare(clients: &TcpListener, control: &TcpListener, bytes: usize) {
    let (mut control, _) = control.accept().expect("a control connection");
    let (sockets, frame, mut order) = (Mutex::new(Vec::new()), frame(bytes), [0]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for socket in clients.incoming() {
                let socket = socket.expect("a client");
                socket.set_nodelay(true).expect("a socket option");
                sockets.lock().expect("sockets").push(socket);
            }
        });
        while control.read_exact(&mut order).is_ok() {
            let mut sockets = sockets.lock().expect("sockets");
            for _ in 0..order[0] {
                sockets.iter_mut().for_each(|socket| socket.write_all(&frame).expect("room for an event"));
            }
        }
        std::process::exit(0);
    });
}

#[derive(Message, Clone)]
#[rtype(result = "()")]
struct Text(Arc<str>);

type Sessions = web::Data<Mutex<Vec<Addr<Session>>>>;

struct Session(Sessions);

impl Actor for Session {
    type Context = ws::WebsocketContext<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.0.lock().expect("sessions").push(context.address());
        context.text("hello");
    }
}

impl Handler<Text> for Session {
    type Result = ();

    fn handle(&mut self, Text(text): Text, context: &mut Self::Context) {
        context.text(&*text);
    }
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for Session {
    fn handle(&mut self, message: Result<ws::Message, ws::ProtocolError>, context: &mut Self::Context) {
        match message {
            Ok(ws::Message::Ping(bytes)) => context.pong(&bytes),
            Ok(ws::Message::Close(_)) | Err(_) => context.stop(),
            Ok(_) => {}
        }
    }
}

async fn connect(request: HttpRequest, payload: web::Payload, sessions: Sessions) -> actix_web::Result<HttpResponse> {
    ws::start(Session(sessions), &request, payload)
}

fn prototype(clients: TcpListener, control: TcpListener, bytes: usize) {
    let sessions: Sessions = web::Data::new(Mutex::default());
    let told = sessions.clone();
    std::thread::spawn(move || {
        let (mut control, _) = control.accept().expect("a control connection");
        let (text, mut order) = (Text("x".repeat(bytes - 4).into()), [0]);
        while control.read_exact(&mut order).is_ok() {
            for _ in 0..order[0] {
                told.lock().expect("sessions").iter().for_each(|session| session.do_send(text.clone()));
            }
        }
        std::process::exit(0);
    });
    let app = move || App::new().app_data(sessions.clone()).route("/", web::get().to(connect));
    let server = HttpServer::new(app).workers(2).listen(clients).expect("a server").disable_signals().run();
    actix_web::rt::System::new().block_on(server).expect("an end");
}
