//! Reads a container's log, from where the options say, and follows it over rotations (upstream `logs.go: ReadLogs`).

use std::{
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use net::{Body, BoxError};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    LogOptions, format,
    parts::{self, History},
    watch::DirWatch,
};

/// Runtimes cut lines at 16 KiB; what is much longer is no log, and is skipped.
const LINE_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;
/// How often a follower looks whether its container still runs, where the file does not change.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("failed to open log file {path:?}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("failed to read log file {path:?}: {source}")]
    Read { path: PathBuf, source: io::Error },
}

/// A container's log file, and whether the container still writes it.
#[derive(Clone)]
pub struct LogSource {
    pub path: PathBuf,
    pub running: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// The selected records as a response body. Fails only where the log cannot be opened at all.
pub async fn stream(source: LogSource, options: LogOptions) -> Result<Body, LogError> {
    // Through any symlink: rotation happens beside the real file.
    let path = tokio::fs::canonicalize(&source.path).await;
    let path = path.map_err(|error| LogError::Open { path: source.path.clone(), source: error })?;
    let mut file = open(&path).await?;
    let read = |source| LogError::Read { path: path.clone(), source };
    let (start, seen) = tail_start(&mut file, options.tail_lines).await.map_err(read)?;
    file.seek(SeekFrom::Start(start)).await.map_err(read)?;
    let live = file.metadata().await.map_err(read)?.ino();
    let missing = options.tail_lines.map(|lines| lines.saturating_sub(seen));
    let (beside, since) = (path.clone(), options.since);
    let history = tokio::task::spawn_blocking(move || parts::find(&beside, live, since, missing)).await;
    let history = history.map_err(|_| read(io::ErrorKind::Interrupted.into()))?;
    let (sender, receiver) = mpsc::channel(16);
    let reader = Reader {
        writer: Selector::new(&options),
        // Exactly the lines that were there: a log that grows meanwhile must not add to `tailLines`.
        lines_left: options.tail_lines.filter(|_| !options.follow),
        follow: options.follow,
        running: source.running,
        history,
        path,
        file,
        pending: BytesMut::new(),
        skipping: false,
        sender,
    };
    tokio::spawn(reader.run());
    let frames = ReceiverStream::new(receiver).map(|item| item.map(http_body::Frame::data));
    Ok(StreamBody::new(frames).boxed_unsync())
}

async fn open(path: &Path) -> Result<File, LogError> {
    File::open(path).await.map_err(|source| LogError::Open { path: path.to_owned(), source })
}

/// Where the last `lines` complete lines begin, and how many of them there are.
async fn tail_start(file: &mut File, lines: Option<u64>) -> io::Result<(u64, u64)> {
    let Some(lines) = lines else { return Ok((0, 0)) };
    let mut left = file.seek(SeekFrom::End(0)).await?;
    let mut buffer = vec![0; 4096];
    let mut seen = 0;
    while left > 0 {
        let step = left.min(buffer.len() as u64);
        left -= step;
        file.seek(SeekFrom::Start(left)).await?;
        let block = &mut buffer[..step as usize];
        file.read_exact(block).await?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if seen == lines {
                return Ok((left + at as u64 + 1, seen));
            }
            seen += 1;
        }
    }
    Ok((0, seen))
}

/// Why reading goes no further.
enum End {
    Finished,
    Failed(BoxError),
}

struct Reader {
    /// Rotated parts that come before the file.
    history: History,
    path: PathBuf,
    file: File,
    running: Arc<dyn Fn() -> bool + Send + Sync>,
    follow: bool,
    writer: Selector,
    lines_left: Option<u64>,
    /// A line whose end has not been read yet.
    pending: BytesMut,
    /// In the middle of a line that is too long.
    skipping: bool,
    sender: mpsc::Sender<Result<Bytes, BoxError>>,
}

impl Reader {
    async fn run(mut self) {
        let end = match self.read_all().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if let End::Failed(error) = end {
            // Nobody to tell where the client has gone.
            let _ = self.sender.send(Err(error)).await;
        }
    }

    async fn read_all(&mut self) -> Result<std::convert::Infallible, End> {
        self.read_history().await?;
        let mut watch: Option<DirWatch> = None;
        let mut stopped = false;
        loop {
            self.read_to_end().await?;
            if !self.follow || stopped {
                return Err(self.finish().await);
            }
            match &watch {
                // What was written before the watch began would not be reported: read once more.
                None => {
                    let dir = self.path.parent().unwrap_or(Path::new("/"));
                    watch = Some(DirWatch::new(dir).map_err(failed)?);
                }
                Some(watch) => {
                    stopped = self.wait(watch).await?;
                    self.reopen_if_replaced().await?;
                }
            }
        }
    }

    /// Until the directory changed or it is time to look at the container; answers whether it has stopped.
    async fn wait(&self, watch: &DirWatch) -> Result<bool, End> {
        tokio::select! {
            changed = watch.changed() => changed.map_err(failed)?,
            () = tokio::time::sleep(CHECK_PERIOD) => {}
            () = self.sender.closed() => return Err(End::Finished),
        }
        Ok(!(self.running)())
    }

