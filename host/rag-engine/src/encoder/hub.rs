//! Reads an encoder's folder as the usual hub lays it out: configuration, vocabulary, and weights in safetensors or
//! PyTorch's format.
//!
//! Read are models of BERT's family (`bert`, `roberta`, `xlm-roberta`) with absolute positions: e5, bge, bge-m3 with
//! its multi-vector and lexical heads, and cross-encoders with one label such as bge-reranker-v2-m3.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::folder;
use super::loaded::{Loaded, Pooling, Precision, ScoreHead};
use super::model::{Layer, Linear, Model, Norm};
use super::tokenizer::Tokenizer;
use super::word_table::WordTable;
use crate::checkpoint;
use crate::inspect::file_sha256;
use crate::rwkv::Weights;

/// The vocabulary's file.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// bge-m3's multi-vector head.
const TOKEN_HEAD: &str = "colbert_linear.pt";
/// bge-m3's lexical head.
const LEXICAL_HEAD: &str = "sparse_linear.pt";
/// Parts of a name before which families put their own.
const STEMS: [&str; 3] = ["", "bert.", "roberta."];

/// What is used of `config.json`.
#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    #[serde(default)]
    architectures: Vec<String>,
    hidden_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    layer_norm_eps: f32,
    hidden_act: String,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    pad_token_id: usize,
}

/// What is used of `1_Pooling/config.json`.
#[derive(Debug, Default, Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
}

/// What is used of `config_sentence_transformers.json`.
#[derive(Debug, Default, Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: std::collections::HashMap<String, String>,
}

/// Reads the folder `path`; the error is the message.
pub(super) fn load(path: &Path, precision: Precision) -> Result<Loaded, String> {
    let config = config(path)?;
    let weights = folder::weights(path)?;
    let file = File::open(&weights)?;
    let model = file.model(&config, precision)?;
    let tokenizer = Tokenizer::hub(&path.join(TOKENIZER))?;
    if tokenizer.rows() > file.rows {
        return Err(format!("{} tokens in {TOKENIZER} for {} word vectors", tokenizer.rows(), file.rows));
    }
    let name = name(path);
    let (prefix_query, prefix_passage) = prefixes(path, &name)?;
    Ok(Loaded {
        score_head: file.score_head(&config)?,
        token_head: head(&path.join(TOKEN_HEAD), config.hidden_size, precision)?,
        lexical_head: lexical_head(path, config.hidden_size)?,
        model,
        tokenizer: Arc::new(tokenizer),
        hash: hash(&weights)?,
        prefix_query,
        prefix_passage,
        pooling: pooling(path)?,
        name,
    })
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| "encoder".into(), |name| name.to_string_lossy().into_owned())
}

/// The model's name and weights' hash; the error is the message.
pub(super) fn identity(path: &Path) -> Result<String, String> {
    Ok(super::identity_of(&name(path), &hash(&folder::weights(path)?)?))
}

/// What a folder's configuration says of its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// Family and sizes, e.g. `xlm-roberta 24 × 1024`.
    pub(crate) architecture: String,
    /// Scores a question and a passage read together, instead of embedding.
    pub(crate) scores: bool,
}

/// Reads the configuration only; the error is the message.
pub(crate) fn describe(path: &Path) -> Result<Described, String> {
    let config = config(path)?;
    Ok(Described {
        architecture: format!("{} {} × {}", config.model_type, config.num_hidden_layers, config.hidden_size),
        scores: config.scores(),
    })
}

fn config(path: &Path) -> Result<Config, String> {
    let config: Config = json(path, "config.json")?.ok_or_else(|| {
        "there is no config.json in it: a folder as the hub has it holds config.json, tokenizer.json and \
         model.safetensors or pytorch_model.bin"
            .to_owned()
    })?;
    config.check()?;
    Ok(config)
}

