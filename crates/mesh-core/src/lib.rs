//! The service mesh that an application adds to itself.

mod body;
pub mod config;

pub use body::Body;
pub use config::Config;

/// Any error, as it passes the seams; look for a type with [`std::error::Error::source`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
