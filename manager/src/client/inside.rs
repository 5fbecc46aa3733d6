//! The way to the API of the daemon that this process is.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::UnixStream;

/// Opens connections to the API of the daemon that this process is.
#[derive(Clone)]
pub struct Opener(Arc<Open>);

type Open = dyn Fn() -> BoxFuture<'static, io::Result<UnixStream>> + Send + Sync;

impl Opener {
    /// By this function.
    pub fn new(
        open: impl Fn() -> BoxFuture<'static, io::Result<UnixStream>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(open))
    }

    /// A connection.
    pub(super) async fn open(&self) -> io::Result<UnixStream> {
        (self.0)().await
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(..)")
    }
}
