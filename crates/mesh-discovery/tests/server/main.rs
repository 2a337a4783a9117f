//! A whole discovery server, over real sockets and real TLS.

mod callers;
mod enrolment;
mod harness;
mod issuer;
mod killing;
mod listening;
mod program;
mod traffic;
mod unreadable;
mod watching;
