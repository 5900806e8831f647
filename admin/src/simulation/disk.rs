//! A disk that keeps apart what was synced and what was only written: a process that is killed loses neither, and a power
//! loss may take any part of the latter.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a disk writes as a whole, or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Write {
    Len(usize),
    Bytes(usize, Vec<u8>),
}

impl Write {
    /// What of it may be lost without the rest.
    fn parts(self) -> impl Iterator<Item = Self> {
        let (len, bytes) = match self {
            Self::Len(len) => (Some(Self::Len(len)), None),
            Self::Bytes(at, bytes) => (None, Some((at, bytes))),
        };
        let sectors = bytes.into_iter().flat_map(|(at, bytes)| {
            let first = (SECTOR - at % SECTOR).min(bytes.len());
            let (head, rest) = bytes.split_at(first);
            let starts = (at + first..).step_by(SECTOR);
            let rest = starts.zip(rest.chunks(SECTOR)).map(|(at, sector)| Self::Bytes(at, sector.to_vec()));
            [Self::Bytes(at, head.to_vec())].into_iter().chain(rest).collect::<Vec<_>>()
        });
        len.into_iter().chain(sectors)
    }

    fn on(&self, image: &mut Vec<u8>) {
        match self {
            Self::Len(len) => image.resize(*len, 0),
            Self::Bytes(at, bytes) => {
                // One that was to make room for it may be lost.
                if image.len() < at + bytes.len() {
                    image.resize(at + bytes.len(), 0);
                }
                image[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Image {
    synced: Vec<u8>,
    /// What a read finds.
    seen: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Debug, Default)]
struct All {
    files: BTreeMap<PathBuf, Image>,
    /// Which process may use them: what another one has opened is of a dead one.
    life: u64,
    /// The process dies at the operation so many further on.
    dies_in: Option<u64>,
    is_full: bool,
}

/// All files of one process.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<All>>);

/// A file as one process has opened it.
#[derive(Debug)]
pub(crate) struct Opened {
    disk: Disk,
    path: PathBuf,
    life: u64,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process that uses it is gone; what it has written is there.
    pub fn kill(&self) {
        let mut all = self.lock();
        all.life += 1;
        all.dies_in = None;
    }

    /// What was not synced is there in parts: for each sector that was written, `keeps` says whether it is.
    pub fn lose_power(&self, mut keeps: impl FnMut() -> bool) {
        self.kill();
        for image in self.lock().files.values_mut() {
            for write in std::mem::take(&mut image.unsynced) {
                write.parts().filter(|_| keeps()).for_each(|part| part.on(&mut image.synced));
            }
            image.seen.clone_from(&image.synced);
        }
    }

    /// The process that uses it dies at the operation so many further on.
    pub fn die_in(&self, operations: u64) {
        self.lock().dies_in = Some(operations);
    }

    /// Which life of the process it is.
    pub fn life(&self) -> u64 {
        self.lock().life
    }

    /// Nothing can be written for as long as it is full.
    pub fn fill(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// The bytes of one file on a disk of their own, under another name; `None` where there is no such file.
    pub fn copy(&self, path: &Path, to: &Path) -> Option<Self> {
        let seen = self.lock().files.get(path)?.seen.clone();
        let image = Image { synced: seen.clone(), seen, unsynced: Vec::new() };
        Some(Self(Arc::new(Mutex::new(All { files: [(to.to_owned(), image)].into(), ..All::default() }))))
    }

    pub(crate) fn has(&self, path: &Path) -> bool {
        self.lock().files.contains_key(path)
    }

    pub(crate) fn create(&self, path: &Path) -> io::Result<()> {
        self.lock().change()?.files.insert(path.to_owned(), Image::default());
        Ok(())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut all = self.lock();
        let files = &mut all.change()?.files;
        let image = files.remove(from).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        files.insert(to.to_owned(), image);
        Ok(())
    }

    pub(crate) fn open(&self, path: &Path) -> Opened {
        Opened { disk: self.clone(), path: path.to_owned(), life: self.life() }
    }
}

impl All {
    /// One operation that changes something.
    fn change(&mut self) -> io::Result<&mut Self> {
        if self.dies_in == Some(0) {
            self.life += 1;
            self.dies_in = None;
            return Err(io::Error::other("its process dies"));
        }
        self.dies_in = self.dies_in.map(|left| left - 1);
        if self.is_full { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(self) }
    }
}

impl Opened {
    fn with<T>(&self, act: impl FnOnce(&mut All, &Path) -> io::Result<T>) -> io::Result<T> {
        let mut all = self.disk.lock();
        if all.life != self.life {
            return Err(io::Error::other("its process is dead"));
        }
        act(&mut all, &self.path)
    }

    fn read_on<T>(&self, act: impl FnOnce(&Image) -> io::Result<T>) -> io::Result<T> {
        self.with(|all, path| act(all.files.get(path).ok_or_else(gone)?))
    }

    fn change<T>(&self, act: impl FnOnce(&mut Image) -> T) -> io::Result<T> {
        self.with(|all, path| Ok(act(all.change()?.files.get_mut(path).ok_or_else(gone)?)))
    }

    fn put(&self, write: Write) -> io::Result<()> {
        self.change(|image| {
            write.on(&mut image.seen);
            image.unsynced.push(write);
        })
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("disks are small")
}

impl redb::StorageBackend for Opened {
    fn len(&self) -> io::Result<u64> {
        self.read_on(|image| Ok(image.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = place(offset);
        self.read_on(|image| {
            let found = image.seen.get(at..at + out.len());
            out.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.put(Write::Len(place(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|Image { synced, unsynced, .. }| unsynced.drain(..).for_each(|write| write.on(synced)))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.put(Write::Bytes(place(offset), data.to_vec()))
    }
}
