use super::{
    body::Body,
    client::Client,
    download::{Download, Downloaded},
    request::Request,
    status::{gone, status_of},
    upgraded::Upgraded,
    upload::{Upload, Uploaded, prefix},
    watch,
};
use crate::{
    http1::{Output, Reply, Status},
    pick::{
        Failure, Kind, Line, Repeat, Side, Target, Unchosen, UnderWay, Waited, begin, connect, count_sent, may_retry,
        note,
    },
    worker::{Connection, Ends, Queue, Worker},
};
use affinity::choose::Unserved;
use control::counters::BackendCount;
use std::{cell::Cell, future::poll_fn, pin::pin, task::Poll};

/// What the two directions of an exchange tell each other.
#[derive(Debug, Default)]
pub(super) struct Flow {
    uploaded: Cell<bool>,
    answered: Cell<bool>,
    continued: Cell<bool>,
    ends_by_close: Cell<bool>,
    failed: Cell<bool>,
}

impl Flow {
    /// That of a request whose head goes with as much of its body as was taken.
    fn of(body: &Body) -> Self {
        Self { uploaded: Cell::new(body.is_done()), ..Self::default() }
    }

    /// The whole request has been sent.
    pub(super) fn uploaded(&self) {
        self.uploaded.set(true);
    }

    pub(super) fn has_uploaded(&self) -> bool {
        self.uploaded.get()
    }

    /// The backend has said that it wants the body.
    pub(super) fn continued(&self) {
        self.continued.set(true);
    }

    pub(super) fn has_continued(&self) -> bool {
        self.continued.get()
    }

    /// The client has been sent something of the final response, which can't be taken back.
    pub(super) fn answered(&self) {
        self.answered.set(true);
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.get()
    }

    /// The backend's connection has failed, behind what was read of it: that may be all that is needed.
    pub(super) fn failed(&self) {
        self.failed.set(true);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Only closing tells the client where the response ends.
    pub(super) fn ends_by_close(&self) {
        self.ends_by_close.set(true);
    }
}

/// What becomes of the client's connection.
pub(super) enum After<'a> {
    /// It may serve another request.
    Next,
    Close,
    Tunnel(Box<Upgraded<'a>>),
}

impl After<'_> {
    fn answer(keep: bool) -> Self {
        if keep { Self::Next } else { Self::Close }
    }
}

/// What one attempt at a backend came to.
enum Attempt<'a> {
    Answered {
        keep_client: bool,
        /// As in [`Downloaded`].
        marked: Option<bool>,
    },
    Switched(Box<Upgraded<'a>>),
    /// The table has changed since the backend was chosen; nothing was sent.
    Outdated,
    Failed {
        failure: Failure,
        answered: bool,
        ends_by_close: bool,
    },
}

/// Serves one request.
pub(super) async fn run<'a>(worker: &'a Worker, client: &mut Client, mut request: Request) -> After<'a> {
    begin(worker, &request.claim);
    let mut body = Body::new(request.body, Output::Chunked).without(request.claimed.take());
    let after = match prefix(worker, &mut client.buffer, &mut request, &mut body) {
        Ok(()) => serve(worker, client, &mut request, &mut body).await,
        Err(failure) => {
            request.note_failure(failure);
            After::answer(refuse(worker, client, &request, &body, failure).await)
        }
    };
    match (request.entry.take(), after) {
        (None, after) => {
            worker.buffers.give_back_vector(request.head);
            after
        }
        (Some(mut entry), After::Tunnel(mut upgraded)) => {
            entry.head = request.head;
            upgraded.entry = Some(entry);
            After::Tunnel(upgraded)
        }
        (Some(mut entry), after) => {
            entry.head = request.head;
            worker.access_log.write(worker, entry);
            after
        }
    }
}

