"""Makes the small random models of this folder and what transformers computes with them.

    pip install torch transformers==4.57.6 tokenizers && python make.py

Writes `multi-vector/` (XLM-RoBERTa, first-token pooling, multi-vector and lexical heads, PyTorch file), `cross/` (XLM-RoBERTa with one
label, safetensors), `tiny-e5-small/` (BERT with one label and two token types, mean pooling) and `expected.json`.
"""
import json
import pathlib
import shutil

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
WORDS = ["知识库把文件切成小段，每一段都有自己的向量。", "北京市位于华北平原的北部。", "列车从上海出发，经过南京和济南。",
         "A knowledge base cuts files into passages.", "Which cities does the train pass?", "The system returns a clear error."] * 3
TEXTS = ["知识库有向量。", "The train passes 南京 and cities.", "x"]
PAIRS = [("列车经过哪里？", "列车从上海出发，经过南京。"), ("Which error?", "知识库把文件切成小段 into passages."), ("北京", "")]
SIZE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, layer_norm_eps=1e-5)


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(WORDS, trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


def word_pieces():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def randomise(model):
    """Random values large enough that every part shows in the result."""
    for name, value in model.named_parameters():
        if "LayerNorm.weight" in name:
            value.data = 1 + 0.3 * torch.randn_like(value)
        else:
            value.data = 0.25 * torch.randn_like(value)
    return model.eval()


def encode(tokenizer, *texts):
    encoded = tokenizer.encode(*texts)
    return torch.tensor([encoded.ids]), torch.tensor([encoded.type_ids]), encoded.ids


def unit(vector):
    return torch.nn.functional.normalize(vector, dim=-1)


def folder(name, config, tokenizer):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"), pretty=False)
    (path / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": [config.arch]}, indent=1, default=str))
    return path


def numbers(values):
    return [round(float(value), 6) for value in values.flatten()]


@torch.no_grad()
def multi_vector(tokenizer):
    config = transformers.XLMRobertaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=66, type_vocab_size=1,
                                           pad_token_id=1, bos_token_id=0, eos_token_id=2, **SIZE)
    config.arch = "XLMRobertaModel"
    model = randomise(transformers.XLMRobertaModel(config, add_pooling_layer=False))
    head = randomise(torch.nn.Linear(32, 24))
    path = folder("multi-vector", config, tokenizer)
    # Older checkpoints hold a buffer of whole numbers too.
    torch.save(model.state_dict() | {"embeddings.position_ids": torch.arange(66)[None]}, path / "pytorch_model.bin")
    torch.save(head.state_dict(), path / "colbert_linear.pt")
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    rows, tokens = [], []
    for text in TEXTS:
        ids, _, plain = encode(tokenizer, text)
        hidden = model(ids).last_hidden_state[0]
        rows.append({"text": text, "ids": plain[1:-1], "vector": numbers(unit(hidden[0]))})
        tokens.append(unit(head(hidden[1:-1])))
    best = [float((tokens[0] @ other.T).max(1).values.mean()) for other in tokens[1:]]
    return {"texts": rows, "max_sim": best}


@torch.no_grad()
def scores(model, tokenizer):
    rows = []
    for question, passage in PAIRS:
        ids, types, _ = encode(tokenizer, question, passage)
        kinds = {"token_type_ids": types} if model.config.type_vocab_size > 1 else {}
        rows.append({"question": question, "passage": passage, "score": round(float(torch.sigmoid(model(ids, **kinds).logits[0, 0])), 6)})
    return rows


@torch.no_grad()
def cross(tokenizer):
    config = transformers.XLMRobertaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=66, type_vocab_size=1,
                                           pad_token_id=1, bos_token_id=0, eos_token_id=2, num_labels=1, **SIZE)
    config.arch = "XLMRobertaForSequenceClassification"
    model = randomise(transformers.XLMRobertaForSequenceClassification(config))
    model.save_pretrained(folder("cross", config, tokenizer), safe_serialization=True)
    return {"pairs": scores(model, tokenizer)}


@torch.no_grad()
def mean(tokenizer):
    config = transformers.BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=64, type_vocab_size=2, num_labels=1, **SIZE)
    config.arch = "BertForSequenceClassification"
    model = randomise(transformers.BertForSequenceClassification(config))
    model.save_pretrained(folder("tiny-e5-small", config, tokenizer), safe_serialization=True)
    rows = []
    for text in TEXTS:
        _, _, plain = encode(tokenizer, text)
        ids, _, _ = encode(tokenizer, "passage: " + text)
        rows.append({"text": text, "ids": plain[1:-1], "vector": numbers(unit(model.bert(ids).last_hidden_state[0].mean(0)))})
    return {"texts": rows, "pairs": scores(model, tokenizer)}


def lexical(model, head, ids):
    """What bge-m3's authors call sparse: the largest weight of each token that is no special or unknown one."""
    weights = torch.relu(head(model(torch.tensor([[0, *ids, 2]])).last_hidden_state[0]))[1:-1, 0]
    best = {}
    for id, weight in zip(ids, weights.tolist()):
        if weight > 0 and id > 3:
            best[id] = max(weight, best.get(id, 0))
    return best


@torch.no_grad()
def add_lexical(result):
    """After everything else, so that nothing else changes: only this and `expected.json` can be made anew by it."""
    torch.manual_seed(2)
    path = HERE / "multi-vector"
    model = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**json.loads((path / "config.json").read_text())), add_pooling_layer=False)
    state = torch.load(path / "pytorch_model.bin")
    model.load_state_dict({name: value for name, value in state.items() if "position_ids" not in name}, strict=False)
    head = randomise(torch.nn.Linear(32, 1))
    # So that most tokens weigh something, and some nothing.
    head.bias.data += 1
    torch.save(head.state_dict(), path / "sparse_linear.pt")
    found = [lexical(model.eval(), head, row["ids"]) for row in result["texts"]]
    for row, weights in zip(result["texts"], found):
        row["lexical"] = [[id, round(weights[id], 6)] for id in sorted(weights)]
    result["lexical"] = [round(sum(weight * other[id] for id, weight in found[0].items() if id in other), 6) for other in found]


torch.manual_seed(1)
result = {"multi-vector": multi_vector(unigram()), "cross": cross(unigram()), "tiny-e5-small": mean(word_pieces())}
add_lexical(result["multi-vector"])
(HERE / "expected.json").write_text(json.dumps(result, ensure_ascii=False, indent=1))
