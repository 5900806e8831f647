use super::{
    batch::Batch,
    entry::{Entry, Opening},
    writer::{Message, Told},
};
use crate::worker::Worker;
use control::counters::Dataplane;
use crossbeam_channel::{Receiver, Sender};
use std::{
    cell::{Cell, RefCell},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{SystemTime, UNIX_EPOCH},
};

/// From here on a batch does not wait for the next tick.
const BATCH_BYTES: usize = 64 << 10;

/// A worker's end of the access log.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Option<Open>);

#[derive(Debug)]
struct Open {
    worker: usize,
    batch: RefCell<Batch>,
    /// Boxes that were used before, for exchanges that come.
    #[expect(clippy::vec_box, reason = "what is handed out is the box")]
    spare: RefCell<Vec<Box<Entry>>>,
    out: Sender<Message>,
    back: Receiver<Batch>,
    told: Arc<Told>,
    /// Bytes that were handed over.
    handed: Cell<u64>,
    queue_bytes: u64,
    /// What of `told` is counted already.
    counted: Cell<[u64; 2]>,
}

/// Boxes that are kept, at most: as many exchanges as a worker has at once on a usual day.
const SPARE: usize = 1_024;

impl Recorder {
    pub(super) fn new(
        worker: usize,
        out: Sender<Message>,
        back: Receiver<Batch>,
        told: Arc<Told>,
        queue_bytes: u64,
    ) -> Self {
        Self(Some(Open {
            worker,
            batch: RefCell::default(),
            spare: RefCell::default(),
            out,
            back,
            told,
            handed: Cell::new(0),
            queue_bytes,
            counted: Cell::default(),
        }))
    }

    /// What is to be written down of an exchange that begins; `None` where nothing is.
    pub(crate) fn begin(&self, is_wanted: bool, opening: impl FnOnce() -> Opening) -> Option<Box<Entry>> {
        let open = self.0.as_ref().filter(|_| is_wanted)?;
        let spare = open.spare.borrow_mut().pop();
        Some(match spare {
            Some(mut entry) => {
                entry.renew(opening());
                entry
            }
            None => Box::new(Entry::new(opening())),
        })
    }

    /// The exchange is over.
    pub(crate) fn write(&self, worker: &Worker, mut entry: Box<Entry>) {
        let Some(open) = &self.0 else { return };
        if open.waiting() >= open.queue_bytes {
            worker.board().count(Dataplane::AccessLogLost);
        } else {
            let listener = worker.listener_name(entry.opening.listener);
            open.batch.borrow_mut().add(&entry, listener, worker.clock.micros_now(), unix_micros());
        }
        worker.buffers.give_back_vector(std::mem::take(&mut entry.head));
        let mut spare = open.spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(entry);
        }
        drop(spare);
        if open.batch.borrow().bytes() >= BATCH_BYTES {
            open.hand_over();
        }
    }

    /// Hands over what there is, and counts what has become of what was handed over before.
    pub(crate) fn flush(&self, worker: &Worker) {
        let Some(open) = &self.0 else { return };
        open.hand_over();
        let now = [open.told.written.load(Relaxed), open.told.lost.load(Relaxed)];
        let before = open.counted.replace(now);
        for (what, (now, before)) in
            [Dataplane::AccessLogWritten, Dataplane::AccessLogLost].into_iter().zip(now.into_iter().zip(before))
        {
            worker.board().dataplane[what as usize].add(now - before);
        }
    }
}

impl Open {
    /// Bytes that the writer has not dealt with, and those that it has not got.
    fn waiting(&self) -> u64 {
        let handed = self.handed.get() - self.told.taken.load(Relaxed);
        handed + self.batch.borrow().bytes() as u64
    }

    fn hand_over(&self) {
        if self.batch.borrow().is_empty() {
            return;
        }
        let batch = self.batch.replace(self.back.try_recv().unwrap_or_default());
        self.handed.set(self.handed.get() + batch.bytes() as u64);
        // It ends after all workers.
        drop(self.out.send(Message::Batch { worker: self.worker, batch }));
    }
}

fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
