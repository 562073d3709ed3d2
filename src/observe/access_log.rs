//! The access log: one line for each request, JSON or combined, written by a thread of its own so that a slow disk or
//! terminal never holds a request.

use crate::config::observability::{AccessLog, AccessLogSetting, LogFormat, StatusClass};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Lines that may wait for the writer; further ones are counted as lost.
const QUEUE_LINES_MAX: usize = 8192;

/// What is known about a request when it has been answered.
#[derive(Debug, Default, Serialize)]
pub struct Record<'a> {
    /// RFC 3339, UTC.
    pub time: String,
    /// Request id.
    pub id: &'a str,
    /// Client address.
    pub client: String,
    /// Method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host asked for.
    pub host: &'a str,
    /// Path. The query is left out, because it may hold secrets.
    pub path: &'a str,
    /// HTTP version.
    pub version: &'a str,
    /// Status sent.
    pub status: u16,
    /// Body bytes sent.
    pub bytes: u64,
    /// Time to the last byte.
    pub duration_ms: f64,
    /// Route.
    pub route: &'a str,
    /// Who answered.
    pub source: &'a str,
    /// Why.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'a str,
    /// `Cache-Status` sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Origin server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Verified subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `Referer`, for the combined format.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub referer: &'a str,
    /// `User-Agent`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub user_agent: &'a str,
    /// Notes of the policy script.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<(&'a str, &'a str)>,
    /// The model call, on AI routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ai: Option<serde_json::Value>,
    /// The request to an MCP server, on MCP routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp: Option<serde_json::Value>,
    /// What went wrong underway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

enum Message {
    Line(String),
    Reopen,
    Flush(SyncSender<()>),
}

/// Takes lines. Cloning shares the writer.
#[derive(Clone, Debug)]
pub struct Log {
    format: LogFormat,
    sample: BTreeMap<StatusClass, f64>,
    out: SyncSender<Message>,
}

impl Log {
    /// Opens the log; `None` when it is switched off.
    pub fn open(setting: &AccessLogSetting) -> io::Result<Option<Log>> {
        let config = match setting {
            AccessLogSetting::Switch(false) => return Ok(None),
            AccessLogSetting::Switch(true) => AccessLog::default(),
            AccessLogSetting::On(c) => c.clone(),
        };
        let sink = Sink::open(&config.output)?;
        let (out, lines) = sync_channel(QUEUE_LINES_MAX);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_lines(sink, &lines))?;
        let sample = config.sample.iter().map(|(c, s)| (*c, s.0)).collect();
        Ok(Some(Log { format: config.format, sample, out }))
    }

    /// Whether a request with this status is logged; `dice` is uniform in 0..1.
    pub fn wants(&self, status: u16, dice: f64) -> bool {
        let class = match status / 100 {
            1 => StatusClass::C1,
            2 => StatusClass::C2,
            3 => StatusClass::C3,
            4 => StatusClass::C4,
            _ => StatusClass::C5,
        };
        self.sample.get(&class).is_none_or(|share| dice < *share)
    }

    /// Writes a record; false when the line was lost because the writer is too far behind.
    pub fn write(&self, record: &Record<'_>) -> bool {
        let line = match self.format {
            LogFormat::Json => serde_json::to_string(record).unwrap_or_default(),
            LogFormat::Combined => combined(record),
        };
        !matches!(self.out.try_send(Message::Line(line)), Err(TrySendError::Full(_)))
    }

    /// Opens the file again (after a rotation).
    pub fn reopen(&self) {
        // A writer that is gone has nothing to reopen.
        let _ = self.out.send(Message::Reopen);
    }

    /// Waits until everything sent so far is written.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.out.send(Message::Flush(done)).is_ok() {
            // An error means that the writer is gone.
            let _ = wait.recv_timeout(std::time::Duration::from_secs(2));
        }
    }
}

/// The present time as the log writes it.
pub fn timestamp(now: std::time::SystemTime) -> String {
    OffsetDateTime::from(now).format(&Rfc3339).unwrap_or_default()
}

/// Quotes, backslashes and control bytes are escaped, so that one request is one line and no field can end early.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    if out.is_empty() { "-".to_owned() } else { out }
}

