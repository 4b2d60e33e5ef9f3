//! The journal as a whole: behaviour, crashes, damage, failing devices, and a dumb model.

mod behaviour;
mod copies;
mod crashes;
mod damage;
mod faults;
mod model;
mod support;
