//! The edge to the kernel: text for `nft -f -`.

use std::{io, process::Stdio};

use async_trait::async_trait;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::{Ruleset, Stale, Table, diff};

#[derive(Debug, thiserror::Error)]
pub enum NftError {
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("nft refused the transaction: {message}")]
    Refused { message: String },
}

/// Carries out an nft script, all of it or nothing.
#[async_trait]
pub trait Nft: Send + Sync {
    async fn run(&self, script: &str) -> Result<(), NftError>;
}

/// The `nft` program.
pub struct NftCli {
    program: String,
}

impl NftCli {
    /// `program` is a name to be found in `PATH`, or a path.
    pub fn new(program: &str) -> Self {
        NftCli { program: program.to_owned() }
    }
}

#[async_trait]
impl Nft for NftCli {
    async fn run(&self, script: &str) -> Result<(), NftError> {
        let (ok, _, message) = feed(&self.program, &["-f", "-"], script)
            .await
            .map_err(|source| NftError::Run { program: self.program.clone(), source })?;
        if ok { Ok(()) } else { Err(NftError::Refused { message }) }
    }
}

/// Runs a program to its end with `input`: whether it succeeded, and its two outputs.
pub(crate) async fn feed(program: &str, args: &[&str], input: &str) -> io::Result<(bool, String, String)> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that fails before it has read everything says why on its way out.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    let output = output?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

/// Removes the table and with it all rules. That there is none is success.
pub async fn cleanup(table: &Table, nft: &dyn Nft) -> Result<(), NftError> {
    nft.run(&format!("add table {table}\ndelete table {table}\n")).await
}

/// What writes rulesets: knows what the kernel holds, so that it sends only changes.
pub(crate) struct Writer {
    table: Table,
    nft: Box<dyn Nft>,
    /// `None`: unknown, as at the start and after a failure.
    committed: Option<Ruleset>,
}

impl Writer {
    pub fn new(table: Table, nft: Box<dyn Nft>) -> Self {
        Writer { table, nft, committed: None }
    }

    /// Whether the kernel has chains that are of no more use.
    pub fn has_stale(&self, wanted: &Ruleset) -> bool {
        self.committed.as_ref().is_some_and(|committed| committed.chains.len() > wanted.chains.len())
    }

    /// Makes `wanted` the table's content. Returns how many changes that took.
    pub async fn write(&mut self, wanted: &Ruleset, stale: Stale) -> Result<usize, NftError> {
        // Not kept across a failure: the next write starts from an empty table.
        let (transaction, after, prefix) = match self.committed.take() {
            Some(committed) => {
                let (transaction, after) = diff(&committed, wanted, stale);
                (transaction, after, String::new())
            }
            None => {
                let (transaction, after) = diff(&Ruleset::default(), wanted, stale);
                let table = &self.table;
                (transaction, after, format!("add table {table}\ndelete table {table}\nadd table {table}\n"))
            }
        };
        if !transaction.is_empty() {
            self.nft.run(&(prefix + &transaction.text(&self.table))).await?;
        }
        self.committed = Some(after);
        Ok(transaction.len())
    }
}
