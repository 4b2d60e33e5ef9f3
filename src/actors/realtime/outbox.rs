//! The messages queued for one socket: bounded in bytes, with `stock_changed` conflated to the latest of each drop. No
//! I/O.
//!
//! It is separate from the session, because a session whose client stops reading is no longer polled (actix-web#2441)
//! and could not enforce the bound itself.

use crate::actors::realtime::event::CloseCause;
use crate::domain::DropId;
use crate::domain::limits::WS_QUEUE_BYTES_MAX;
use bytes::Bytes;
use std::{cell::OnceCell, collections::VecDeque, rc::Rc};

/// A message, shared by all sessions of a worker: no two cores contend for its reference count.
#[derive(Debug)]
pub struct Message {
    /// Its type, for protocols that send it outside the message.
    pub kind: &'static str,
    /// The offset to reconnect with, for protocols that send it outside the message.
    pub id: Option<Box<str>>,
    /// Its number among the messages of its worker.
    pub order: u64,
    /// Set if a later message of the same drop replaces it.
    pub stock_of: Option<DropId>,
    /// The message, encoded as JSON.
    pub json: Bytes,
    /// Its wire form, encoded once for each protocol.
    pub wire: [OnceCell<Bytes>; 2],
}

impl Message {
    /// The wire form for a protocol, encoded by the first session that needs it.
    pub fn wire(&self, protocol: usize, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.wire[protocol].get_or_init(|| encode(self)).clone()
    }
}

/// The next action of a session.
#[derive(Debug)]
pub enum Outgoing {
    Message(Rc<Message>),
    Ping,
    /// Send the close and nothing after it.
    Close(CloseCause),
}

/// The queue of one session.
#[derive(Default, Debug)]
pub struct Outbox {
    kept: VecDeque<Rc<Message>>,
    /// At most one a drop, in order.
    stock: Vec<Rc<Message>>,
    bytes: usize,
    ping: bool,
    close: Option<CloseCause>,
    close_taken: bool,
}

impl Outbox {
    /// Queues a message. Past the byte bound all queued messages are dropped and the session closes as too slow:
    /// returns `false` from then on.
    pub fn push(&mut self, message: &Rc<Message>) -> bool {
        if self.close.is_some() {
            return false;
        }
        self.bytes += message.json.len();
        match message.stock_of {
            None => self.kept.push_back(Rc::clone(message)),
            Some(drop) => {
                if let Some(at) = self.stock.iter().position(|waiting| waiting.stock_of == Some(drop)) {
                    self.bytes -= self.stock.remove(at).json.len();
                }
                self.stock.push(Rc::clone(message));
            }
        }
        if self.bytes > WS_QUEUE_BYTES_MAX {
            self.clear();
            self.close = Some(CloseCause::TooSlow);
        }
        self.close.is_none()
    }

    /// Makes [`Self::pop`] return a ping next.
    pub fn ping(&mut self) {
        self.ping = true;
    }

    /// Closes after the queued messages are sent. The first cause counts.
    pub fn close(&mut self, cause: CloseCause) {
        self.close.get_or_insert(cause);
    }

    /// Whether no more messages are accepted.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.close.is_some()
    }

    /// Whether a ping is still queued: the session is not polled.
    #[must_use]
    pub fn ping_waits(&self) -> bool {
        self.ping
    }

    /// Bytes of the queued messages.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next thing to send, oldest first; nothing after the close.
    pub fn pop(&mut self) -> Option<Outgoing> {
        if std::mem::take(&mut self.ping) && !self.close_taken {
            return Some(Outgoing::Ping);
        }
        let stock_first = match (self.kept.front(), self.stock.first()) {
            (Some(kept), Some(stock)) => stock.order < kept.order,
            (None, stock) => stock.is_some(),
            (Some(_), None) => false,
        };
        let next = if stock_first { Some(self.stock.remove(0)) } else { self.kept.pop_front() };
        if let Some(message) = next {
            self.bytes -= message.json.len();
            if self.bytes == 0 {
                // An idle session keeps no buffers.
                self.clear();
            }
            return Some(Outgoing::Message(message));
        }
        let cause = self.close.filter(|_| !self.close_taken)?;
        self.close_taken = true;
        Some(Outgoing::Close(cause))
    }

    fn clear(&mut self) {
        (self.kept, self.stock, self.bytes) = (VecDeque::new(), Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(order: u64, stock_of: Option<DropId>, bytes: usize) -> Rc<Message> {
        let json = Bytes::from(vec![b' '; bytes]);
        Rc::new(Message { kind: "test", id: None, order, stock_of, json, wire: Default::default() })
    }

    fn orders(outbox: &mut Outbox) -> Vec<u64> {
        std::iter::from_fn(|| outbox.pop())
            .map_while(|one| if let Outgoing::Message(message) = one { Some(message.order) } else { None })
            .collect()
    }

    #[test]
    fn stock_is_conflated_to_the_latest_of_each_drop_and_the_rest_is_kept() {
        let (a, b) = (Some(DropId::new()), Some(DropId::new()));
        let mut outbox = Outbox::default();
        for (order, stock_of) in [(1, a), (2, None), (3, b), (4, a), (5, None), (6, a)] {
            assert!(outbox.push(&message(order, stock_of, 10)));
        }
        assert_eq!(outbox.bytes(), 40);
        assert_eq!(orders(&mut outbox), [2, 3, 5, 6]);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn stock_alone_never_reaches_the_bound() {
        let drop = Some(DropId::new());
        let mut outbox = Outbox::default();
        assert!((0..10_000).all(|order| outbox.push(&message(order, drop, 1_000))));
        assert_eq!(orders(&mut outbox), [9_999]);
    }

    #[test]
    fn past_the_bound_nothing_is_held_and_the_session_is_cut() {
        let mut outbox = Outbox::default();
        let fitting = WS_QUEUE_BYTES_MAX / 1_000;
        assert!((0..fitting as u64).all(|order| outbox.push(&message(order, None, 1_000))));
        assert!(!outbox.push(&message(9, None, 1_000)));
        assert_eq!(outbox.bytes(), 0);
        assert!(!outbox.push(&message(10, None, 1)));
        assert!(matches!(outbox.pop(), Some(Outgoing::Close(CloseCause::TooSlow))));
        assert!(outbox.pop().is_none(), "a close is the last word");
        outbox.ping();
        assert!(outbox.pop().is_none());
    }

    #[test]
    fn a_close_lets_what_waits_go_first_and_keeps_its_first_cause() {
        let mut outbox = Outbox::default();
        outbox.push(&message(1, None, 10));
        outbox.close(CloseCause::Restart);
        outbox.close(CloseCause::TooSlow);
        assert!(!outbox.push(&message(2, None, 10)));
        assert!(matches!(outbox.pop(), Some(Outgoing::Message(_))));
        assert!(matches!(outbox.pop(), Some(Outgoing::Close(CloseCause::Restart))));
    }

    #[test]
    fn the_wire_form_is_made_once() {
        let message = message(1, None, 4);
        let first = message.wire(0, |message| message.json.clone());
        assert_eq!(first, message.wire(0, |_| unreachable!("made already")));
    }
}
