//! Stock and orders in Redis: a script checks, takes and stores in one step. All requests on a worker share one
//! connection, and concurrent commands go out in one write: a hand-written client, because a fuller one could not be
//! faster.

use super::shop::{Order, Placed};
use actix_web::rt;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// The maximum of commands that wait for the socket.
const QUEUE: usize = 4_096;

/// Keys: the drop's hash, the order's hash by its idempotency key; argument: the order. Returns the first order of the
/// key, or nothing for a new one.
pub const SCRIPT: &str = "
local known = redis.call('HMGET', KEYS[2], 'id', 'created_ms')
if known[1] then return known end
if tonumber(redis.call('HGET', KEYS[1], 'available')) < tonumber(ARGV[4]) then return 0 end
redis.call('HINCRBY', KEYS[1], 'available', -ARGV[4])
redis.call('HSET', KEYS[2], 'id', ARGV[1], 'drop', ARGV[2], 'buyer', ARGV[3], 'quantity', ARGV[4], 'created_ms', ARGV[5])
return 1";

/// A reply of the protocol (RESP2), as far as this bench needs it.
#[derive(Debug)]
enum Reply {
    Text(String),
    Number(i64),
    Nothing,
    Many(Vec<Reply>),
    Error(String),
}

struct Command {
    bytes: Vec<u8>,
    reply: oneshot::Sender<Reply>,
}

/// A handle to the worker's connection.
#[derive(Clone)]
pub struct OnRedis {
    commands: mpsc::Sender<Command>,
    script: Rc<str>,
}

impl OnRedis {
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("redis answers");
        stream.set_nodelay(true).expect("a socket option");
        let (commands, queue) = mpsc::channel(QUEUE);
        let (reads, writes) = stream.into_split();
        let waiting = Rc::new(RefCell::new(VecDeque::new()));
        rt::spawn(write(queue, writes, Rc::clone(&waiting)));
        rt::spawn(read(reads, waiting));
        let mut redis = Self { commands, script: "".into() };
        let Reply::Text(sha) = redis.ask(&["SCRIPT", "LOAD", SCRIPT]).await else { panic!("redis takes the script") };
        redis.script = sha.into();
        redis
    }

    async fn ask(&self, words: &[&str]) -> Reply {
        let (reply, answer) = oneshot::channel();
        let command = Command { bytes: encode(words), reply };
        assert!(self.commands.send(command).await.is_ok(), "the connection is there");
        match answer.await.expect("an answer") {
            Reply::Error(error) => panic!("redis: {error}"),
            reply => reply,
        }
    }

    pub async fn open(&self, drop: Uuid, stock: i32) {
        let (key, stock) = (format!("drop:{drop}"), stock.to_string());
        self.ask(&["HSET", &key, "total", &stock, "available", &stock]).await;
    }

    pub async fn stock(&self, drop: Uuid) -> (i64, i64) {
        let reply = self.ask(&["HMGET", &format!("drop:{drop}"), "total", "available"]).await;
        let Reply::Many(fields) = reply else { panic!("a drop: {reply:?}") };
        let number = |field: &Reply| match field {
            Reply::Text(text) => text.parse().expect("a number"),
            other => panic!("a number: {other:?}"),
        };
        (number(&fields[0]), number(&fields[1]))
    }

    pub async fn place(&self, order: &Order) -> Placed {
        let (drop, buyer) = (order.drop.to_string(), order.buyer.to_string());
        let keys = (format!("drop:{drop}"), format!("order:{buyer}:{}", order.key));
        let (id, quantity, created) = (order.id.to_string(), order.quantity.to_string(), order.created_ms.to_string());
        let words = ["EVALSHA", &self.script, "2", &keys.0, &keys.1, &id, &drop, &buyer, &quantity, &created];
        match self.ask(&words).await {
            Reply::Number(1) => Placed::New,
            Reply::Number(0) => Placed::SoldOut,
            Reply::Many(known) => match &known[..] {
                [Reply::Text(id), Reply::Text(at)] => {
                    Placed::Again(id.parse().expect("an id"), at.parse().expect("a time"))
                }
                other => panic!("an order: {other:?}"),
            },
            other => panic!("an answer of the script: {other:?}"),
        }
    }
}

fn encode(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

type Waiting = Rc<RefCell<VecDeque<oneshot::Sender<Reply>>>>;

async fn write(mut queue: mpsc::Receiver<Command>, mut writes: tokio::net::tcp::OwnedWriteHalf, waiting: Waiting) {
    let (mut commands, mut bytes) = (Vec::new(), Vec::new());
    while queue.recv_many(&mut commands, QUEUE).await > 0 {
        bytes.clear();
        for command in commands.drain(..) {
            bytes.extend_from_slice(&command.bytes);
            waiting.borrow_mut().push_back(command.reply);
        }
        writes.write_all(&bytes).await.expect("redis reads");
    }
}

async fn read(mut reads: tokio::net::tcp::OwnedReadHalf, waiting: Waiting) {
    let mut buffer = Vec::with_capacity(64 << 10);
    while reads.read_buf(&mut buffer).await.expect("redis writes") > 0 {
        let mut at = 0;
        while let Some((reply, length)) = parse(&buffer[at..]) {
            at += length;
            let asker = waiting.borrow_mut().pop_front().expect("somebody asked");
            // The receiver may be gone already.
            let _ = asker.send(reply);
        }
        buffer.drain(..at);
    }
}

/// The first reply and its length, once the buffer holds all of it.
fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, mut at) = (std::str::from_utf8(&bytes[1..end]).expect("text"), end + 2);
    let number = || line.parse::<i64>().expect("a number");
    let reply = match bytes[0] {
        b'+' => Reply::Text(line.to_owned()),
        b'-' => Reply::Error(line.to_owned()),
        b':' => Reply::Number(number()),
        b'$' => match usize::try_from(number()) {
            Err(_) => Reply::Nothing,
            Ok(length) => {
                let text = bytes.get(at..at + length)?;
                bytes.get(at + length..at + length + 2)?;
                at += length + 2;
                Reply::Text(std::str::from_utf8(text).expect("text").to_owned())
            }
        },
        b'*' => {
            let mut many = Vec::new();
            for _ in 0..number() {
                let (reply, length) = parse(&bytes[at..])?;
                at += length;
                many.push(reply);
            }
            Reply::Many(many)
        }
        other => panic!("not a reply: {other}"),
    };
    Some((reply, at))
}
