//! A connection within a worker: an exchange has one end, and whatever speaks another protocol for it has the other.

use super::Buffer;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io,
    net::{Shutdown, SocketAddr},
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Bytes that are under way, and who waits for them or for room.
#[derive(Debug)]
pub(crate) struct Way {
    /// So many at most.
    room: usize,
    bytes: RefCell<VecDeque<u8>>,
    /// Nothing more comes.
    ended: Cell<bool>,
    /// Nobody takes anything any more.
    closed: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

/// So many bytes are under way at most in each direction of a pipe.
const ROOM: usize = 16 << 10;

fn copy(bytes: &[u8], room: &mut [u8]) -> usize {
    let count = bytes.len().min(room.len());
    room[..count].copy_from_slice(&bytes[..count]);
    count
}

/// Waits until this is so, woken at that place.
async fn until(holds: &Cell<bool>, place: &RefCell<Option<Waker>>) {
    poll_fn(|context| match holds.get() {
        true => Poll::Ready(()),
        false => {
            wait(place, context);
            Poll::Pending
        }
    })
    .await;
}

fn wait(place: &RefCell<Option<Waker>>, context: &Context<'_>) {
    let mut place = place.borrow_mut();
    if !place.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
        *place = Some(context.waker().clone());
    }
}

fn wake(place: &RefCell<Option<Waker>>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

impl Way {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            room,
            bytes: RefCell::default(),
            ended: Cell::new(false),
            closed: Cell::new(false),
            reader: RefCell::default(),
            writer: RefCell::default(),
        }
    }

    /// Takes of `bytes` what there is room for, and says how much that was; never 0 but of none.
    pub(crate) fn poll_write(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed.get() || self.ended.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut under_way = self.bytes.borrow_mut();
        let count = bytes.len().min(self.room.saturating_sub(under_way.len()));
        if count == 0 && !bytes.is_empty() {
            wait(&self.writer, context);
            return Poll::Pending;
        }
        under_way.extend(&bytes[..count]);
        wake(&self.reader);
        Poll::Ready(Ok(count))
    }

    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_and_tell(bytes, |_| {}).await
    }

    async fn write_and_tell(&self, mut bytes: &[u8], mut moved: impl FnMut(usize)) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|context| self.poll_write(context, bytes)).await?;
            bytes = &bytes[count..];
            moved(count);
        }
        Ok(())
    }

    /// Writes a vector and takes its memory over where it can, which saves copying it. What comes back is room for another.
    pub(crate) async fn give(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let takes_over = !self.closed.get() && !self.ended.get() && bytes.len() <= self.room;
        if takes_over && self.bytes.borrow().is_empty() {
            let before = self.bytes.replace(bytes.into());
            wake(&self.reader);
            return (Ok(()), before.into());
        }
        (self.write(&bytes).await, bytes)
    }

    /// Bytes into `room`, of which there must be some; 0 at the end.
    fn poll_read(&self, context: &Context<'_>, room: &mut [u8]) -> Poll<usize> {
        self.poll_pass(context, |bytes| copy(bytes, room))
    }

    /// Shows some of what is under way to `taker`, who says how many bytes of it are taken; 0 at the end.
    pub(crate) fn poll_pass(&self, context: &Context<'_>, taker: impl FnOnce(&[u8]) -> usize) -> Poll<usize> {
        let count = self.pass(taker);
        if count == 0 && !self.ended.get() {
            wait(&self.reader, context);
            return Poll::Pending;
        }
        Poll::Ready(count)
    }

    fn pass(&self, taker: impl FnOnce(&[u8]) -> usize) -> usize {
        let mut bytes = self.bytes.borrow_mut();
        let count = taker(bytes.as_slices().0);
        bytes.drain(..count);
        if count > 0 {
            wake(&self.writer);
        }
        count
    }

    /// All that is under way, behind what `bytes` holds; false at the end.
    pub(crate) async fn take(&self, bytes: &mut Vec<u8>) -> bool {
        poll_fn(|context| self.poll_ready(context)).await;
        let taken = self.bytes.take();
        if taken.is_empty() {
            return false;
        }
        match bytes.is_empty() {
            true => *bytes = taken.into(),
            false => {
                let (front, back) = taken.as_slices();
                bytes.extend_from_slice(front);
                bytes.extend_from_slice(back);
            }
        }
        wake(&self.writer);
        true
    }

    /// Waits until something is under way, or the end has come.
    fn poll_ready(&self, context: &Context<'_>) -> Poll<()> {
        if self.bytes.borrow().is_empty() && !self.ended.get() {
            wait(&self.reader, context);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Says that nothing more comes.
    pub(crate) fn end(&self) {
        self.ended.set(true);
        wake(&self.reader);
    }

    /// Says that nothing more is taken.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.bytes.take();
        wake(&self.writer);
    }
}

