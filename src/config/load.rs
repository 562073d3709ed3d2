//! Reads a configuration file with its includes; reports every fault at once, each with file, line and column.

use super::error::{Fault, Place};
use super::positions::Positions;
use super::{Config, schema};
use serde::Deserialize;
use serde_yaml::{Mapping, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A configuration file larger than this is refused.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The configuration and where each part of it stands.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What the YAML says.
    pub config: Config,
    /// Where it says it.
    pub sources: Sources,
}

/// The files read, to find the place of a path again and to watch for changes.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    positions: Positions,
    /// How many routes stood before this file's own.
    route_offset: usize,
    routes: usize,
    /// Top-level `section.name` keys that this file defines.
    defines: Vec<String>,
}

impl Sources {
    /// The files, the main one first.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|f| f.path.clone()).collect()
    }

    /// Fills in the places of faults that have none yet.
    pub fn locate(&self, faults: Vec<Fault>) -> Vec<Fault> {
        faults
            .into_iter()
            .map(|mut f| {
                f.place = f.place.or_else(|| self.place(&f.path));
                f
            })
            .collect()
    }

    fn place(&self, path: &str) -> Option<Place> {
        let (file, local) = self.owner(path)?;
        let (line, column) = file.positions.find(&local)?;
        Some(Place { file: file.path.display().to_string(), line, column })
    }

    /// The file that a path stands in, and the path within that file.
    fn owner(&self, path: &str) -> Option<(&Source, String)> {
        if let Some(rest) = path.strip_prefix("routes[")
            && let Some((number, tail)) = rest.split_once(']')
            && let Ok(n) = number.parse::<usize>()
        {
            let f = self.files.iter().find(|f| (f.route_offset..f.route_offset + f.routes).contains(&n))?;
            return Some((f, format!("routes[{}]{tail}", n - f.route_offset)));
        }
        let named = self.files.iter().skip(1).find(|f| {
            f.defines
                .iter()
                .any(|d| path == d || path.strip_prefix(d.as_str()).is_some_and(|r| r.starts_with(['.', '['])))
        });
        named.or(self.files.first()).map(|f| (f, path.to_owned()))
    }
}

/// Reads `path` and what it includes.
pub fn load(path: &Path) -> Result<Loaded, Vec<Fault>> {
    let mut sources = Sources::default();
    let mut doc = read(path, &mut sources, 0)?;
    let mut faults = includes(path, &mut doc, &mut sources);
    let doc = Value::Mapping(doc);
    faults.extend(schema::walk(&schema::json_schema(), &doc));
    if faults.is_empty() {
        let config = serde_path_to_error::deserialize::<_, Config>(doc)
            .map_err(|e| sources.locate(vec![Fault::at(path_text(e.path()), e.inner().to_string())]))?;
        return Ok(Loaded { config, sources });
    }
    Err(sources.locate(faults))
}

fn path_text(path: &serde_path_to_error::Path) -> String {
    let t = path.to_string();
    if t == "." { String::new() } else { t }
}

/// Parses one file into its top-level map.
fn read(path: &Path, sources: &mut Sources, route_offset: usize) -> Result<Mapping, Vec<Fault>> {
    let file = path.display().to_string();
    let fail =
        |message: String| vec![Fault { path: String::new(), message: format!("{file}: {message}"), place: None }];
    let len = std::fs::metadata(path).map_err(|e| fail(format!("cannot read: {e}")))?.len();
    if len > FILE_BYTES_MAX {
        return Err(fail(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(format!("cannot read: {e}")))?;
    let value = Value::deserialize(serde_yaml::Deserializer::from_str(&text)).map_err(|e| {
        let place = e.location().map(|l| Place { file: file.clone(), line: l.line(), column: l.column() });
        let message = if place.is_some() { e.to_string() } else { format!("{file}: {e}") };
        vec![Fault { path: String::new(), message, place }]
    })?;
    let map = match value {
        Value::Mapping(m) => m,
        Value::Null => Mapping::new(),
        _ => return Err(fail("the file must be a map of sections (listeners, upstreams, routes …)".to_owned())),
    };
    let routes = map.get("routes").and_then(Value::as_sequence).map_or(0, Vec::len);
    let defines = defined_names(&map);
    sources.files.push(Source {
        path: path.to_owned(),
        positions: Positions::read(&text),
        route_offset,
        routes,
        defines,
    });
    Ok(map)
}

fn defined_names(map: &Mapping) -> Vec<String> {
    let mut names = Vec::new();
    for (section, v) in map {
        if let (Some(s), Some(m)) = (section.as_str(), v.as_mapping()) {
            names.extend(m.keys().filter_map(Value::as_str).map(|k| format!("{s}.{k}")));
        }
    }
    names
}

/// Merges the files named by `include` into `doc`.
fn includes(path: &Path, doc: &mut Mapping, sources: &mut Sources) -> Vec<Fault> {
    let patterns: Vec<String> = match doc.get("include").and_then(Value::as_sequence) {
        Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None => return Vec::new(),
    };
    let base = path.parent().unwrap_or(Path::new("."));
    let mut faults = Vec::new();
    for (i, pattern) in patterns.iter().enumerate() {
        let at = format!("include[{i}]");
        let found = match glob::glob(&base.join(pattern).to_string_lossy()) {
            Ok(paths) => paths.filter_map(Result::ok).collect::<Vec<_>>(),
            Err(e) => {
                faults.push(Fault::at(at, format!("bad pattern: {e}")));
                continue;
            }
        };
        if found.is_empty() && !pattern.contains(['*', '?', '[']) {
            faults.push(Fault::at(at, format!("there is no file {pattern:?}")));
        }
        for file in found {
            let offset = doc.get("routes").and_then(Value::as_sequence).map_or(0, Vec::len);
            match read(&file, sources, offset) {
                Ok(part) => merge(doc, part, &file, &mut faults),
                Err(f) => faults.extend(f),
            }
        }
    }
    faults
}

/// Adds the sections of an included file; a name that is already there is a fault.
fn merge(doc: &mut Mapping, part: Mapping, file: &Path, faults: &mut Vec<Fault>) {
    let mut origin: BTreeMap<String, ()> = BTreeMap::new();
    for (section, value) in part {
        let name = section.as_str().unwrap_or_default().to_owned();
        match (doc.get_mut(&section), value) {
            (None, value) => {
                doc.insert(section, value);
            }
            (Some(Value::Sequence(have)), Value::Sequence(more)) if name == "routes" => have.extend(more),
            (Some(Value::Mapping(have)), Value::Mapping(more)) => {
                for (k, v) in more {
                    let key = k.as_str().unwrap_or_default().to_owned();
                    if have.contains_key(&k) {
                        faults.push(Fault::at(format!("{name}.{key}"), format!("defined again in {}", file.display())));
                    } else {
                        have.insert(k, v);
                    }
                }
            }
            (Some(_), _) => {
                origin.insert(name, ());
            }
        }
    }
    faults.extend(origin.into_keys().map(|n| Fault::at(n, format!("set again in {}", file.display()))));
}

#[cfg(test)]
mod tests;
