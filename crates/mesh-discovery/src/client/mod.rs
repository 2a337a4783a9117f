//! Discovery's Rust client for administrators.

pub mod kubeconfig;
