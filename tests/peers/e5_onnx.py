"""The shipped embedding model as an ONNX graph of 32-bit floats and a tokenizer, for onnxruntime.

    e5_onnx.py MODEL.safetensors OUT_FOLDER

Reads the format that models/convert/README.md describes and writes `model.onnx` and `tokenizer.json`. The weights are
the shipped 4-bit ones, unpacked; the graph is BERT's: sums after attention and feed-forward are normalised, the mean
over the tokens is scaled to length 1.
"""

import json
import pathlib
import struct
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

HIDDEN, HEADS, LAYERS, EPSILON = 384, 12, 12, 1e-12


class Weights:
    def __init__(self, path):
        data = pathlib.Path(path).read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        self.entries = json.loads(data[8 : 8 + size])
        self.body = data[8 + size :]

    def raw(self, name):
        entry = self.entries[name]
        start, end = entry["data_offsets"]
        kind = {"F32": "<f4", "F16": "<f2", "U8": "u1", "U32": "<u4"}[entry["dtype"]]
        return np.frombuffer(self.body[start:end], kind).reshape(entry["shape"])

    def matrix(self, name):
        """Rows by columns, from blocks of 32 nibbles with a scale each."""
        packed, scales = self.raw(name + ".nibbles"), self.raw(name + ".scales").astype("f4")
        rows, blocks = scales.shape
        packed = packed.reshape(rows, blocks, 16)
        values = np.concatenate([packed & 15, packed >> 4], axis=2).astype("f4") - 8
        return (values * scales[:, :, None]).reshape(rows, blocks * 32)


class Graph:
    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value):
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def __call__(self, kind, *inputs, **attributes):
        self.count += 1
        name = f"n{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def build(weights):
    g = Graph()
    floats = lambda value: g.constant(np.asarray(value, "f4"))
    numbers = lambda *values: g.constant(np.asarray(values, "i8"))
    norm = lambda x, name: g(
        "LayerNormalization", x, g.constant(weights.raw(name + ".weight")), g.constant(weights.raw(name + ".bias")),
        epsilon=EPSILON, axis=-1,
    )
    linear = lambda x, name: g(
        "Add", g("MatMul", x, g.constant(weights.matrix(name).T)), g.constant(weights.raw(name + ".bias"))
    )
    length = g("Slice", g("Shape", "ids"), numbers(1), numbers(2))
    places = g("Slice", g.constant(weights.raw("position")), numbers(0), length, numbers(0))
    words = g("Gather", g.constant(weights.matrix("word")), "ids")
    x = norm(g("Add", g("Add", words, places), g.constant(weights.raw("type"))), "embedding_norm")
    mask = g("Cast", "mask", to=TensorProto.FLOAT)
    hidden = g("Mul", g("Sub", floats(1), g("Unsqueeze", mask, numbers(1, 2))), floats(-1e4))
    split = numbers(0, 0, HEADS, HIDDEN // HEADS)
    heads = lambda y: g("Transpose", g("Reshape", y, split), perm=[0, 2, 1, 3])
    for at in range(LAYERS):
        layer = f"layers.{at}."
        q, k, v = (heads(linear(x, layer + name)) for name in "qkv")
        scores = g("MatMul", q, g("Transpose", k, perm=[0, 1, 3, 2]))
        scores = g("Add", g("Mul", scores, floats((HIDDEN // HEADS) ** -0.5)), hidden)
        mixed = g("Transpose", g("MatMul", g("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        mixed = g("Reshape", mixed, numbers(0, 0, HIDDEN))
        x = norm(g("Add", x, linear(mixed, layer + "attention_out")), layer + "attention_norm")
        inner = g("Gelu", linear(x, layer + "up"))
        x = norm(g("Add", x, linear(inner, layer + "down")), layer + "output_norm")
    kept = g("Unsqueeze", mask, numbers(2))
    total = g("ReduceSum", g("Mul", x, kept), numbers(1), keepdims=0)
    mean = g("Div", total, g("ReduceSum", kept, numbers(1), keepdims=0))
    g.nodes.append(helper.make_node("LpNormalization", [mean], ["vectors"], axis=-1, p=2))
    ids = lambda name: helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
    out = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", HIDDEN])
    graph = helper.make_graph(g.nodes, "e5", [ids("ids"), ids("mask")], [out], g.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def tokenizer(weights):
    blob, pieces, at = weights.raw("tokenizer.pieces").tobytes(), [], 0
    for size in weights.raw("tokenizer.piece_bytes"):
        pieces.append(blob[at : at + int(size)].decode())
        at += int(size)
    scores = [float(score) for score in weights.raw("tokenizer.scores")]
    made = Tokenizer(models.Unigram(list(zip(pieces, scores)), unk_id=pieces.index("<unk>")))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    ends = [(name, pieces.index(name)) for name in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    made.enable_truncation(512)
    made.enable_padding(pad_id=pieces.index("<pad>"), pad_token="<pad>")
    return made


if __name__ == "__main__":
    weights, folder = Weights(sys.argv[1]), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build(weights), folder / "model.onnx")
    tokenizer(weights).save(str(folder / "tokenizer.json"))
