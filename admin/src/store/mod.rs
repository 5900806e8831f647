//! The desired state on disk, in one redb file: a row per pool's settings, a row per member, and what the configuration
//! file said when it was last seen. Every commit is on disk when it returns.

mod file;
#[cfg(test)]
mod tests;

use crate::error::Error;
use control::{
    desired::{Change, Member, PoolState},
    release::Release,
    spec::Pool,
};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// Which rows there are and what is in them. A store with a higher one was written by a newer version.
const FORMAT: u64 = 1;
/// The whole state fits into memory several times over, so a cache of it need not be large.
const CACHE_BYTES: usize = 16 << 20;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const SETTINGS: TableDefinition<&str, &[u8]> = TableDefinition::new("settings");
const MEMBERS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("members");
const RELEASES: TableDefinition<&str, &[u8]> = TableDefinition::new("releases");
/// Members as this node last saw them, by itself: where the file is the source of membership, what the file can't say of
/// them. Apart from [`MEMBERS`], so that a source that is changed and changed back finds what it left.
const NOTICED: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("noticed");
const SECTIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("sections");

/// A pool's section of the configuration file as it was last seen. Kept as it was and not as a hash, so that a setting
/// that a newer version adds makes no difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) said: Pool,
    /// The pool was deleted over REST and stays so until the section changes.
    pub(crate) deleted: bool,
}

pub(crate) type Sections = BTreeMap<String, Section>;

/// What a store holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stored {
    pub(crate) pools: BTreeMap<String, PoolState>,
    pub(crate) releases: BTreeMap<String, Release>,
    pub(crate) sections: Sections,
    /// By pool.
    pub(crate) noticed: BTreeMap<String, BTreeMap<String, Member>>,
    /// No generation above this one was ever given out.
    pub(crate) bound: u64,
    /// No life of a backend had a number above this one, by what etcd told.
    pub(crate) lives: u64,
}

/// What one commit writes, all of it or nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// Forget all that changes are written to first.
    pub(crate) clear: bool,
    /// The changes are of members alone, and what was noticed of them.
    pub(crate) noticed: bool,
    /// Changes to what is not stored (listeners, keys, what is observed) are passed over.
    pub(crate) changes: Vec<Change>,
    /// All sections, where they changed.
    pub(crate) sections: Option<Sections>,
    pub(crate) bound: Option<u64>,
    pub(crate) lives: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the store, and makes an empty one with mode 0600 where there is none.
    ///
    /// # Errors
    /// The file is open elsewhere, damaged, no store at all, or of a newer format.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = file::open(&builder, path)
            .map_err(|error| Error::Store { path: path.to_owned(), reason: why_not_opened(error) })?;
        Ok(Self { database, path: path.to_owned() })
    }

    pub(crate) fn load(&self) -> Result<Stored, Error> {
        self.read().map_err(|reason| Error::Store { path: self.path.clone(), reason })
    }

    /// Returns when all of the batch is on disk.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), Error> {
        self.write(batch).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> Error {
        Error::Store { path: self.path.clone(), reason: format!("can't be written: {}", error.into()) }
    }

    fn read(&self) -> Result<Stored, String> {
        let transaction = self.database.begin_read().map_err(damaged)?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Stored::default()),
            Err(error) => return Err(damaged(error)),
        };
        let number = |key| meta.get(key).map(|value| value.map_or(0, |value| value.value())).map_err(damaged);
        let format = number("format")?;
        if format != FORMAT {
            return Err(format!(
                "has format {format} and this version reads format {FORMAT}: it was written by another version"
            ));
        }
        let mut stored = Stored { bound: number("bound")?, lives: number("lives")?, ..Stored::default() };
        for row in transaction.open_table(SETTINGS).map_err(damaged)?.iter().map_err(damaged)? {
            let (name, settings) = row.map_err(damaged)?;
            let name = name.value();
            let settings = parse(settings.value(), || format!("pool `{name}`"))?;
            stored.pools.insert(name.to_owned(), PoolState { settings, members: BTreeMap::new() });
        }
        for row in transaction.open_table(MEMBERS).map_err(damaged)?.iter().map_err(damaged)? {
            let (key, member) = row.map_err(damaged)?;
            let (pool, name) = key.value();
            let member: Member = parse(member.value(), || format!("backend `{name}` of pool `{pool}`"))?;
            let members = stored.pools.get_mut(pool).map(|pool| &mut pool.members);
            members.ok_or_else(|| damaged(format!("there is no pool `{pool}`")))?.insert(name.to_owned(), member);
        }
        stored.releases = releases(&transaction)?;
        stored.noticed = noticed(&transaction)?;
        for row in transaction.open_table(SECTIONS).map_err(damaged)?.iter().map_err(damaged)? {
            let (name, section) = row.map_err(damaged)?;
            let section = parse(section.value(), || format!("section `{}`", name.value()))?;
            stored.sections.insert(name.value().to_owned(), section);
        }
        Ok(stored)
    }

    fn write(&self, batch: &Batch) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert("format", FORMAT)?;
            if let Some(bound) = batch.bound {
                meta.insert("bound", bound)?;
            }
            if let Some(lives) = batch.lives {
                meta.insert("lives", lives)?;
            }
            // Whoever reads finds each of them.
            drop(transaction.open_table(MEMBERS)?);
            let mut tables = Tables {
                settings: transaction.open_table(SETTINGS)?,
                members: transaction.open_table(if batch.noticed { NOTICED } else { MEMBERS })?,
                releases: transaction.open_table(RELEASES)?,
            };
            if batch.clear {
                tables.members.retain(|_, _| false)?;
            }
            if batch.clear && !batch.noticed {
                tables.settings.retain(|_, _| false)?;
                tables.releases.retain(|_, _| false)?;
            }
            for change in &batch.changes {
                tables.write(change)?;
            }
            let mut rows = transaction.open_table(SECTIONS)?;
            if let Some(sections) = &batch.sections {
                rows.retain(|_, _| false)?;
                for (name, section) in sections {
                    rows.insert(name.as_str(), to_row(section).as_slice())?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

type Rows<K> = redb::ReadOnlyTable<K, &'static [u8]>;

/// A table that a store may be older than.
fn later_table<K: redb::Key + 'static>(
    transaction: &redb::ReadTransaction,
    table: TableDefinition<'_, K, &'static [u8]>,
) -> Result<Option<Rows<K>>, String> {
    match transaction.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(damaged(error)),
    }
}

