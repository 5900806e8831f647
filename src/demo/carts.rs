//! Where the demo's backends keep their users' carts.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A user who has logged in, and what he has put into his cart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) user: String,
    pub(super) cart: Vec<String>,
}

/// Sessions by their ids.
#[derive(Debug)]
pub(super) enum Carts {
    /// In this process's memory, as no other backend sees them.
    Own(Mutex<HashMap<String, Session>>),
    /// A file for each in a folder that the backends share.
    Shared(PathBuf),
}

impl Carts {
    pub(super) fn own() -> Self {
        Self::Own(Mutex::default())
    }

    /// Makes the folder where it is not there yet.
    pub(super) fn shared(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self::Shared(folder.to_owned()))
    }

    pub(super) fn begin(&self, id: &str, session: Session) -> io::Result<()> {
        match self {
            Self::Own(sessions) => {
                sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), session);
            }
            Self::Shared(folder) => {
                let mut file = File::options().create_new(true).write(true).mode(0o600).open(folder.join(id))?;
                file.write_all(to_text(&session).as_bytes())?;
            }
        }
        Ok(())
    }

    /// What `act` makes of the session of this id, and changes in it; `None` where there is none.
    pub(super) fn with<R>(&self, id: &str, act: impl FnOnce(&mut Session) -> R) -> io::Result<Option<R>> {
        match self {
            Self::Own(sessions) => {
                let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(sessions.get_mut(id).map(act))
            }
            // What a client sends must not lead out of the folder.
            Self::Shared(folder) if is_id(id) => with_file(&folder.join(id), act),
            Self::Shared(_) => Ok(None),
        }
    }
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn with_file<R>(path: &Path, act: impl FnOnce(&mut Session) -> R) -> io::Result<Option<R>> {
    let mut file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Two backends may serve one user at once.
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let before = of_text(&text);
    let mut session = before.clone();
    let made = act(&mut session);
    if session != before {
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(to_text(&session).as_bytes())?;
    }
    Ok(Some(made))
}

/// A line for the user, and one for each item: neither has line ends.
fn to_text(session: &Session) -> String {
    std::iter::once(&session.user).chain(&session.cart).map(|line| format!("{line}\n")).collect()
}

fn of_text(text: &str) -> Session {
    let mut lines = text.lines().map(str::to_owned);
    Session { user: lines.next().unwrap_or_default(), cart: lines.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_cart_is_the_same_for_all_and_one_of_its_own_is_not() {
        let folder = std::env::temp_dir().join(format!("steadfast-carts-{}", std::process::id()));
        let ada = Session { user: "ada".to_owned(), cart: vec!["tea".to_owned()] };
        let [one, other] = [(), ()].map(|()| Carts::shared(&folder).unwrap());
        one.begin("0a", ada.clone()).unwrap();
        other.with("0a", |session| session.cart.push("jam".to_owned())).unwrap().unwrap();
        let cart = one.with("0a", |session| session.cart.clone()).unwrap();
        assert_eq!(cart, Some(vec!["tea".to_owned(), "jam".to_owned()]));
        one.with("0a", |session| session.cart.clear()).unwrap();
        assert_eq!(
            other.with("0a", |session| session.clone()).unwrap(),
            Some(Session { cart: Vec::new(), ..ada.clone() })
        );
        for unknown in ["0b", "", "../0a", "/etc/passwd", "x"] {
            assert_eq!(one.with(unknown, |_| ()).unwrap(), None, "{unknown}");
        }
        let [one, other] = [Carts::own(), Carts::own()];
        one.begin("0a", ada).unwrap();
        assert_eq!((one.with("0a", |_| ()).unwrap(), other.with("0a", |_| ()).unwrap()), (Some(()), None));
        fs::remove_dir_all(folder).unwrap();
    }
}
