//! A whole discovery server, over real sockets and real TLS.

mod enrolment;
mod harness;
