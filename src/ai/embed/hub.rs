//! Models that fastembed downloads (cargo feature `hub`): for machines with internet and models without a folder.

use super::onnx::{NO_SPINNING, OnnxOptions};
use super::worker::Model;
use fastembed::{EmbeddingModel, ModelInfo, TextEmbedding, TextInitOptions};
use ort::environment::Environment;

/// Downloads the model unless an earlier run did, and loads it. Also gives the id of its vectors.
pub(super) fn load(environment: Environment, options: &OnnxOptions) -> Result<(Model, String), String> {
    let info = find(&options.model).ok_or_else(|| {
        format!("no such folder in {}, and fastembed does not know the model", options.models.display())
    })?;
    let id = format!("{}@{}/{}", options.model, info.model_code, info.model_file);
    let init = TextInitOptions::new(info.model)
        .with_environment(environment)
        .with_cache_dir(options.models.join("hub"))
        .with_show_download_progress(false)
        .with_max_length(options.max_tokens)
        .with_intra_threads(options.threads)
        .with_session_config(NO_SPINNING.0, NO_SPINNING.1);
    tracing::info!(model = %id, "loading the embedding model, which downloads it the first time");
    let inner = TextEmbedding::try_new(init).map_err(|e| e.to_string())?;
    Ok((Model::new(inner, options.max_tokens), id))
}

/// By its name in the hub, or by the name's last part: the converted weights live under other owners.
fn find(name: &str) -> Option<ModelInfo<EmbeddingModel>> {
    let last = |n: &str| n.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let known = TextEmbedding::list_supported_models();
    let exact = known.iter().find(|m| m.model_code.eq_ignore_ascii_case(name));
    exact.or_else(|| known.iter().find(|m| last(&m.model_code) == last(name))).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_their_usual_names() {
        assert_eq!(find("BAAI/bge-small-en-v1.5").unwrap().model, EmbeddingModel::BGESmallENV15);
        assert_eq!(find("Xenova/bge-base-en-v1.5").unwrap().model, EmbeddingModel::BGEBaseENV15);
        assert!(find("nobody/nothing").is_none());
    }
}
