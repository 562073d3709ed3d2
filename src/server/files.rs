//! The files that make a configuration, and how they look: enough to tell whether one has changed.

use crate::config::Config;
use crate::config::load::Loaded;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that a pattern may bring in; further ones are not watched.
const PATTERN_FILES_MAX: usize = 10_000;

/// The files that make a configuration.
#[derive(Debug, Clone, Default)]
pub struct Files {
    named: BTreeSet<PathBuf>,
    /// `include` as paths.
    patterns: BTreeSet<PathBuf>,
    /// The policy script.
    pub script: Option<PathBuf>,
}

/// Which file it is (links followed), how long, from when.
type Look = (u64, u64, u64, Option<SystemTime>);

/// How the files of a configuration looked at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    looks: BTreeMap<PathBuf, Option<Look>>,
    /// What each pattern brought in.
    included: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
}

fn base(main: &Path) -> &Path {
    main.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Files {
    /// Of a configuration that was read.
    pub fn of(main: &Path, loaded: &Loaded) -> Self {
        let (c, base) = (&loaded.config, base(main));
        let mut named: BTreeSet<PathBuf> = loaded.sources.paths().into_iter().collect();
        named.insert(main.to_owned());
        let script = c.policy.as_ref().map(|p| base.join(&p.script));
        let certificates = c.certificates.values().flat_map(|x| [&x.cert, &x.key]).map(|f| base.join(f));
        named.extend(script.iter().cloned().chain(c.ai.prices.as_ref().map(|p| base.join(p))).chain(certificates));
        named.extend(c.auth.values().filter_map(|a| a.api_key.as_ref()).map(|k| base.join(&k.store)));
        named.extend(secrets(c));
        Files { named, patterns: c.include.iter().map(|i| base.join(i)).collect(), script }
    }

    /// Of one that could not be read: the main file, and what it says to include as far as that can be told.
    pub fn of_unreadable(main: &Path) -> Self {
        let text = std::fs::read_to_string(main).unwrap_or_default();
        let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
        let list = yaml.get("include").and_then(serde_yaml::Value::as_sequence).cloned().unwrap_or_default();
        let patterns = list.iter().filter_map(serde_yaml::Value::as_str).map(|i| base(main).join(i)).collect();
        Files { named: BTreeSet::from([main.to_owned()]), patterns, script: None }
    }

    /// These and others.
    pub fn and(&self, other: &Files) -> Files {
        Files {
            named: self.named.union(&other.named).cloned().collect(),
            patterns: self.patterns.union(&other.patterns).cloned().collect(),
            script: self.script.clone(),
        }
    }

    /// How they look now.
    pub fn look(&self) -> Snapshot {
        let mut s = Snapshot::default();
        for p in &self.patterns {
            let found = glob::glob(&p.to_string_lossy()).into_iter().flatten().filter_map(Result::ok);
            s.included.insert(p.clone(), found.take(PATTERN_FILES_MAX).collect());
        }
        let all = self.named.iter().chain(s.included.values().flatten());
        s.looks = all.map(|f| (f.clone(), look(f))).collect();
        s
    }

    /// The folders in which a change of these files shows: where they stand, and where links lead.
    pub fn folders(&self, seen: &Snapshot) -> BTreeSet<PathBuf> {
        let mut out = BTreeSet::new();
        for f in seen.looks.keys() {
            out.extend(std::path::absolute(f).ok().and_then(|p| p.parent()?.canonicalize().ok()));
            out.extend(f.canonicalize().ok().and_then(|p| p.parent().map(Path::to_owned)));
        }
        for p in &self.patterns {
            let fixed: PathBuf =
                p.components().take_while(|c| !c.as_os_str().to_string_lossy().contains(['*', '?', '['])).collect();
            let folder = if fixed == *p { fixed.parent().map(Path::to_owned) } else { Some(fixed) };
            out.extend(folder.and_then(|f| f.canonicalize().ok()));
        }
        out
    }
}

fn look(file: &Path) -> Option<Look> {
    let m = std::fs::metadata(file).ok()?;
    Some((m.dev(), m.ino(), m.len(), m.modified().ok()))
}

impl Snapshot {
    /// The files that look other than in `before`, as far as both know them, and those that a pattern brings in anew
    /// or no longer.
    pub fn changed_since(&self, before: &Snapshot) -> BTreeSet<PathBuf> {
        let known = self.looks.iter().filter_map(|(f, now)| Some((f, now, before.looks.get(f)?)));
        let mut out: BTreeSet<PathBuf> = known.filter(|(_, now, then)| now != then).map(|(f, ..)| f.clone()).collect();
        for (pattern, now) in &self.included {
            let then = before.included.get(pattern);
            out.extend(then.into_iter().flat_map(|t| t.symmetric_difference(now)).cloned());
        }
        out
    }

    /// Takes over from `later` what this one does not know.
    pub fn learn(&mut self, later: Snapshot) {
        for (f, l) in later.looks {
            self.looks.entry(f).or_insert(l);
        }
        for (p, f) in later.included {
            self.included.entry(p).or_insert(f);
        }
    }
}

/// The files of `file:` secrets, wherever they stand.
fn secrets(c: &Config) -> Vec<PathBuf> {
    fn walk(v: &Value, out: &mut Vec<PathBuf>) {
        match v {
            Value::String(s) => out.extend(s.strip_prefix("file:").map(PathBuf::from)),
            Value::Array(a) => a.iter().for_each(|v| walk(v, out)),
            Value::Object(o) => o.values().for_each(|v| walk(v, out)),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(&serde_json::to_value(c).unwrap_or_default(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;
    use std::fs;

    fn changed(files: &Files, before: &Snapshot) -> Vec<String> {
        let name = |p: PathBuf| p.file_name().unwrap().to_string_lossy().into_owned();
        files.look().changed_since(before).into_iter().map(name).collect()
    }

    #[test]
    fn scripts_keys_includes_and_secrets_belong_to_a_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("conf.d")).unwrap();
        for name in ["p.rhai", "c.pem", "k.pem", "token", "conf.d/a.yaml"] {
            fs::write(at(name), "").unwrap();
        }
        let yaml = format!(
            "include: [conf.d/*.yaml]\npolicy: {{ script: p.rhai }}\ncertificates: {{ a: {{ cert: c.pem, key: k.pem }} }}\n\
             server: {{ admin: {{ listen: \"127.0.0.1:0\", token: \"file:{}\" }} }}\n",
            at("token").display()
        );
        fs::write(at("main.yaml"), yaml).unwrap();
        let files = Files::of(&at("main.yaml"), &load(&at("main.yaml")).unwrap());
        let before = files.look();
        assert!(changed(&files, &before).is_empty());
        for name in ["p.rhai", "c.pem", "k.pem", "token", "conf.d/a.yaml", "main.yaml"] {
            let text = fs::read_to_string(at(name)).unwrap();
            fs::write(at(name), format!("{text}\n")).unwrap();
        }
        assert_eq!(changed(&files, &before), ["c.pem", "a.yaml", "k.pem", "main.yaml", "p.rhai", "token"]);
        let before = files.look();
        fs::write(at("conf.d/b.yaml"), "").unwrap();
        fs::remove_file(at("conf.d/a.yaml")).unwrap();
        assert_eq!(changed(&files, &before), ["a.yaml", "b.yaml"]);
        fs::write(at("other.log"), "line").unwrap();
        assert_eq!(changed(&files, &files.look()), [""; 0]);
    }

    #[test]
    fn a_swapped_link_to_a_folder_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("main.yaml"), "").unwrap();
        }
        std::os::unix::fs::symlink("v1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/main.yaml", at("main.yaml")).unwrap();
        let files = Files::of_unreadable(&at("main.yaml"));
        let before = files.look();
        assert_eq!(files.folders(&before).len(), 2, "where the link stands and where it leads");
        std::os::unix::fs::symlink("v2", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_eq!(changed(&files, &before), ["main.yaml"]);
    }
}