impl Config {
    fn check(&self) -> Result<(), String> {
        let families = ["bert", "roberta", "xlm-roberta"];
        if !families.contains(&self.model_type.as_str()) {
            return Err(format!(
                "models of type '{}' are not read: {}",
                self.model_type,
                families.join(", ")
            ));
        }
        if self.hidden_act != "gelu" {
            return Err(format!("its activation '{}' is not supported: gelu is", self.hidden_act));
        }
        if self.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return Err("its positions are relative; absolute ones are supported".to_owned());
        }
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        if width == 0 || heads == 0 || !width.is_multiple_of(heads) || self.num_hidden_layers == 0 {
            return Err(format!("{width} dimensions do not divide into {heads} heads, or it has no layers"));
        }
        Ok(())
    }

    /// Rows of the position table before the first token's.
    fn first_position(&self) -> usize {
        if self.model_type == "bert" { 0 } else { self.pad_token_id + 1 }
    }

    fn scores(&self) -> bool {
        self.architectures.iter().any(|name| name.ends_with("ForSequenceClassification"))
    }
}

/// An open file of weights, and what its names begin with.
struct File {
    weights: Box<dyn Weights>,
    path: std::path::PathBuf,
    stem: &'static str,
    /// Rows of the word table.
    rows: usize,
}

impl File {
    fn open(path: &Path) -> Result<Self, String> {
        let weights = checkpoint::open(path).map_err(|error| error.to_string())?;
        let word = |stem: &str| format!("{stem}embeddings.word_embeddings.weight");
        let found = STEMS.iter().find_map(|stem| Some((*stem, weights.shape(&word(stem))?)));
        let Some((stem, shape)) = found else {
            return Err(
                "it has no tensor embeddings.word_embeddings.weight: no model of BERT's family".to_owned()
            );
        };
        Ok(File { weights, path: path.to_owned(), stem, rows: shape.first().copied().unwrap_or(0) })
    }

    fn model(&self, config: &Config, precision: Precision) -> Result<Model, String> {
        let width = config.hidden_size;
        let at = |part: &str| format!("{}embeddings.{part}", self.stem);
        let first = config.first_position() * width;
        let position = self.floats(&at("position_embeddings.weight"))?;
        if !position.len().is_multiple_of(width) || position.len() < first + 3 * width {
            return Err(format!("{} values in its position table are not rows of {width}", position.len()));
        }
        let mut position = position[first..].to_vec();
        let kinds = self.floats(&at("token_type_embeddings.weight"))?;
        if kinds.is_empty() || !kinds.len().is_multiple_of(width) {
            return Err(format!(
                "{} values in its table of token types are not rows of {width}",
                kinds.len()
            ));
        }
        let (kind, more) = kinds.split_at(width);
        position.iter_mut().zip(kind.iter().cycle()).for_each(|(value, kind)| *value += kind);
        let second = more.iter().zip(kind).map(|(second, first)| second - first).collect();
        // A second map of the same file: the table stays there, and the loaded model owns what it reads.
        let words = checkpoint::open(&self.path).map_err(|error| error.to_string())?;
        let layers = 0..config.num_hidden_layers;
        Ok(Model {
            word: WordTable::stored(width, words, at("word_embeddings.weight"))?,
            position,
            second,
            norm: self.norm(&at("LayerNorm"), width)?,
            layers: layers.map(|i| self.layer(i, width, precision)).collect::<Result<_, _>>()?,
            heads: config.num_attention_heads,
            width,
            eps: config.layer_norm_eps,
        })
    }

