use std::time::Duration;
use tokio::sync::mpsc;

/// Results are taken together for so long, so that ten thousand backends that start make hundreds of generations and not
/// ten thousand.
const FOR: Duration = Duration::from_millis(20);
/// How many a channel of results holds.
pub(crate) const MOST: usize = 4_096;

/// Waits for results, and takes those that come right after as well; false where none will come any more.
pub(crate) async fn gather<T>(results: &mut mpsc::Receiver<T>, into: &mut Vec<T>) -> bool {
    if results.recv_many(into, MOST).await == 0 {
        return false;
    }
    tokio::time::sleep(FOR).await;
    while let Ok(result) = results.try_recv() {
        into.push(result);
    }
    true
}