fn releases(transaction: &redb::ReadTransaction) -> Result<BTreeMap<String, Release>, String> {
    let Some(table) = later_table(transaction, RELEASES)? else { return Ok(BTreeMap::new()) };
    let mut releases = BTreeMap::new();
    for row in table.iter().map_err(damaged)? {
        let (pool, release) = row.map_err(damaged)?;
        let pool = pool.value().to_owned();
        let release = parse(release.value(), || format!("the release of pool `{pool}`"))?;
        releases.insert(pool, release);
    }
    Ok(releases)
}

fn noticed(transaction: &redb::ReadTransaction) -> Result<BTreeMap<String, BTreeMap<String, Member>>, String> {
    let Some(table) = later_table(transaction, NOTICED)? else { return Ok(BTreeMap::new()) };
    let mut noticed: BTreeMap<String, BTreeMap<String, Member>> = BTreeMap::new();
    for row in table.iter().map_err(damaged)? {
        let (key, member) = row.map_err(damaged)?;
        let (pool, name) = key.value();
        let member = parse(member.value(), || format!("backend `{name}` of pool `{pool}`"))?;
        noticed.entry(pool.to_owned()).or_default().insert(name.to_owned(), member);
    }
    Ok(noticed)
}

struct Tables<'t> {
    settings: redb::Table<'t, &'static str, &'static [u8]>,
    members: redb::Table<'t, (&'static str, &'static str), &'static [u8]>,
    releases: redb::Table<'t, &'static str, &'static [u8]>,
}

impl Tables<'_> {
    fn write(&mut self, change: &Change) -> Result<(), redb::Error> {
        match change {
            Change::PutPool { name, pool } => {
                self.settings.insert(name.as_str(), to_row(&pool.settings).as_slice())?;
                self.forget_members(name)?;
                for (member, row) in &pool.members {
                    self.members.insert((name.as_str(), member.as_str()), to_row(row).as_slice())?;
                }
            }
            Change::RemovePool { name } => {
                self.settings.remove(name.as_str())?;
                self.releases.remove(name.as_str())?;
                self.forget_members(name)?;
            }
            Change::PutSettings { name, settings } => {
                self.settings.insert(name.as_str(), to_row(settings).as_slice())?;
            }
            Change::PutMember { pool, name, member } => {
                self.members.insert((pool.as_str(), name.as_str()), to_row(member).as_slice())?;
            }
            Change::RemoveMember { pool, name } => {
                self.members.remove((pool.as_str(), name.as_str()))?;
            }
            Change::PutRelease { pool, release } => {
                self.releases.insert(pool.as_str(), to_row(release).as_slice())?;
            }
            Change::RemoveRelease { pool } => drop(self.releases.remove(pool.as_str())?),
            Change::Listeners { .. } | Change::Keys { .. } | Change::Observe { .. } | Change::Rebalance { .. } => {}
        }
        Ok(())
    }

    fn forget_members(&mut self, pool: &str) -> Result<(), redb::Error> {
        // The least string after `pool`, so that the range holds this pool's rows and no others.
        let after = format!("{pool}\0");
        Ok(self.members.retain_in((pool, "")..(after.as_str(), ""), |_, _| false)?)
    }
}

fn why_not_opened(error: DatabaseError) -> String {
    if let DatabaseError::DatabaseAlreadyOpen = error {
        "is in use by another process".to_owned()
    } else if let DatabaseError::UpgradeRequired(version) = error {
        format!("has an old file format ({version})")
    } else if let DatabaseError::Storage(StorageError::Io(error)) = &error
        && error.kind() != io::ErrorKind::InvalidData
    {
        format!("can't be opened: {error}")
    } else {
        damaged(error)
    }
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("is damaged or no store: {error}; restore it from a backup, or move it away to begin with an empty one")
}

fn to_row<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("rows have string keys and no failing parts")
}

fn parse<T: DeserializeOwned>(row: &[u8], what: impl FnOnce() -> String) -> Result<T, String> {
    serde_json::from_slice(row)
        .map_err(|error| format!("has a row for {} that this version can't read: {error}", what()))
}
