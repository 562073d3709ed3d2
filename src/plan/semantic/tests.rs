//! One open store for each folder, and checks that open nothing.

use super::*;
use crate::ai::embed::fake::FakeEmbedder;
use crate::base::clock::Clock;
use crate::observe::metrics::Metrics;
use std::fs;

fn config(yaml: &str) -> (Config, yaml::Semantic) {
    (serde_yaml::from_str(yaml).unwrap(), serde_yaml::from_str("{ store: disk }").unwrap())
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared::new(Metrics::new().unwrap(), Clock::system()))
}

#[cfg(feature = "edge")]
#[test]
fn a_store_on_disk_stays_open_under_another_limit_or_name() {
    let (dir, shared, embedder) = (tempfile::tempdir().unwrap(), shared(), FakeEmbedder::new(8, 8));
    let open = |yaml: &str, name: &str| {
        let (c, s) = config(&yaml.replace("$DIR", &dir.path().display().to_string()));
        store(&yaml::Semantic { store: name.to_owned(), ..s }, &c, (dir.path(), &shared), &embedder).unwrap()
    };
    let first = open("ai: { vector_stores: { disk: { edge: { path: $DIR/v, entries: 10 } } } }", "disk");
    shared.commit(None);
    let second = open("ai: { vector_stores: { disk: { edge: { path: $DIR/v, entries: 20 } } } }", "disk");
    shared.commit(None);
    let third = open("ai: { vector_stores: { other: { edge: { path: $DIR/v } } } }", "other");
    assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &third));
    shared.commit(None);
    drop((first, second, third));
    shared.commit(None);
    shared.release();
    assert!(shared.vectors.retired().is_empty(), "the folder is free again");
    open("ai: { vector_stores: { disk: { edge: { path: $DIR/v } } } }", "disk");
}

#[cfg(feature = "edge")]
#[test]
fn a_check_makes_nothing_and_runs_beside_an_open_store() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "ai: { embedders: { minilm: { models_dir: m } }, vector_stores: { disk: { edge: { path: v } } } }";
    let (c, s) = config(yaml);
    let (key, missing) = check(&s, &c, dir.path()).unwrap_err();
    assert!(key == "embedder" && missing.contains("model.onnx"), "{missing}");
    let model = dir.path().join("m/all-MiniLM-L6-v2");
    fs::create_dir_all(&model).unwrap();
    fs::create_dir(dir.path().join("m/onnxruntime")).unwrap();
    fs::write(dir.path().join("m/onnxruntime/libonnxruntime.so"), "").unwrap();
    for f in ["model.onnx", "tokenizer.json", "config.json", "special_tokens_map.json", "tokenizer_config.json"] {
        fs::write(model.join(f), "").unwrap();
    }
    check(&s, &c, dir.path()).unwrap();
    assert!(!dir.path().join("v").exists(), "a check makes no folder");
    let (gateway, embedder) = (shared(), FakeEmbedder::new(8, 8));
    let _open = store(&s, &c, (dir.path(), &gateway), &embedder).unwrap();
    check(&s, &c, dir.path()).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let (c, s) = config(&yaml.replace("path: v", "path: file/v"));
    let (key, fault) = check(&s, &c, dir.path()).unwrap_err();
    assert!(key == "store" && fault.contains("is no folder"), "{fault}");
}
