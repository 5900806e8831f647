//! Users of this machine.

use std::{ffi::CString, io, mem::MaybeUninit, ptr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// Asks the machine's user database; `None` where there is no such user.
    pub(crate) fn find(name: &str) -> io::Result<Option<Self>> {
        let Ok(c_name) = CString::new(name) else { return Ok(None) };
        let mut buffer = vec![0u8; 16 << 10];
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: all pointers are to live locals, and the length is that of the buffer.
        let error = unsafe {
            libc::getpwnam_r(
                c_name.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            0 if found.is_null() => Ok(None),
            0 => {
                // SAFETY: with a result, the call has filled in `entry`.
                let entry = unsafe { entry.assume_init() };
                Ok(Some(Self { name: name.to_owned(), uid: entry.pw_uid, gid: entry.pw_gid }))
            }
            libc::ENOENT | libc::ESRCH => Ok(None),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    pub(crate) fn is_self(&self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }
}
