//! Tests of the journal as a whole: behaviour, crashes, damage, failing devices, and a simple model.

mod behaviour;
mod copies;
mod crashes;
mod damage;
mod faults;
mod model;
mod support;
