use super::{batch::Batch, line::Lines, recorder::Recorder, sink::Sink};
use control::access_log::AccessLog;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What the writing thread is told.
#[derive(Debug)]
pub(super) enum Message {
    Batch {
        worker: usize,
        batch: Batch,
    },
    /// The file may be another one by now.
    Reopen,
    /// Nothing comes any more.
    End(Sender<()>),
}

/// What the writing thread tells a worker. It alone writes them.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Bytes of batches that it has dealt with.
    pub(super) taken: AtomicU64,
    /// Lines.
    pub(super) written: AtomicU64,
    pub(super) lost: AtomicU64,
}

fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed) + more, Relaxed);
}

/// Bytes of lines that are written at once.
const AT_ONCE: usize = 64 << 10;
/// Batches that are kept for their memory, of each worker.
const KEPT: usize = 4;
/// How long an end waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The writing thread, as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Log(Sender<Message>);

struct Desk {
    told: Arc<Told>,
    back: Sender<Batch>,
}

impl Log {
    /// Starts the thread; with the recorders of so many workers.
    ///
    /// # Errors
    /// Where there can be no thread. A place that can't be written to is no error: what is lost is counted, and the place tried again.
    pub(crate) fn start(settings: &AccessLog, workers: usize) -> io::Result<(Self, Vec<Recorder>)> {
        let (sender, messages) = unbounded();
        let (mut desks, mut recorders) = (Vec::new(), Vec::new());
        for worker in 0..workers {
            let (back, returned) = bounded(KEPT);
            let told = Arc::<Told>::default();
            desks.push(Desk { told: Arc::clone(&told), back });
            recorders.push(Recorder::new(worker, sender.clone(), returned, told, settings.queue_bytes));
        }
        let writer = Writer { lines: Lines::new(settings.format.clone()), sink: Sink::new(&settings.to), desks };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&messages))?;
        Ok((Self(sender), recorders))
    }

    pub(crate) fn reopen(&self) {
        drop(self.0.send(Message::Reopen));
    }

    /// Waits a while for what has been handed over to be written.
    pub(crate) fn end(&self) {
        let (done, is_done) = bounded(1);
        drop(self.0.send(Message::End(done)));
        if is_done.recv_timeout(LAST_LINES).is_err() {
            tracing::warn!("the last lines of the access log could not be written in time");
        }
    }
}

struct Writer {
    lines: Lines,
    sink: Sink,
    desks: Vec<Desk>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        // Before anybody looks for the first line; and here, since a fifo is open only once somebody reads.
        self.sink.reopen();
        for message in messages {
            match message {
                Message::Batch { worker, batch } => self.take(worker, batch),
                Message::Reopen => self.sink.reopen(),
                Message::End(done) => {
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn take(&mut self, worker: usize, mut batch: Batch) {
        let Self { lines, sink, desks } = self;
        let Desk { told, back } = &desks[worker];
        let mut out = Vec::with_capacity(AT_ONCE);
        let mut put = |out: &mut Vec<u8>, count: &mut u64| {
            let written = sink.write(out);
            add(&told.written, written);
            add(&told.lost, *count - written);
            *count = 0;
            out.clear();
        };
        let mut count = 0;
        for record in batch.records() {
            lines.write(worker, record, &batch, &mut out);
            count += 1;
            if out.len() >= AT_ONCE {
                put(&mut out, &mut count);
            }
        }
        put(&mut out, &mut count);
        add(&told.taken, batch.bytes() as u64);
        batch.clear();
        // Where there are enough, it goes.
        drop(back.try_send(batch));
    }
}