async fn serve<'a>(worker: &'a Worker, client: &mut Client, request: &mut Request, body: &mut Body) -> After<'a> {
    let whole = body.is_done();
    let (mut tried, mut fresh, mut line) = (Vec::new(), false, Line::default());
    loop {
        let target = match Target::choose(worker, &request.claim, &tried, line.waits()) {
            Ok(target) => target,
            Err(Unchosen::Full(queue)) => match wait(worker, client, request, &mut line, queue).await {
                Waited::Enough => continue,
                Waited::InVain => {
                    let full = Unserved::Full { home: None };
                    return After::answer(unavailable(worker, client, request, body, full).await);
                }
                Waited::Alone => return After::Close,
            },
            Err(Unchosen::Nobody(unserved)) => {
                return After::answer(unavailable(worker, client, request, body, unserved).await);
            }
        };
        let Ok(room) = line.enter(worker, &request.claim, &target) else { continue };
        target.tell(worker, request.entry.as_mut());
        let failure = match attempt(worker, client, request, body, &target, fresh).await {
            Attempt::Answered { keep_client, marked } => {
                // The backend is done with it, however long the client takes to go.
                drop(room);
                if let Some(marked) = marked {
                    client.marked = marked.then_some(request.claim.pool.slot);
                }
                // There is nothing to wait for behind a client that has said all.
                if !keep_client && !client.has_said_all(request) {
                    client.linger(worker).await;
                }
                return After::answer(keep_client);
            }
            Attempt::Switched(mut upgraded) => {
                upgraded.room = room;
                return After::Tunnel(upgraded);
            }
            Attempt::Outdated => {
                line.keep(room);
                continue;
            }
            Attempt::Failed { failure, answered, ends_by_close } => {
                drop(room);
                note(worker, &request.claim, target.slot, failure);
                request.note_failure(failure);
                // What was sent can't be taken back; that it is not all must be seen.
                match (answered, ends_by_close) {
                    (true, true) => client.link.stream.reset_on_close(),
                    (true, false) => client.linger(worker).await,
                    (false, _) => {}
                }
                if answered {
                    return After::Close;
                }
                failure
            }
        };
        match failure.may_repeat(request.method.is_idempotent(), whole) {
            Repeat::There if !fresh => fresh = true,
            Repeat::Elsewhere if may_retry(worker, &request.claim, &target, tried.len()) => {
                tried.push(target.slot);
                fresh = false;
            }
            Repeat::There | Repeat::Elsewhere | Repeat::No => {
                return After::answer(refuse(worker, client, request, body, failure).await);
            }
        }
    }
}

/// Waits for room at a backend.
async fn wait<'a>(
    worker: &'a Worker,
    client: &Client,
    request: &mut Request,
    line: &mut Line<'a>,
    queue: Queue,
) -> Waited {
    request.entry.iter_mut().for_each(|entry| entry.begins(worker));
    let waited = line.wait(worker, client.link.stream.handle(), &request.claim, queue).await;
    request.entry.iter_mut().for_each(|entry| entry.waited(worker));
    waited
}

async fn attempt<'a>(
    worker: &'a Worker,
    client: &mut Client,
    request: &mut Request,
    body: &mut Body,
    target: &Target,
    fresh: bool,
) -> Attempt<'a> {
    let failed = |failure| Attempt::Failed { failure, answered: false, ends_by_close: false };
    let (backend, reused) = match connect(worker, &request.claim, target, fresh).await {
        Ok(connected) => connected,
        Err(failure) => return failed(failure),
    };
    if let Some(entry) = &mut request.entry {
        entry.connected(worker, reused);
    }
    if !target.is_current(worker) {
        keep(worker, request, target.slot, backend);
        return Attempt::Outdated;
    }
    let free = target.free_choice(worker);
    let under_way = UnderWay::enter(worker, request.claim.pool.slot, target.slot, free);
    count_sent(worker, target.slot, free, reused);
    let flow = Flow::of(body);
    backend.deadline.set(worker.after(request.claim.pool.timeouts.response), Ends::Both);
    let (sent, head) = backend.stream.write_vector(std::mem::take(&mut request.head)).await;
    worker.board().add_backend(target.slot, BackendCount::BytesToBackend, head.len() as u64);
    request.head = head;
    if sent.is_err() {
        let kind = if backend.deadline.is_closed() { Kind::Drained } else { Kind::Closed };
        return failed(Failure::backend(kind, reused));
    }
    let (ends, link) = (client.has_said_all(request), &client.link);
    let pace = request.download_pace();
    let download =
        Download { worker, client: link, ends, backend: &backend, reused, request, target, flow: &flow, pace };
    let result = if flow.has_uploaded() {
        download.run().await
    } else {
        let upload = Upload {
            worker,
            client: link,
            buffer: &mut client.buffer,
            backend: &backend,
            slot: target.slot,
            request,
            flow: &flow,
            pace: request.upload_pace(),
        };
        both(upload.run(body), download.run()).await
    };
    link.deadline.clear();
    if !flow.has_uploaded() {
        // What was read and not sent is of a body that nobody takes any more; it must never be read as a request.
        worker.buffers.give_back(std::mem::take(&mut client.buffer));
    }
    match result {
        Ok(Downloaded::Switched(switched)) => {
            backend.deadline.clear();
            Attempt::Switched(Box::new(Upgraded::new(worker, request, target.slot, backend, switched, under_way)))
        }
        Ok(Downloaded::Answered { keep_client, keep_backend, marked }) => {
            if keep_backend && flow.has_uploaded() {
                keep(worker, request, target.slot, backend);
            }
            Attempt::Answered { keep_client: keep_client && flow.has_uploaded(), marked }
        }
        Err(failure) => {
            Attempt::Failed { failure, answered: flow.has_answered(), ends_by_close: flow.ends_by_close.get() }
        }
    }
}

