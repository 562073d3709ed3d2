//! What every embedder must do; the fake and the real one run the same checks.

use super::fake::FakeEmbedder;
use super::onnx::{OnnxEmbedder, OnnxOptions, models_folder};
use super::{EmbedError, Embedder, cosine};
use crate::config::semantic as config;
use std::sync::Arc;

/// The checks that hold for every implementation.
pub async fn check(e: &dyn Embedder) {
    let question = "How do I reset my password?";
    let a = e.embed(question).await.unwrap();
    let b = e.embed(question).await.unwrap();
    assert_eq!(a.len(), e.dim());
    assert!((cosine(&a, &b) - 1.0).abs() < 1e-4, "the same text gives the same vector");
    assert!((cosine(&a, &a) - 1.0).abs() < 1e-4, "vectors have length one");
    let near = e.embed("How can I reset my password?").await.unwrap();
    let far = e.embed("The weather is lovely today in Lisbon").await.unwrap();
    assert!(cosine(&a, &near) > cosine(&a, &far) + 0.2, "near is nearer than far");
    let long = "word ".repeat(2000);
    assert!(matches!(e.embed(&long).await, Err(EmbedError::TooLong { .. })), "too long is refused, not cut");
    assert!(e.embed("").await.is_err() || e.embed("").await.is_ok_and(|v| v.len() == e.dim()));
    assert!(!e.id().is_empty());
}

/// The real embedder, or `None` where the models are not installed and nobody demands them.
pub fn real_embedder() -> Option<Arc<OnnxEmbedder>> {
    let options = OnnxOptions {
        // Several test threads share one slow machine.
        timeout: std::time::Duration::from_secs(60),
        ..OnnxOptions::new(&config::Embedder::default())
    };
    match OnnxEmbedder::open(&options) {
        Ok(e) => Some(Arc::new(e)),
        Err(EmbedError::Missing { path }) => {
            let required = std::env::var("SLUICEGATE_REQUIRE_MODELS").is_ok_and(|v| v == "1");
            assert!(!required, "SLUICEGATE_REQUIRE_MODELS=1, but {} is missing", path.display());
            println!("not run: {} is missing (models folder {})", path.display(), models_folder(None).display());
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[tokio::test]
async fn the_fake_conforms() {
    check(&FakeEmbedder::new(256, 300)).await;
}

#[tokio::test]
async fn minilm_conforms() {
    if let Some(e) = real_embedder() {
        check(e.as_ref()).await;
        assert_eq!(e.dim(), 384);
    }
}

/// The sentences of the model's own documentation; the figures come from the Python reference implementation.
#[tokio::test]
async fn minilm_gives_the_reference_similarities() {
    let Some(e) = real_embedder() else { return };
    let s = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
    let mut v = Vec::new();
    for text in s {
        v.push(e.embed(text).await.unwrap());
    }
    let got = [cosine(&v[0], &v[1]), cosine(&v[0], &v[2]), cosine(&v[1], &v[2])];
    for (got, want) in got.iter().zip([0.6660, 0.1046, 0.1411]) {
        assert!((got - want).abs() < 5e-4, "{got} is not {want}");
    }
}

/// The tokenizer file asks for truncation at 128 tokens; we must not obey.
#[tokio::test]
async fn texts_that_differ_after_128_tokens_differ_and_over_256_are_refused() {
    let Some(e) = real_embedder() else { return };
    let same = "alpha ".repeat(140);
    let a = e.embed(&format!("{same} tell me about cats")).await.unwrap();
    let b = e.embed(&format!("{same} compute the orbit of mars in astronomical units")).await.unwrap();
    assert!(cosine(&a, &b) < 0.9999);
    let refused = e.embed(&"alpha ".repeat(256)).await;
    assert!(matches!(refused, Err(EmbedError::TooLong { max: 256 })), "{refused:?}");
}

#[tokio::test]
async fn a_text_outside_the_vocabulary_is_refused() {
    let Some(e) = real_embedder() else { return };
    let refused = e.embed("🜁🜂🜃🜄 🜁🜂 🜃🜄").await;
    assert!(matches!(refused, Err(EmbedError::Unknown)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_busy_and_a_late_text_times_out() {
    if real_embedder().is_none() {
        return;
    }
    let options = OnnxOptions {
        queue: 2,
        timeout: std::time::Duration::from_millis(30),
        ..OnnxOptions::new(&config::Embedder::default())
    };
    let e = Arc::new(OnnxEmbedder::open(&options).unwrap());
    let text = "the quick brown fox ".repeat(40);
    let calls = (0..64).map(|i| {
        let (e, text) = (e.clone(), format!("{i} {text}"));
        tokio::spawn(async move { e.embed(&text).await })
    });
    let mut seen = std::collections::BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        seen.insert(call.await.unwrap().map_or_else(|e| e.as_str(), |_| "ok"));
    }
    assert!(seen.contains("embed_busy"), "{seen:?}");
    assert!(seen.iter().all(|s| ["ok", "embed_busy", "embed_timeout"].contains(s)), "{seen:?}");
}

#[test]
fn a_missing_model_is_named_with_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let options = OnnxOptions { models: empty.path().to_owned(), ..OnnxOptions::new(&config::Embedder::default()) };
    let said = OnnxEmbedder::open(&options).err().unwrap().to_string();
    assert!(said.contains("all-MiniLM-L6-v2/model.onnx is missing") && said.contains("scripts/setup.sh"), "{said}");
    let outside = OnnxOptions { model: "../secrets".to_owned(), ..options };
    assert!(matches!(OnnxEmbedder::open(&outside), Err(EmbedError::Load { .. })));
}