    fn layer(&self, index: usize, width: usize, precision: Precision) -> Result<Layer, String> {
        let at = |part: &str| format!("{}encoder.layer.{index}.{part}", self.stem);
        let own = ["query", "key", "value"].map(|part| at(&format!("attention.self.{part}")));
        let up = self.linear(&[at("intermediate.dense")], width, precision)?;
        let inner = up.columns();
        let layer = Layer {
            qkv: self.linear(&own, width, precision)?,
            attention_out: self.linear(&[at("attention.output.dense")], width, precision)?,
            attention_norm: self.norm(&at("attention.output.LayerNorm"), width)?,
            up,
            down: self.linear(&[at("output.dense")], inner, precision)?,
            output_norm: self.norm(&at("output.LayerNorm"), width)?,
        };
        let columns = [layer.qkv.columns(), layer.attention_out.columns(), layer.down.columns()];
        if columns != [3 * width, width, width] {
            return Err(format!("matrices of layer {index} have {columns:?} rows where {width} fit"));
        }
        Ok(layer)
    }

    /// The head of a cross-encoder; none for a model that only embeds.
    fn score_head(&self, config: &Config) -> Result<Option<ScoreHead>, String> {
        if !config.scores() {
            return Ok(None);
        }
        let (dense, out) = match config.model_type.as_str() {
            "bert" => (format!("{}pooler.dense", self.stem), "classifier".to_owned()),
            _ => ("classifier.dense".to_owned(), "classifier.out_proj".to_owned()),
        };
        let width = config.hidden_size;
        let head = ScoreHead {
            dense: self.linear(&[dense], width, Precision::F32)?,
            out: self.linear(&[out], width, Precision::F32)?,
        };
        if head.dense.columns() != width || head.out.columns() != 1 {
            return Err(format!("it tells {} labels apart; a reranker has one score", head.out.columns()));
        }
        Ok(Some(head))
    }

    /// One matrix, or several over the same input side by side.
    fn linear(&self, names: &[String], depth: usize, precision: Precision) -> Result<Linear, String> {
        linear(&*self.weights, names, depth, precision)
    }

    fn norm(&self, name: &str, width: usize) -> Result<Norm, String> {
        // Converted TensorFlow checkpoints call them gamma and beta.
        let of = |part: &str, old: &str| {
            let name = [part, old].map(|part| format!("{name}.{part}"));
            let [new, old] = &name;
            let name = if self.weights.shape(new).is_none() { old } else { new };
            let values = self.floats(name)?;
            if values.len() == width {
                return Ok(values);
            }
            Err(format!("'{name}' has {} values, not {width}", values.len()))
        };
        Ok(Norm { weight: of("weight", "gamma")?, bias: of("bias", "beta")? })
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, String> {
        floats(&*self.weights, name)
    }
}

/// Sizes from the configuration and the shapes of tensors, before anything is read; the error is the message.
#[cfg(feature = "cuda")]
pub(super) fn sizes(path: &Path) -> Result<super::gpu::Sizes, String> {
    let config = config(path)?;
    let file = File::open(&folder::weights(path)?)?;
    let rows = |name: &str| {
        let shape = file.weights.shape(&format!("{}{name}", file.stem));
        shape
            .and_then(|shape| shape.first().copied())
            .ok_or_else(|| format!("the tensor '{name}' is missing"))
    };
    let width = config.hidden_size;
    let token_head = path.join(TOKEN_HEAD);
    let token_width = match token_head.is_file() {
        true => {
            let head = checkpoint::open(&token_head).map_err(|error| error.to_string())?;
            head.shape("bias").and_then(|shape| shape.first().copied()).unwrap_or(width)
        }
        false => width,
    };
    Ok(super::gpu::Sizes {
        words: file.rows,
        positions: rows("embeddings.position_embeddings.weight")?.saturating_sub(config.first_position()),
        width,
        heads: config.num_attention_heads,
        inner: rows("encoder.layer.0.intermediate.dense.weight")?,
        layers: config.num_hidden_layers,
        token_width,
    })
}

fn linear(
    weights: &dyn Weights,
    names: &[String],
    depth: usize,
    precision: Precision,
) -> Result<Linear, String> {
    let (mut values, mut bias) = (Vec::new(), Vec::new());
    for name in names {
        let matrix = floats(weights, &format!("{name}.weight"))?;
        let more = floats(weights, &format!("{name}.bias"))?;
        if matrix.len() != more.len() * depth {
            let (all, rows) = (matrix.len(), more.len());
            return Err(format!("'{name}' has {all} weights for {rows} rows of {depth}"));
        }
        values.extend(matrix);
        bias.extend(more);
    }
    Ok(Linear::pack(precision, depth, &values, bias))
}

fn floats(weights: &dyn Weights, name: &str) -> Result<Vec<f32>, String> {
    if weights.shape(name).is_none() {
        return Err(format!("the tensor '{name}' is missing"));
    }
    let values = weights.read(name).map_err(|error| error.to_string())?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(format!("the tensor '{name}' holds a value that is not a number"));
    }
    Ok(values)
}

