//! Waiting for changes in a directory: inotify on an async descriptor.

use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::{Interest, unix::AsyncFd};

pub(super) struct DirWatch {
    inotify: AsyncFd<OwnedFd>,
}

impl DirWatch {
    /// Reports what happens from now on.
    pub(super) fn new(dir: &Path) -> io::Result<DirWatch> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        inotify::add_watch(&inotify, dir, flags)?;
        // SAFETY: an `OwnedFd` is one open descriptor that nothing else closes, and always the same one.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) };
        Ok(DirWatch { inotify: inotify.map_err(io::Error::from)? })
    }

    /// Until something happened; all that is pending counts as one.
    pub(super) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
            let mut seen = false;
            let drained = ready.try_io(|fd| {
                let mut reader = inotify::Reader::new(fd.get_ref(), &mut buffer);
                loop {
                    match reader.next() {
                        Ok(_) => seen = true,
                        Err(error) => return Err::<(), io::Error>(error.into()),
                    }
                }
            });
            match drained {
                // Nothing more to read.
                Err(_) if seen => return Ok(()),
                Err(_) => {}
                Ok(result) => result?,
            }
        }
    }
}
