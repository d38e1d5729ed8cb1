//! Re-exports Wasmtime's C API, so that the static library has its symbols.
pub use wasmtime_c_api::*;
