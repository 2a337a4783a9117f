//! The service mesh that an application adds to itself.

mod body;

pub use body::Body;

/// Any error, as it passes the seams; look for a type with [`std::error::Error::source`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
