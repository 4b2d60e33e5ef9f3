//! The journal: decisions become durable here, and nothing leaves before they are.
