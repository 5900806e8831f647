//! What a worker hands to the control thread by the batch.

use super::{ledger::Move, samples::Sample, sightings::Seen};
use affinity::sessions::Touch;
use crossbeam_channel::{Receiver, Sender, TrySendError};

#[derive(Debug)]
pub(crate) enum Handed {
    Seen(Vec<Touch>),
    Moved(Vec<(Move, u64)>),
    Sampled(Vec<Sample>),
    Sighted(Vec<Seen>),
}

/// The worker's end of a bounded channel.
#[derive(Clone, Debug)]
pub(crate) struct Handover(Sender<Handed>);

impl Handover {
    pub(crate) fn new(room: usize) -> (Self, Receiver<Handed>) {
        let (sender, receiver) = crossbeam_channel::bounded(room);
        (Self(sender), receiver)
    }

    /// # Errors
    /// Where the control thread is behind, it comes back.
    pub(super) fn give(&self, handed: Handed) -> Result<(), Handed> {
        self.0.try_send(handed).map_err(TrySendError::into_inner)
    }
}
