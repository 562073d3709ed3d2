//! `sluicegate key`: makes virtual keys and their hashes. A key is shown once and kept nowhere.

use super::say;
use crate::auth::apikey;
use anyhow::{Context, bail};
use clap::Subcommand;
use std::io::Read;
use std::process::ExitCode;

/// The longest key that is hashed, in bytes.
const KEY_BYTES_MAX: u64 = 1024;
/// Shorter keys are not random enough: 128 bits in hex.
const KEY_BYTES_MIN: usize = 32;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new key: prints it once, and the row for the file of keys, which has only its hash.
    New {
        /// The key's name in the file.
        #[arg(default_value = "new-key")]
        name: String,
    },
    /// Print the hash of a key read from standard input.
    Hash,
}

/// Runs the command.
pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::New { name } => {
            let key = apikey::generate();
            say(&format!("# The key, shown this once:\n# {key}\n{name}: {{ hash: \"{}\" }}", apikey::hash(&key)))?;
        }
        Command::Hash => {
            let mut text = String::new();
            std::io::stdin().take(KEY_BYTES_MAX + 1).read_to_string(&mut text).context("cannot read the key")?;
            let key = text.trim();
            if key.len() < KEY_BYTES_MIN || text.len() as u64 > KEY_BYTES_MAX {
                bail!("a key has at least 128 random bits, which are 32 hex digits; sluicegate key new makes one");
            }
            say(&apikey::hash(key))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