fn combined(r: &Record<'_>) -> String {
    format!(
        "{} - {} [{}] \"{} {} {}\" {} {} \"{}\" \"{}\"",
        r.client,
        escaped(r.user.as_deref().unwrap_or("-")),
        clf_time(&r.time),
        escaped(r.method),
        escaped(r.path),
        r.version,
        r.status,
        r.bytes,
        escaped(r.referer),
        escaped(r.user_agent),
    )
}

/// `10/Oct/2000:13:55:36 +0000`, as readers of the combined format want it.
fn clf_time(rfc3339: &str) -> String {
    let form = time::macros::format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
    OffsetDateTime::parse(rfc3339, &Rfc3339).ok().and_then(|t| t.format(form).ok()).unwrap_or_default()
}

struct Sink {
    path: Option<String>,
    out: BufWriter<Box<dyn Write + Send>>,
}

impl Sink {
    fn open(output: &str) -> io::Result<Self> {
        if output == "stdout" {
            return Ok(Sink { path: None, out: BufWriter::new(Box::new(io::stdout())) });
        }
        let file = Self::file(output)?;
        Ok(Sink { path: Some(output.to_owned()), out: BufWriter::new(Box::new(file)) })
    }

    fn file(path: &str) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|e| io::Error::new(e.kind(), format!("access log {path}: {e}")))
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match Self::file(path) {
            Ok(f) => self.out = BufWriter::new(Box::new(f)),
            Err(error) => tracing::error!(%error, "access log keeps its old file"),
        }
    }
}

fn write_lines(mut sink: Sink, lines: &Receiver<Message>) {
    let mut failed = false;
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            let result = match message {
                Message::Line(line) => writeln!(sink.out, "{line}"),
                Message::Reopen => {
                    let flushed = sink.out.flush();
                    sink.reopen();
                    flushed
                }
                Message::Flush(done) => {
                    let flushed = sink.out.flush();
                    // Nobody waits any more: fine.
                    let _ = done.send(());
                    flushed
                }
            };
            report(&result, &mut failed);
            next = lines.try_recv().ok();
        }
        report(&sink.out.flush(), &mut failed);
    }
}

/// One line for each change of state, not one for each lost line.
fn report(result: &io::Result<()>, failed: &mut bool) {
    match result {
        Err(error) if !*failed => {
            tracing::error!(%error, "access log cannot be written");
            *failed = true;
        }
        Ok(()) if *failed => *failed = false,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_file(format: LogFormat) -> (tempfile::TempDir, Log, String) {
        let d = tempfile::tempdir().unwrap();
        let path = d.path().join("a.log").display().to_string();
        let set = AccessLog { format, output: path.clone(), sample: BTreeMap::new() };
        let log = Log::open(&AccessLogSetting::On(set)).unwrap().unwrap();
        (d, log, path)
    }

    #[test]
    fn hostile_fields_stay_on_one_line_in_both_formats() {
        for format in [LogFormat::Json, LogFormat::Combined] {
            let (_d, log, path) = to_file(format);
            let r = Record { path: "/a\"\r\n\u{1b}[31m", user_agent: "x\"\ny", method: "GET", ..Record::default() };
            assert!(log.write(&r));
            log.flush();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.contains('\u{1b}'));
        }
    }

    #[test]
    fn a_rotated_file_is_opened_again() {
        let (_d, log, path) = to_file(LogFormat::Json);
        log.write(&Record::default());
        log.flush();
        std::fs::rename(&path, format!("{path}.1")).unwrap();
        log.reopen();
        log.write(&Record::default());
        log.flush();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn the_combined_format_is_what_log_readers_expect() {
        let r = Record {
            time: "2026-11-20T10:11:12.5Z".into(),
            client: "192.0.2.7".into(),
            method: "GET",
            path: "/a",
            version: "HTTP/1.1",
            status: 200,
            bytes: 5,
            user_agent: "curl",
            ..Record::default()
        };
        let line = "192.0.2.7 - - [20/Nov/2026:10:11:12 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"curl\"";
        assert_eq!(combined(&r), line);
    }

    #[test]
    fn sampling_is_by_class_of_status() {
        let sample = BTreeMap::from([(StatusClass::C2, crate::base::units::Share(0.1))]);
        let set = AccessLog { output: "stdout".into(), sample, ..AccessLog::default() };
        let log = Log::open(&AccessLogSetting::On(set)).unwrap().unwrap();
        assert!(log.wants(200, 0.05) && !log.wants(200, 0.5) && log.wants(500, 0.99));
    }
}
