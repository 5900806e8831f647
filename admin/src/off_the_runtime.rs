//! What blocks is done off the runtime's workers.

use tokio::task::{JoinError, spawn_blocking};

/// # Errors
/// The runtime is about to stop.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(feature = "simulation")]
    if let Some(turn) = crate::simulation::turn() {
        // An error means that nobody gives turns any more: its process is gone.
        if turn.await.is_err() {
            std::future::pending::<()>().await;
        }
        return Ok(work());
    }
    spawn_blocking(work).await
}
