//! Connections: how they are accepted, told apart, limited and ended.

mod limits;

pub use limits::Limits;
