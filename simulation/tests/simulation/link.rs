//! A connection of the control channel, as the two processes and the kernel between them have it.

use std::{collections::VecDeque, io::Read, os::unix::net::UnixStream, sync::Arc};

/// Lines go their way one by one, when their turn comes; what was sent before a cut may still come or be lost.
#[derive(Debug)]
pub(crate) struct Link {
    /// As the data plane knows it; absent once it has heard of the end.
    pub(crate) plane_side: Option<u64>,
    /// As the admin process knows it; absent before the hello and after the end.
    pub(crate) admin_side: Option<u64>,
    pub(crate) to_plane: VecDeque<Arc<[u8]>>,
    /// All that was ever sent to the data plane.
    pub(crate) sent: Vec<Arc<[u8]>>,
    pub(crate) to_admin: VecDeque<Vec<u8>>,
    /// Nothing is sent any more; what is under way may still come.
    pub(crate) is_cut: bool,
    stream: UnixStream,
    read: Vec<u8>,
}

impl Link {
    pub(crate) fn new(number: u64, stream: UnixStream) -> Self {
        Self {
            plane_side: Some(number),
            admin_side: None,
            to_plane: VecDeque::new(),
            sent: Vec::new(),
            to_admin: VecDeque::new(),
            is_cut: false,
            stream,
            read: Vec::new(),
        }
    }

    /// Takes what the data plane has written.
    pub(crate) fn take(&mut self) {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = self.stream.read(&mut buffer) {
            self.read.extend_from_slice(&buffer[..count]);
        }
        while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
            let line = self.read.drain(..=end).collect();
            if !self.is_cut {
                self.to_admin.push_back(line);
            }
        }
    }

    /// The connection ends: of what is under way, so many lines still come.
    pub(crate) fn cut(&mut self, to_plane: usize, to_admin: usize) {
        self.is_cut = true;
        self.to_plane.truncate(to_plane);
        self.to_admin.truncate(to_admin);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_cut && self.plane_side.is_none() && self.admin_side.is_none()
    }
}
