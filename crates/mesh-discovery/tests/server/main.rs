//! A whole discovery server, over real sockets and real TLS.

mod callers;
mod enrolment;
mod harness;
mod program;
mod watching;
