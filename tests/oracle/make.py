"""Random RWKV models with the logits that PyPI `rwkv` computes from them on the CPU in f32.

    make.py VERSION SEED FOLDER

writes FOLDER/NAME.pth, NAME.ids (u32, little-endian) and NAME.logits (f32, a row an id). `cargo xtask oracle` runs it.
"""

import os
import sys
from pathlib import Path

VERSION, SEED, FOLDER = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
os.environ["RWKV_JIT_ON"] = "0"
os.environ["RWKV_CUDA_ON"] = "0"
os.environ["RWKV_V7_ON"] = "1" if VERSION == 7 else "0"

import numpy
import torch
from rwkv.model import RWKV

load = torch.load
# PyTorch 1.13, which Debian has, knows no `mmap`.
torch.load = lambda *arguments, mmap=False, **more: load(*arguments, **more)

HEAD = 64
LENGTH = 48


def uniform(*shape, low=-1.0, high=1.0):
    return torch.rand(*shape) * (high - low) + low


def matrix(rows, columns):
    """Outputs of about the inputs' size."""
    return torch.randn(rows, columns) / columns**0.5


def common(layers, width, hidden, vocabulary):
    weights = {"emb.weight": torch.randn(vocabulary, width) * 0.5, "head.weight": matrix(vocabulary, width)}

    def norm(name):
        weights[name + ".weight"] = uniform(width, low=0.5, high=1.5)
        weights[name + ".bias"] = uniform(width, low=-0.1, high=0.1)

    norm("blocks.0.ln0")
    norm("ln_out")
    for layer in range(layers):
        at = f"blocks.{layer}."
        norm(at + "ln1")
        norm(at + "ln2")
        norm(at + "att.ln_x")
        for name in ["receptance", "key", "value", "output"]:
            weights[f"{at}att.{name}.weight"] = matrix(width, width)
        weights[at + "ffn.key.weight"] = matrix(hidden, width)
        weights[at + "ffn.value.weight"] = matrix(width, hidden)
    return weights


def version6(layers, width):
    weights = common(layers, width, width * 7 // 2 // 32 * 32, 320)
    for layer in range(layers):
        at = f"blocks.{layer}."
        for name in ["x", "w", "k", "v", "r", "g"]:
            weights[f"{at}att.time_maa_{name}"] = uniform(1, 1, width, low=0.0)
        weights[at + "att.time_maa_w1"] = matrix(width, 5 * 32) * 0.3
        weights[at + "att.time_maa_w2"] = torch.randn(5, 32, width) * 0.1
        weights[at + "att.time_decay"] = uniform(1, 1, width, low=-6.0, high=0.5)
        weights[at + "att.time_decay_w1"] = matrix(width, 64)
        weights[at + "att.time_decay_w2"] = torch.randn(64, width) * 0.1
        weights[at + "att.time_faaaa"] = uniform(width // HEAD, HEAD)
        weights[at + "att.gate.weight"] = matrix(width, width)
        for name in ["k", "r"]:
            weights[f"{at}ffn.time_maa_{name}"] = uniform(1, 1, width, low=0.0)
        weights[at + "ffn.receptance.weight"] = matrix(width, width)
    return weights


def version7(layers, width):
    weights = common(layers, width, 4 * width, 320)
    for layer in range(layers):
        at = f"blocks.{layer}.att."
        for name in ["r", "w", "k", "v", "a", "g"]:
            weights[f"{at}x_{name}"] = uniform(1, 1, width, low=0.0)
        for name, rank in [("w", 64), ("a", 64), ("v", 32)]:
            weights[f"{at}{name}0"] = uniform(1, 1, width)
            weights[f"{at}{name}1"] = matrix(width, rank)
            weights[f"{at}{name}2"] = torch.randn(rank, width) * 0.1
        weights[at + "g1"] = matrix(width, 128)
        weights[at + "g2"] = torch.randn(128, width) * 0.1
        weights[at + "k_k"] = uniform(1, 1, width, low=0.5)
        weights[at + "k_a"] = uniform(1, 1, width, low=0.5)
        weights[at + "r_k"] = uniform(width // HEAD, HEAD)
        weights[f"blocks.{layer}.ffn.x_k"] = uniform(1, 1, width, low=0.0)
    return weights


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    layers, width = 2 + SEED % 3, HEAD * (2 + SEED % 2)
    weights = (version6 if VERSION == 6 else version7)(layers, width)
    name = FOLDER / f"v{VERSION}-{SEED}"
    torch.save(weights, f"{name}.pth")
    ids = torch.randint(1, 320, (LENGTH,)).tolist()
    model = RWKV(model=str(name), strategy="cpu fp32")
    # One after the other: the plainest of its ways.
    state, rows = None, []
    for token in ids:
        logits, state = model.forward([token], state)
        rows.append(logits.float().numpy().copy())
    numpy.array(ids, dtype="<u4").tofile(f"{name}.ids")
    numpy.stack(rows).astype("<f4").tofile(f"{name}.logits")


with torch.no_grad():
    main()
