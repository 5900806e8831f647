//! Follows etcd for as long as this process lives: loads what is there, watches what changes, and begins anew where that
//! ends.

use super::{
    Etcd,
    bring::{Claims, bring},
    client::{Client, Failure},
    mirror::Told,
    rows::{FORMAT, Key, shown, whole_range},
    watch::{News, Watch},
    wire::{Header, Range},
};
use crate::{rest::problem::Problem, state::State};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout};

/// A watch that is silent for so long is begun anew: whether it still leads to a member that lives, and that hears the
/// others, can't be told otherwise. Nothing is missed by that, for it goes on where the one before was.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two attempts where etcd can't be reached: doubled from the first to the last, less up to a half by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// Until what the file says is told again, where that failed: writes wait for it.
const SEED_AGAIN: Duration = Duration::from_millis(500);
/// A watch that fails so often before it told anything is begun with all that there is.
const FUTILE: u32 = 2;

/// A node that knows no more than its file leaves an empty prefix to others for so long.
const GRACE: Duration = Duration::from_secs(1);

/// What is kept from one watch to the next.
#[derive(Debug)]
struct Followed {
    began: Instant,
    /// The mirror has all that was there at its revision.
    loaded: bool,
    /// Watches in a row that told nothing and failed.
    futile: u32,
    claims: Claims,
    /// Attempts in a row that led to no watch.
    attempts: u32,
}

/// Never returns.
pub(crate) async fn run(state: Arc<State>, etcd: Arc<Etcd>) {
    let (began, claims) = (Instant::now(), Claims::default());
    let mut followed = Followed { began, loaded: false, futile: 0, claims, attempts: 0 };
    tokio::spawn(seed(Arc::clone(&state), Arc::clone(&etcd)));
    loop {
        let Err(failure) = session(&state, &etcd, &mut followed).await else { continue };
        etcd.is_away(&failure);
        etcd.client.turn();
        let pause = (FIRST_PAUSE * 2u32.saturating_pow(followed.attempts.min(16))).min(LAST_PAUSE);
        followed.attempts += 1;
        sleep(shortened(pause)).await;
    }
}

/// Less by up to a half, so that nodes don't come all at once.
pub(super) fn shortened(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without chance they come at once.
    let _ = getrandom::fill(&mut random);
    pause - pause * u32::from(u16::from_ne_bytes(random)) / (2 * u32::from(u16::MAX))
}

/// One watch, from its beginning to its end.
///
/// # Errors
/// etcd can't be reached, or can't be used.
async fn session(state: &Arc<State>, etcd: &Etcd, followed: &mut Followed) -> Result<(), Failure> {
    let client = &etcd.client;
    let head = client.range(&Range::one(&Key::Format.path(client.prefix()))).await?;
    let Some(format) = head.kvs.first() else {
        followed.loaded = false;
        let fresh = followed.began.elapsed() < GRACE && !etcd.mirror.lock().await.knows_any();
        return bring(state, etcd, &mut followed.claims, fresh).await;
    };
    let format = String::from_utf8_lossy(&format.value).trim().to_owned();
    if format != FORMAT {
        let (prefix, format) = (client.prefix(), shown(&format));
        let reason = format!("`{prefix}/format` is `{format}` and this version reads {FORMAT}: use another prefix");
        return Err(Failure::Refused(reason));
    }
    if !followed.loaded || followed.futile >= FUTILE || etcd.began_anew(&head.header).await {
        load(state, etcd, head.header).await?;
        (followed.loaded, followed.futile) = (true, 0);
    }
    let mut watch = Watch::begin(client, etcd.mirror.lock().await.revision + 1).await?;
    etcd.is_here();
    followed.attempts = 0;
    if let Err(failure) = hear(state, etcd, &mut watch, followed).await {
        tracing::debug!(%failure, "the watch of etcd ended");
        etcd.restarts.fetch_add(1, Relaxed);
        followed.futile += 1;
        client.turn();
        // Where it can't be begun anew, that is told.
        sleep(shortened(FIRST_PAUSE * followed.futile)).await;
    }
    Ok(())
}

impl Etcd {
    /// Whether the revisions that this node knows are none of this etcd's: it was made anew, or from a backup.
    async fn began_anew(&self, header: &Header) -> bool {
        let mirror = self.mirror.lock().await;
        let anew = header.cluster_id != mirror.cluster || header.revision < mirror.revision;
        if anew {
            tracing::warn!(known = mirror.revision, now = header.revision, "etcd began anew: all of it is read");
        }
        anew
    }
}

/// Takes over what the watch tells, until it is silent, or is to be doubted, or not all of it is known any more.
///
/// # Errors
/// The watch broke.
async fn hear(state: &State, etcd: &Etcd, watch: &mut Watch, followed: &mut Followed) -> Result<(), Failure> {
    loop {
        let news = tokio::select! {
            news = timeout(SILENCE, watch.next()) => match news {
                Ok(news) => news?,
                Err(_) => return Ok(()),
            },
            () = etcd.doubt.notified() => return Ok(()),
        };
        followed.futile = 0;
        match news {
            News::Events(events) => {
                if state.hear(etcd, &events).await {
                    tracing::warn!(prefix = etcd.client.prefix(), "etcd was emptied: backends stay, and are put back");
                    followed.loaded = false;
                    return Ok(());
                }
            }
            News::Compacted(revision) => {
                tracing::info!(
                    revision,
                    "etcd has forgotten what happened since this node last heard: all of it is read"
                );
                followed.loaded = false;
                etcd.restarts.fetch_add(1, Relaxed);
                return Ok(());
            }
        }
    }
}

async fn load(state: &State, etcd: &Etcd, head: Header) -> Result<(), Failure> {
    let (first, end) = whole_range(etcd.client.prefix());
    let told = pages(&etcd.client, first, &end, head.revision).await?;
    state.load(etcd, &told, (head.revision, head.cluster_id)).await;
    Ok(())
}

/// All keys from `first` up to `end`, as they were at this revision.
pub(super) async fn pages(client: &Client, first: String, end: &str, revision: u64) -> Result<Vec<Told>, Failure> {
    let (mut told, mut first) = (Vec::<Told>::new(), first.into_bytes());
    loop {
        let answer = client.range(&Range::page(&first, end, revision)).await?;
        let more = answer.more;
        told.extend(answer.kvs.into_iter().map(Told::from));
        match told.last().filter(|_| more) {
            // The least key behind it.
            Some(last) => first = [last.key.as_slice(), &[0]].concat(),
            None => return Ok(told),
        }
    }
}

/// Tells the cluster what the file says and it has not seen, once it can be reached.
async fn seed(state: Arc<State>, etcd: Arc<Etcd>) {
    let mut heard = etcd.heard.subscribe();
    let mut told = None;
    loop {
        // An error means that nobody will be heard any more.
        if heard.wait_for(|revision| *revision > 0).await.is_err() {
            return;
        }
        match state.seed(&etcd).await {
            Ok(()) => {
                etcd.seeded.send_replace(true);
                return;
            }
            Err(refusal) => {
                let why = Problem::from(refusal).to_string();
                if told.as_ref() != Some(&why) {
                    tracing::warn!("what the file says can't be told to etcd yet: {why}");
                    told = Some(why);
                }
            }
        }
        sleep(shortened(SEED_AGAIN)).await;
    }
}
