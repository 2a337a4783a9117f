//! mesh-test