/// Moves both directions at once. A response may end before the request does; a request that fails ends both. To give up
/// an upload loses what was being read, which is why the client's connection is closed after that.
async fn both(
    upload: impl Future<Output = Result<Uploaded, Failure>>,
    download: impl Future<Output = Result<Downloaded, Failure>>,
) -> Result<Downloaded, Failure> {
    let (mut upload, mut download) = (pin!(upload), pin!(download));
    let mut uploading = true;
    poll_fn(|context| {
        if uploading && let Poll::Ready(uploaded) = upload.as_mut().poll(context) {
            uploading = false;
            if let Err(failure) = uploaded {
                return Poll::Ready(Err(failure));
            }
        }
        download.as_mut().poll(context)
    })
    .await
}

fn keep(worker: &Worker, request: &Request, slot: u32, connection: Connection) {
    // What a stream was for is done; the connection that it was of is another's to keep.
    if !worker.is_draining() && request.claim.announced.is_none() && !connection.stream.is_http2() {
        let until = worker.after(request.claim.pool.timeouts.idle);
        worker.backends.keep(slot, connection, until, request.claim.pool.limits.idle_connections);
    }
}

async fn unavailable(worker: &Worker, client: &mut Client, request: &Request, body: &Body, unserved: Unserved) -> bool {
    tracing::debug!(?unserved, "request not served");
    if let Some(entry) = &request.entry {
        entry.unserved(unserved);
    }
    let reply = match unserved {
        Unserved::NoBackend | Unserved::PinnedDown(_) | Unserved::Full { .. } => {
            Reply { retry_after: Some(request.claim.pool.retry_after), ..request.reply(Status::ServiceUnavailable) }
        }
        Unserved::Ended(_) => request.reply(gone(request.claim.pool.gone_status)),
    };
    answer(worker, client, request, body, reply).await
}

async fn refuse(worker: &Worker, client: &mut Client, request: &Request, body: &Body, failure: Failure) -> bool {
    match status_of(failure) {
        None => false,
        Some(status) if failure.side == Side::Client => {
            if let Some(entry) = &request.entry {
                entry.answered_by_us(status.code());
            }
            client.reply_and_close(worker, &request.reply(status), request.entry.as_deref()).await;
            false
        }
        Some(status) => {
            // Elsewhere the next one is served at once.
            let retry_after = (failure.kind == Kind::Drained).then_some(1);
            answer(worker, client, request, body, Reply { retry_after, ..request.reply(status) }).await
        }
    }
}

/// Answers for a backend that did not. The client's connection is as good as before if the request was read whole.
async fn answer(worker: &Worker, client: &mut Client, request: &Request, body: &Body, reply: Reply) -> bool {
    watch::failed(worker, request, reply.status.code());
    // An upload that was given up has left no buffer, even if all of the body had been read by then.
    let keep_alive = request.may_go_on() && body.is_done() && client.buffer.is_held() && !worker.is_draining();
    if !client.reply(worker, &Reply { keep_alive, ..reply }, request.entry.as_deref()).await {
        client.linger(worker).await;
        return false;
    }
    true
}
