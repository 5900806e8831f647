//! The control thread without its thread: what it hears next, the simulation says.

use super::{
    Control, Parts,
    link::{Link, LinkEvent},
};
use crate::worker::{FromWorker, Handed, Mailbox, Shared};
use control::{
    config::Global,
    desired::Snapshot,
    message::{ToDataplane, from_line},
};
use crossbeam_channel::{Receiver, never};
use std::{io, os::unix::net::UnixStream, sync::Arc};

pub(crate) struct Thread {
    control: Control,
    events: Receiver<FromWorker>,
}

impl Thread {
    pub(crate) fn new(
        global: Global,
        workers: Vec<Arc<Mailbox>>,
        shared: Arc<Shared>,
        events: Receiver<FromWorker>,
        handed: Receiver<Handed>,
    ) -> Self {
        let (signals, ready) = (never(), Box::new(|| {}));
        let heard = events.clone();
        let parts = Parts {
            global,
            version: "0.0.0-sim",
            sandbox: ::control::status::Sandbox::default(),
            workers,
            shared,
            events,
            handed,
            signals,
            ready,
        };
        Self { control: Control::new(parts), events: heard }
    }

    /// A connection to the admin process was made; its other end, on which the hello stands already.
    ///
    /// # Errors
    /// No socket can be had.
    pub(crate) fn connected(&mut self, id: u64) -> io::Result<UnixStream> {
        let (stream, theirs) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        self.control.hear_admin(LinkEvent::Connected(Link::new(id, stream)));
        Ok(theirs)
    }

    /// # Errors
    /// It is no line of the control channel.
    pub(crate) fn hear_admin(&mut self, link: u64, line: &[u8]) -> Result<(), String> {
        let message: ToDataplane = from_line(line)?;
        self.control.hear_admin(LinkEvent::Heard { link, message: Box::new(message) });
        Ok(())
    }

    pub(crate) fn lost(&mut self, link: u64) {
        self.control.hear_admin(LinkEvent::Lost { link, reason: "cut".to_owned() });
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.control.link.is_some()
    }

    /// Takes one thing that a worker has said; false where none has said any.
    pub(crate) fn hear_worker(&mut self) -> bool {
        let event = self.events.try_recv();
        event.map(|event| self.control.hear_worker(event)).is_ok()
    }

    pub(crate) fn serve_by_snapshot(&mut self) {
        self.control.serve_by_snapshot();
    }

    pub(crate) fn tick(&mut self) {
        self.control.tick();
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        self.control.plane.snapshot()
    }
}
