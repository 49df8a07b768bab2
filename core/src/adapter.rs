//! The adapters: each is a few lines around [`Engine`](crate::Engine), as a feature with its framework's version.

#[cfg(feature = "axum-core-0_5")]
pub(crate) mod axum;
#[cfg(feature = "tower-service-0_3")]
pub(crate) mod eager;
#[cfg(feature = "tower-service-0_3")]
pub(crate) mod tower;
