//! Sketches of live sessions: asked of the data planes when somebody wants to know those of several nodes.

use super::peers::Peers;
use crate::state::State;
use control::{
    message::{ToDataplane, to_line},
    sketch::Sketch,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// How long a data plane may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Who waits at a data plane for the sketch of a pool.
#[derive(Debug)]
pub(super) struct Waiting {
    pool: String,
    answer: oneshot::Sender<Arc<Sketch>>,
}

/// A data plane with what comes of asking it.
struct Asked {
    pid: u32,
    /// Absent where it does not understand the question.
    answer: Option<oneshot::Receiver<Arc<Sketch>>>,
}

/// A data plane's sketch, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sketched {
    pub(crate) pid: u32,
    pub(crate) sketch: Result<Arc<Sketch>, String>,
}

impl Peers {
    /// Asks every data plane. One that is asked for the same already answers all who wait.
    fn ask_for_sketches(&mut self, pool: &str) -> Vec<Asked> {
        let line: Arc<[u8]> = to_line(&ToDataplane::Sketch { pool: pool.to_owned() }).into();
        let ask = |(_, connected): (&u64, &mut super::peers::Connected)| {
            let pid = connected.peer.pid;
            if !connected.peer.sketches {
                return Asked { pid, answer: None };
            }
            connected.waiting.retain(|waiting| !waiting.answer.is_closed());
            // What can't be sent is told by the time that passes.
            let _ = connected.waiting.iter().any(|waiting| waiting.pool == pool) || connected.send(&line);
            let (answer, answered) = oneshot::channel();
            connected.waiting.push(Waiting { pool: pool.to_owned(), answer });
            Asked { pid, answer: Some(answered) }
        };
        self.connected.iter_mut().map(ask).collect()
    }

    /// A data plane has answered.
    fn take_sketch(&mut self, id: u64, pool: &str, sketch: Sketch) {
        let Some(connected) = self.connected.get_mut(&id) else { return };
        let sketch = Arc::new(sketch);
        for waiting in connected.waiting.extract_if(.., |waiting| waiting.pool == pool) {
            // Whoever has gone away does not want it any more.
            drop(waiting.answer.send(Arc::clone(&sketch)));
        }
    }
}

impl State {
    pub(super) fn set_sketch(&self, id: u64, pool: &str, sketch: Sketch) {
        self.lock().peers.take_sketch(id, pool, sketch);
    }

    /// The live sessions of a pool, by each data plane that is connected; their figures are asked for as well, and come before.
    pub(crate) async fn sketches(&self, pool: &str) -> Vec<Sketched> {
        self.ask_for_reports();
        let asked = self.lock().peers.ask_for_sketches(pool);
        let answers = asked.into_iter().map(|Asked { pid, answer }| async move {
            let sketch = match answer {
                None => Err("is of a version that can't tell its live sessions".to_owned()),
                Some(answer) => match timeout(LIMIT, answer).await {
                    Ok(Ok(sketch)) => Ok(sketch),
                    Ok(Err(_)) => Err("ended before it told its live sessions".to_owned()),
                    Err(_) => Err(format!("did not tell its live sessions within {} s", LIMIT.as_secs())),
                },
            };
            Sketched { pid, sketch }
        });
        futures_util::future::join_all(answers).await
    }
}