/// What both ends have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    inward: Way,
    outward: Way,
    /// The other end is there no more.
    gone: Cell<bool>,
    /// The other end did so before it had done anything.
    refused: Cell<bool>,
    /// What went out must not be taken for the whole.
    broken: Cell<bool>,
    carried: Carried,
}

/// The connection that a pipe's bytes come over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    pub(crate) is_tls: bool,
    pub(crate) local_address: Option<SocketAddr>,
}

/// The end of an exchange.
#[derive(Debug)]
pub(crate) struct Pipe(Rc<Shared>);

/// The end of who speaks for it.
#[derive(Debug)]
pub(crate) struct FarEnd(Rc<Shared>);

pub(crate) fn pipe(carried: Carried) -> (super::Stream, FarEnd) {
    let shared = Rc::new(Shared {
        inward: Way::new(ROOM),
        outward: Way::new(ROOM),
        gone: Cell::new(false),
        refused: Cell::new(false),
        broken: Cell::new(false),
        carried,
    });
    (super::Stream::Pipe(Pipe(Rc::clone(&shared))), FarEnd(shared))
}

impl Shared {
    pub(super) fn shut(&self, how: Shutdown) {
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.inward.end();
        }
        if how == Shutdown::Both {
            self.outward.close();
            self.broken.set(true);
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.outward.end();
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.get()
    }
}

impl Pipe {
    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.0
    }

    pub(super) fn carried(&self) -> Carried {
        self.0.carried
    }

    pub(super) async fn read(&self, mut buffer: Buffer) -> (io::Result<usize>, Buffer) {
        buffer.make_room();
        let count = poll_fn(|context| self.0.inward.poll_read(context, buffer.free_mut())).await;
        buffer.grow(count);
        let refused = count == 0 && self.0.refused.get();
        (if refused { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(count) }, buffer)
    }

    pub(super) async fn readable(&self) {
        poll_fn(|context| self.0.inward.poll_ready(context)).await;
    }

    pub(super) fn try_read(&self, buffer: &mut Buffer) -> Option<usize> {
        buffer.make_room();
        let count = self.0.inward.pass(|bytes| copy(bytes, buffer.free_mut()));
        buffer.grow(count);
        (count > 0 || self.0.inward.ended.get()).then_some(count)
    }

    pub(super) async fn write(&self, bytes: &[u8], moved: impl FnMut(usize)) -> io::Result<()> {
        self.0.outward.write_and_tell(bytes, moved).await
    }

    pub(super) async fn give(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        self.0.outward.give(bytes).await
    }

    /// Whether nothing has come, and not the end either.
    pub(super) fn is_quiet(&self) -> bool {
        !self.0.inward.ended.get() && self.0.inward.bytes.borrow().is_empty()
    }

    pub(super) fn finish(&self) {
        self.0.shut(Shutdown::Write);
    }

    pub(super) fn reset_on_close(&self) {
        self.0.broken.set(true);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.0.outward.end();
        self.0.inward.close();
    }
}

impl FarEnd {
    /// Towards the exchange.
    pub(crate) fn inward(&self) -> &Way {
        &self.0.inward
    }

    /// From the exchange.
    pub(crate) fn outward(&self) -> &Way {
        &self.0.outward
    }

