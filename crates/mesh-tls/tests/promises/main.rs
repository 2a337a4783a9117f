//! What the mesh promises of its handshakes, shown over in-memory pipes with a real CA.
//!
//! A refusal proves something only beside a control: each test also shows a peer that differs in
//! the one point alone and is accepted. Chains are presented whole.

mod chains;
mod issuing;
mod join;
mod leaves;
mod protocol;
mod support;
