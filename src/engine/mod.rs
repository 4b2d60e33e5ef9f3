//! The pure state machine of a drop: what is allowed, what follows from it, and nothing else.