    /// Whether what has come must not be taken for the whole, whatever it says.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.broken.get()
    }

    /// Waits until the exchange wants nothing more of the pipe, and is there no more or has been ended. Only for who takes
    /// nothing meanwhile.
    pub(crate) async fn given_up(&self) {
        until(&self.0.outward.ended, &self.0.outward.reader).await;
    }

    /// Waits until the exchange is there no more, whatever it has ended before.
    pub(crate) async fn unwanted(&self) {
        until(&self.0.inward.closed, &self.0.inward.writer).await;
    }

    /// Says that nothing has come of what the exchange has sent, and nothing will: it may be done elsewhere.
    pub(crate) fn refuse(&self) {
        self.0.refused.set(true);
        self.leave();
    }

    /// Says that nobody is there any more for whom the exchange could be.
    pub(crate) fn leave(&self) {
        self.0.gone.set(true);
        self.0.inward.end();
        self.0.outward.close();
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Handle, Stream, holding};
    use std::{future::Future, pin::pin};

    /// What comes of a wait that nobody ends.
    fn now<T>(wait: impl Future<Output = T>) -> Option<T> {
        match pin!(wait).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(given) => Some(given),
            Poll::Pending => None,
        }
    }

    fn read(stream: &Stream) -> Option<Vec<u8>> {
        let (result, buffer) = now(stream.read(holding(&[0; 64]).emptied()))?;
        assert_eq!(result.unwrap(), buffer.len());
        Some(buffer.bytes().to_vec())
    }

    fn taken(far: &FarEnd) -> Option<Vec<u8>> {
        let mut bytes = b"<".to_vec();
        now(far.outward().take(&mut bytes))?.then_some(bytes)
    }

    #[test]
    fn what_one_end_says_the_other_hears_up_to_its_end() {
        let (near, far) = pipe(Carried::default());
        assert!(near.is_quiet() && read(&near).is_none());
        now(far.inward().write(b"GET")).unwrap().unwrap();
        assert!(!near.is_quiet());
        assert_eq!(read(&near).unwrap(), b"GET");
        far.inward().end();
        assert_eq!(read(&near).unwrap(), b"", "the end");
        assert!(!near.handle().is_gone(), "and still there");
        assert!(now(near.write_vector(b"200".to_vec())).unwrap().0.is_ok());
        assert_eq!(taken(&far).unwrap(), b"<200");
        now(near.finish()).unwrap();
        assert_eq!((taken(&far), far.is_broken()), (None, false));
        assert!(now(near.write_vector(b"more".to_vec())).unwrap().0.is_err());
    }

    #[test]
    fn more_than_there_is_room_for_waits_and_nothing_is_lost() {
        let (near, far) = pipe(Carried::default());
        let sent: Vec<u8> = (0..3 * ROOM).map(|at| at as u8).collect();
        let mut writing = pin!(far.inward().write(&sent));
        let mut came = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while writing.as_mut().poll(&mut context).is_pending() {
            assert_eq!(far.0.inward.bytes.borrow().len(), ROOM);
            let mut buffer = holding(&[0; 1_000]).emptied();
            while let Some(count @ 1..) = near.try_read(&mut buffer).unwrap() {
                came.extend_from_slice(&buffer.bytes()[..count]);
                buffer.clear();
            }
        }
        far.inward().end();
        while let Some(more @ [_, ..]) = read(&near).as_deref() {
            came.extend_from_slice(more);
        }
        assert!(came == sent, "{} of {}", came.len(), sent.len());
    }

    #[test]
    fn each_way_to_end_it_is_told_from_the_others() {
        for name in ["dropped", "deadline", "broken", "left"] {
            let (near, far) = pipe(Carried::default());
            let handle = near.handle();
            match name {
                "dropped" => {}
                "deadline" => handle.shut(Shutdown::Both),
                "broken" => near.reset_on_close(),
                _ => far.leave(),
            }
            drop(near);
            assert_eq!(far.is_broken(), name == "deadline" || name == "broken", "{name}");
            assert_eq!(handle.is_gone(), name == "left", "{name}");
            assert!(taken(&far).is_none() && now(far.inward().write(b"x")).unwrap().is_err(), "{name}");
        }
        let (near, far) = pipe(Carried::default());
        assert!(now(far.given_up()).is_none());
        far.refuse();
        let (refused, _) = now(near.read(holding(&[0; 64]).emptied())).unwrap();
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(near);
        assert!(now(far.given_up()).is_some());
        let (near, far) = pipe(Carried { is_tls: true, ..Carried::default() });
        drop(far);
        assert!(near.handle().is_gone() && near.is_tls() && read(&near).unwrap().is_empty());
        assert!(now(near.write_vector(b"x".to_vec())).unwrap().0.is_err());
        let (one, other) = (pipe(Carried::default()).0, pipe(Carried::default()).0);
        assert!(one.handle() == one.handle() && one.handle() != other.handle() && one.handle() != Handle::NONE);
    }
}
