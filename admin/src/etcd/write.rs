//! How the state of this node follows etcd, and how its own writes get there.

use super::{
    Etcd, Mirror,
    client::Failure,
    follow::shortened,
    mirror::{Told, diff},
    rows::Key,
    txn::{Compare, Op, Txn, Wanted, is_shared, txns},
    wire,
};
use crate::{
    clock,
    state::{
        State, Written, file, incarnation,
        plan::{Current, Plan},
        refusal::{NotShared, Refusal},
    },
    store::Sections,
};
use control::{
    config::Config,
    desired::{Change, Desired, Snapshot},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

/// How often a write is planned anew where somebody else was faster.
const TRIES: u32 = 12;
/// Between two of these: doubled from here on, less up to a half by chance.
const PAUSE: Duration = Duration::from_millis(4);
const MAX_PAUSE: Duration = Duration::from_millis(250);

/// What a write comes to, before it is carried out.
struct Planned {
    txns: Vec<Txn>,
    /// What is this node's own.
    own: Vec<Change>,
    created: bool,
    /// What it was planned by.
    revision: u64,
}

/// How transactions went.
enum Sent {
    /// All were carried out, the last one as this revision.
    All(u64),
    /// Something is otherwise by now.
    Otherwise,
}

impl State {
    /// Takes over what etcd tells. Whether it was emptied: then nothing is taken over.
    pub(super) async fn hear(&self, etcd: &Etcd, news: &[Told]) -> bool {
        let mut mirror = etcd.mirror.lock().await;
        let known = self.snapshot();
        let touched = mirror.follow(news, &known.desired.listeners);
        if touched.wiped {
            return true;
        }
        let changes = if *etcd.seeded.borrow() {
            mirror.changes(&known.desired, &touched.pools)
        } else {
            diff(&known.desired, &supposed(&mirror, self.running()), &touched.pools)
        };
        // Whoever holds on to it has the next generation copied.
        drop(known);
        let sections = touched.sections.then(|| mirror.sections());
        self.take_over(etcd, &mirror, Plan { changes, sections, ..Plan::default() }, false).await;
        false
    }

    /// Takes over all that etcd holds. What is as it was goes on as it did.
    pub(super) async fn load(&self, etcd: &Etcd, told: &[Told], at: (u64, String)) {
        let mut mirror = etcd.mirror.lock().await;
        let known = self.snapshot();
        mirror.load(told, at, &known.desired, &known.desired.listeners);
        let wanted = if *etcd.seeded.borrow() { mirror.desired() } else { supposed(&mirror, self.running()) };
        let pools = known.desired.pools.keys().chain(wanted.pools.keys()).cloned().collect();
        let changes = diff(&known.desired, &wanted, &pools);
        drop(known);
        let sections = Some(mirror.sections());
        // What the file said counted so far without being stored.
        self.take_over(etcd, &mirror, Plan { changes, sections, ..Plan::default() }, true).await;
    }

    async fn take_over(&self, etcd: &Etcd, mirror: &Mirror, plan: Plan, anew: bool) {
        etcd.tell_problems(mirror);
        self.act_on(plan, mirror.life(), anew).await;
        etcd.heard.send_replace(mirror.revision);
    }

    /// Carries out a plan by way of etcd, however often it has to be made anew.
    ///
    /// # Errors
    /// What the plan refuses; that etcd can't be reached; that others are always faster.
    pub(crate) async fn share<P>(&self, etcd: &Etcd, plan: &P) -> Result<Written, Refusal>
    where
        P: Fn(&Current<'_>) -> Result<Plan, Refusal> + Send + Sync,
    {
        let _turn = etcd.turn.lock().await;
        self.can_share(etcd, plan).await?;
        etcd.keep_lives().await?;
        self.carry_out(etcd, plan, false).await
    }

    /// Whether a plan can be carried out by now, as far as that can be told before.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn can_share<P>(&self, etcd: &Etcd, plan: &P) -> Result<(), Refusal>
    where
        P: Fn(&Current<'_>) -> Result<Plan, Refusal> + Send + Sync,
    {
        if self.plan_by(etcd, plan, false).await?.txns.is_empty() { Ok(()) } else { etcd.ready().await }
    }

    /// Tells the cluster what the file says and it has not seen.
    pub(super) async fn seed(&self, etcd: &Etcd) -> Result<(), Refusal> {
        let _turn = etcd.turn.lock().await;
        etcd.keep_lives().await?;
        let plan = |current: &Current<'_>| {
            let Current { snapshot, sections, incarnation, .. } = current;
            let mut plan = file::plan(&snapshot.desired, sections, self.running(), *incarnation);
            plan.changes.retain(is_shared);
            Ok(plan)
        };
        // What is only supposed so far is not in etcd yet: it is planned by what is there.
        self.carry_out(etcd, &plan, true).await.map(drop)
    }

    async fn carry_out<P>(&self, etcd: &Etcd, plan: &P, by_etcd: bool) -> Result<Written, Refusal>
    where
        P: Fn(&Current<'_>) -> Result<Plan, Refusal> + Send + Sync,
    {
        // Once a part is carried out, what remains is planned by what that has led to.
        let mut partly = None;
        for round in 0..TRIES {
            let planned = match self.plan_by(etcd, plan, by_etcd).await {
                Err(refusal) => return Err(if partly.is_some() { NotShared::Partly.into() } else { refusal }),
                Ok(planned) => planned,
            };
            if planned.txns.is_empty() {
                let changed = partly.is_some() || !planned.own.is_empty();
                let generation = self.publish_own(planned.own);
                return Ok(Written { generation, changed, created: planned.created });
            }
            match etcd.send(&planned.txns, &mut partly).await? {
                Sent::All(revision) => {
                    etcd.until(|heard| heard >= revision).await?;
                    let generation = self.publish_own(planned.own);
                    return Ok(Written { generation, changed: true, created: planned.created });
                }
                Sent::Otherwise => {
                    let seen = partly.unwrap_or_default();
                    // It differs from what this node has heard, so there is something to hear.
                    etcd.until(|heard| heard > planned.revision && heard >= seen).await?;
                    sleep(shortened((PAUSE * 2u32.pow(round)).min(MAX_PAUSE))).await;
                }
            }
        }
        Err(if partly.is_some() { NotShared::Partly } else { NotShared::Contended }.into())
    }

    /// Plans by what is desired here, or, `by_etcd`, by what etcd holds alone.
    async fn plan_by<P>(&self, etcd: &Etcd, plan: &P, by_etcd: bool) -> Result<Planned, Refusal>
    where
        P: Fn(&Current<'_>) -> Result<Plan, Refusal>,
    {
        let mirror = etcd.mirror.lock().await;
        let mut snapshot = self.snapshot();
        if by_etcd {
            let Desired { pools, releases, .. } = mirror.desired();
            let desired = Desired { pools, releases, ..snapshot.desired.clone() };
            snapshot = Arc::new(Snapshot { desired, ..Snapshot::clone(&snapshot) });
        }
        let sections = mirror.sections();
        let (incarnation, now) = (incarnation(mirror.life()), clock::unix_millis());
        let Plan { changes, sections, created, whole } =
            plan(&Current { snapshot: &snapshot, sections: &sections, incarnation, now, shared: true })?;
        let wanted = Wanted { changes: &changes, sections: sections.as_ref(), whole: &whole };
        let txns = txns(&mirror, &snapshot.desired, wanted);
        let own = changes.into_iter().filter(|change| !is_shared(change)).collect();
        Ok(Planned { txns, own, created, revision: mirror.revision })
    }

    /// Makes the changes that are this node's own, as far as what they are of is still there. The generation that has them,
    /// and all that was heard before.
    fn publish_own(&self, mut own: Vec<Change>) -> u64 {
        let shared = self.lock();
        let pools = &shared.snapshot.desired.pools;
        own.retain(|change| {
            let Change::Observe { pool, name, .. } = change else { return true };
            pools.get(pool).is_some_and(|pool| pool.members.contains_key(name))
        });
        self.publish(shared, own)
    }

    /// What is desired here and what the file says of it, for a prefix that is empty.
    pub(super) fn told_by_file(&self, sections: &Sections) -> (Desired, Sections) {
        let desired = self.snapshot().desired.clone();
        let plan = file::plan(&desired, sections, self.running(), control::desired::SEED_INCARNATION);
        (desired, plan.sections.unwrap_or_else(|| sections.clone()))
    }
}

impl Etcd {
    /// Whether this node's writes can get there: etcd is watched, and knows what the file says.
    ///
    /// # Errors
    /// It can't be reached, since when and why.
    async fn ready(&self) -> Result<(), Refusal> {
        self.refuse_away()?;
        let mut seeded = self.seeded.subscribe();
        // It is never dropped before this.
        drop(timeout(self.client.limit(), seeded.wait_for(|seeded| *seeded)).await);
        self.refuse_away()?;
        if *self.seeded.borrow() {
            return Ok(());
        }
        let why = "etcd could not be told yet what the configuration file says: see the log";
        Err(NotShared::Away(why.to_owned()).into())
    }

    /// # Errors
    /// etcd can't be reached, since when and why.
    pub(crate) fn refuse_away(&self) -> Result<(), Refusal> {
        match self.status().why_away(clock::unix_millis()) {
            Some(why) => Err(NotShared::Away(format!("{why}; nothing has changed")).into()),
            None => Ok(()),
        }
    }

    /// A call failed: the watch may be dead too.
    fn doubted(&self, failure: &Failure, partly: bool) -> Refusal {
        self.doubt.notify_one();
        let outcome = match failure {
            Failure::Unknown(_) => "whether this was carried out shows when it is back",
            Failure::NotSent(_) | Failure::Refused(_) if partly => {
                "a part of this is carried out: the same again does the rest"
            }
            Failure::NotSent(_) | Failure::Refused(_) => "nothing has changed",
        };
        NotShared::Away(format!("etcd can't be written to: {failure}; {outcome}")).into()
    }

    /// Carries transactions out, one after the other. `partly` is the revision of the last one that was.
    async fn send(&self, txns: &[Txn], partly: &mut Option<u64>) -> Result<Sent, Refusal> {
        let mut written: BTreeMap<Key, u64> = BTreeMap::new();
        for txn in txns {
            let question = wire::txn(txn, self.client.prefix(), |key| written.get(key).copied());
            let answer =
                self.client.txn(&question).await.map_err(|failure| self.doubted(&failure, partly.is_some()))?;
            if !answer.succeeded {
                return Ok(Sent::Otherwise);
            }
            let revision = answer.header.revision;
            *partly = Some(revision);
            written.extend(txn.ops.iter().filter_map(|op| match op {
                Op::Put(key, _) => Some((key.clone(), revision)),
                Op::Delete(key) => Some((key.clone(), 0)),
                Op::DeleteMembers(_) => None,
            }));
        }
        Ok(Sent::All(partly.unwrap_or_default()))
    }

    /// Waits until this node has heard as much.
    ///
    /// # Errors
    /// It hears nothing more.
    async fn until(&self, enough: impl Fn(u64) -> bool) -> Result<(), Refusal> {
        let mut heard = self.heard.subscribe();
        while !enough(*heard.borrow_and_update()) {
            // However long it takes, as long as there is something to hear.
            if timeout(self.client.limit() * 2, heard.changed()).await.is_err() {
                self.doubt.notify_one();
                let why =
                    "etcd has carried out what was asked for, or something else before it, and its watch does not tell";
                return Err(NotShared::Away(format!("{why}: it counts here once it does")).into());
            }
        }
        Ok(())
    }

    /// Sees to it that numbers of lives go on from the highest that this node knows, also where etcd was made anew.
    ///
    /// # Errors
    /// etcd can't be reached or written to, or others do the same all the time.
    async fn keep_lives(&self) -> Result<(), Refusal> {
        for _ in 0..TRIES {
            let (txn, revision) = {
                let mirror = self.mirror.lock().await;
                if mirror.revision == 0 || mirror.told_life() >= mirror.life() {
                    return Ok(());
                }
                let base = mirror.life().saturating_sub(mirror.revision);
                let compares = vec![Compare::Unchanged(Key::Base, mirror.revision_of(&Key::Base))];
                (Txn { compares, ops: vec![Op::Put(Key::Base, base.to_string())] }, mirror.revision)
            };
            let mut put = None;
            self.send(&[txn], &mut put).await?;
            // Whoever was faster may know of lower ones alone.
            self.until(|heard| heard >= put.unwrap_or(revision + 1)).await?;
        }
        Err(NotShared::Contended.into())
    }
}

/// What is desired by etcd once it knows what the file says. That counts already: a pool that the file brings must not go
/// while it is written, step by step.
pub(super) fn supposed(mirror: &Mirror, config: &Config) -> Desired {
    let mut desired = mirror.desired();
    let plan = file::plan(&desired, &mirror.sections(), config, incarnation(mirror.life()));
    plan.changes.iter().filter(|change| is_shared(change)).for_each(|change| desired.apply(change));
    desired
}