    /// After a rotation the path names a new file. The old one is read to its end first; it gets no more.
    async fn reopen_if_replaced(&mut self) -> Result<(), End> {
        let Ok(named) = tokio::fs::metadata(&self.path).await else {
            return Ok(());
        };
        let held = self.file.metadata().await.map_err(failed)?;
        if (named.dev(), named.ino()) != (held.dev(), held.ino()) {
            self.read_to_end().await?;
            match File::open(&self.path).await {
                Ok(file) => {
                    self.file = file;
                    self.pending.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        } else if named.len() < self.file.stream_position().await.map_err(failed)? {
            // Truncated in place by someone else.
            self.file.seek(SeekFrom::Start(0)).await.map_err(failed)?;
            self.pending.clear();
        }
        Ok(())
    }

    async fn read_history(&mut self) -> Result<(), End> {
        let History { parts, skip_lines } = std::mem::take(&mut self.history);
        let mut skip = skip_lines;
        for part in parts {
            let mut chunks = parts::read(part);
            while let Some(chunk) = chunks.recv().await {
                self.pending.extend_from_slice(&chunk.map_err(failed)?);
                while skip > 0
                    && let Some(at) = self.pending.iter().position(|byte| *byte == b'\n')
                {
                    drop(self.pending.split_to(at + 1));
                    skip -= 1;
                }
                if skip == 0 {
                    self.lines().await?;
                }
            }
            // The runtime ends a part with a line; the rest of a damaged one is no line.
            self.pending.clear();
            skip = 0;
        }
        Ok(())
    }

    async fn read_to_end(&mut self) -> Result<(), End> {
        loop {
            self.pending.reserve(READ_BYTES);
            if self.file.read_buf(&mut self.pending).await.map_err(failed)? == 0 {
                return Ok(());
            }
            self.lines().await?;
        }
    }

    /// Sends what is wanted of the complete lines that were read.
    async fn lines(&mut self) -> Result<(), End> {
        let mut chosen = BytesMut::new();
        let mut done = false;
        while let Some(at) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line = self.pending.split_to(at + 1);
            done = self.line(&line, &mut chosen);
            if done {
                break;
            }
        }
        if self.pending.len() > LINE_BYTES_MAX {
            self.pending.clear();
            self.skipping = true;
        }
        self.send(chosen).await?;
        if done { Err(End::Finished) } else { Ok(()) }
    }

    /// Answers whether that was the last line wanted.
    fn line(&mut self, line: &[u8], chosen: &mut BytesMut) -> bool {
        if std::mem::take(&mut self.skipping) {
            return false;
        }
        if self.lines_left == Some(0) {
            return true;
        }
        match format::parse(line) {
            Ok(record) => self.writer.write(&record, chosen),
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "skipping a line of a container log");
                return false;
            }
        }
        if let Some(left) = &mut self.lines_left {
            *left -= 1;
        }
        self.lines_left == Some(0) || self.writer.is_full()
    }

    /// What was written of a line without an end.
    async fn finish(&mut self) -> End {
        let line = self.pending.split();
        let mut chosen = BytesMut::new();
        if !line.is_empty() {
            self.line(&line, &mut chosen);
        }
        match self.send(chosen).await {
            Ok(()) => End::Finished,
            Err(end) => end,
        }
    }

    async fn send(&mut self, chosen: BytesMut) -> Result<(), End> {
        if chosen.is_empty() {
            return Ok(());
        }
        self.sender.send(Ok(chosen.freeze())).await.map_err(|_| End::Finished)
    }
}

fn failed(error: io::Error) -> End {
    End::Failed(Box::new(error))
}

/// Chooses records and prints them (upstream `logWriter`).
struct Selector {
    options: LogOptions,
    bytes_left: u64,
    /// Whether the next record begins a line: only then it gets a time.
    at_line_start: bool,
}

impl Selector {
    fn new(options: &LogOptions) -> Selector {
        let bytes_left = options.limit_bytes.unwrap_or(u64::MAX);
        Selector { options: options.clone(), bytes_left, at_line_start: true }
    }

    fn is_full(&self) -> bool {
        self.bytes_left == 0
    }

    fn write(&mut self, record: &format::Record<'_>, to: &mut BytesMut) {
        let begins = std::mem::replace(&mut self.at_line_start, record.content.last().is_none_or(|b| *b == b'\n'));
        let too_old = self.options.since.is_some_and(|since| record.time < since);
        if too_old || self.options.stream.is_some_and(|stream| stream != record.stream) {
            return;
        }
        if self.options.timestamps && begins {
            self.put(format::fixed_time(record.time_text).as_bytes(), to);
            self.put(b" ", to);
        }
        self.put(record.content, to);
    }

    fn put(&mut self, bytes: &[u8], to: &mut BytesMut) {
        let take = usize::try_from(self.bytes_left).unwrap_or(usize::MAX).min(bytes.len());
        to.extend_from_slice(&bytes[..take]);
        self.bytes_left -= take as u64;
    }
}
