//! The shared libraries that a program needs, for an image of a program that is not static.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why a program's libraries are not known.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot run ldd, which tells a program's libraries: install the package libc-bin")]
    Ldd(#[source] io::Error),
    #[error("{} needs {library}, which is not on this machine", path.display())]
    Missing { path: PathBuf, library: String },
}

/// The paths under which `program` looks for its loader and libraries; none for a static one.
pub fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let read_error = |source| LibraryError::Read { path: program.to_owned(), source };
    if !has_interpreter(program).map_err(read_error)? {
        return Ok(Vec::new());
    }
    // ldd would take `/proc/self/exe` for itself.
    let path = std::fs::canonicalize(program).map_err(read_error)?;
    let output = Command::new("ldd").arg(&path).output().map_err(LibraryError::Ldd)?;
    parse_ldd(&String::from_utf8_lossy(&output.stdout)).map_err(|library| LibraryError::Missing { path, library })
}

/// Lines are `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)` for the loader, and `NAME (ADDRESS)` for what the kernel brings.
fn parse_ldd(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, rest) = line.split_once(" => ").unwrap_or((line, line));
        if rest == "not found" {
            return Err(name.to_owned());
        }
        let path = rest.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// Whether an ELF file names a loader (a program header PT_INTERP). Other files do not.
fn has_interpreter(program: &Path) -> io::Result<bool> {
    const PT_INTERP: u32 = 3;
    let mut file = File::open(program)?;
    let mut header = [0u8; 64];
    // A file shorter than a header is no ELF program of 64 bits.
    if file.read_exact(&mut header).is_err() || header[..5] != *b"\x7fELF\x02" {
        return Ok(false);
    }
    let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let offset = u64::from_le_bytes(header[32..40].try_into().unwrap_or_default());
    let (size, count) = (u64::from(number(54)), u64::from(number(56)));
    for index in 0..count {
        let mut kind = [0u8; 4];
        file.seek(SeekFrom::Start(offset.saturating_add(index * size)))?;
        file.read_exact(&mut kind)?;
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_lines_are_understood() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\t\
                    /lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let want = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(text), Ok(want.to_vec()));
        assert_eq!(parse_ldd("\tlibx.so.1 => not found\n"), Err("libx.so.1".into()));
        assert_eq!(parse_ldd("\tstatically linked\n"), Ok(vec![]));
    }
}