/// A linear layer in a file of its own, if it is there.
fn head(file: &Path, width: usize, precision: Precision) -> Result<Option<Linear>, String> {
    if !file.is_file() {
        return Ok(None);
    }
    let weights = checkpoint::open(file).map_err(|error| error.to_string())?;
    let (values, bias) = (floats(&*weights, "weight")?, floats(&*weights, "bias")?);
    if values.len() != bias.len() * width || bias.is_empty() {
        let (file, all, rows) = (file.display(), values.len(), bias.len());
        return Err(format!("{file} has {all} weights for {rows} rows of {width}"));
    }
    Ok(Some(Linear::pack(precision, width, &values, bias)))
}

/// One row: its rounding would show in every weight, and it costs nothing.
fn lexical_head(path: &Path, width: usize) -> Result<Option<Linear>, String> {
    let head = head(&path.join(LEXICAL_HEAD), width, Precision::F32)?;
    match head.as_ref().map_or(1, Linear::columns) {
        1 => Ok(head),
        rows => Err(format!("{LEXICAL_HEAD} has {rows} rows; a token has one weight")),
    }
}

/// As sentence-transformers does it: what `1_Pooling` says, else the mean.
fn pooling(path: &Path) -> Result<Pooling, String> {
    let Some(config) = json::<PoolingConfig>(path, "1_Pooling/config.json")? else {
        return Ok(Pooling::Mean);
    };
    match (config.pooling_mode_cls_token, config.pooling_mode_mean_tokens) {
        (true, false) => Ok(Pooling::First),
        (false, true) => Ok(Pooling::Mean),
        _ => Err("1_Pooling asks for neither the mean nor the first token alone".to_owned()),
    }
}

/// What is put before questions and before passages: the prompts beside the model, or those that e5's paper trains
/// with (Wang et al. 2022, arXiv:2212.03533), which its folders do not state.
fn prefixes(path: &Path, name: &str) -> Result<(String, String), String> {
    let prompts = json::<Prompts>(path, "config_sentence_transformers.json")?.unwrap_or_default().prompts;
    let of = |names: &[&str]| names.iter().find_map(|name| prompts.get(*name)).cloned();
    if let (query, passage @ Some(_)) | (query @ Some(_), passage) =
        (of(&["query"]), of(&["passage", "document"]))
    {
        return Ok((query.unwrap_or_default(), passage.unwrap_or_default()));
    }
    let name = name.to_lowercase();
    let e5 = ["e5-small", "e5-base", "e5-large"].iter().any(|model| name.contains(model));
    let own = if e5 && !name.contains("instruct") { ["query: ", "passage: "] } else { ["", ""] };
    Ok((own[0].to_owned(), own[1].to_owned()))
}

/// A file of the folder, if it is there.
fn json<T: serde::de::DeserializeOwned>(path: &Path, name: &str) -> Result<Option<T>, String> {
    let text = match fs_err::read_to_string(path.join(name)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| format!("{name} cannot be read: {error}"))
}

/// First 12 digits of the file's SHA-256.
fn hash(path: &Path) -> Result<String, String> {
    let mut digits = file_sha256(path).map_err(|error| error.to_string())?;
    digits.truncate(12);
    Ok(digits)
}
