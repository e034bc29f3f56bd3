"""What tuning made, read by PyTorch and applied to its base, through PyPI `rwkv`: the same logits as the engine's.

    tuned.py BASE.pth FOLDER

FOLDER has a folder per method, as `host/rag-tune/examples/tuned.rs` writes it. `cargo xtask oracle` runs it.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

BASE, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
DIFFERENCE_MAX = 1e-4
os.environ["RWKV_JIT_ON"] = "0"
os.environ["RWKV_CUDA_ON"] = "0"
os.environ["RWKV_V7_ON"] = "0"

import numpy
import torch
from rwkv.model import RWKV

load = torch.load
# PyTorch 1.13, which Debian has, knows no `mmap`.
torch.load = lambda *arguments, mmap=False, **more: load(*arguments, **more)


def merged(base, result, settings, start):
    """RWKV-PEFT's own arithmetic: W + α/r · B A, and for PiSSA W - B₀ A₀ + B A."""
    model = {name: tensor.float() for name, tensor in base.items()}
    adapted = 0
    for name, tensor in result.items():
        if name.endswith(".lora_A"):
            stem = name.removesuffix(".lora_A")
            change = result[stem + ".lora_B"].float() @ tensor.float()
            if start:
                change -= start[f"model.{stem}.init_lora_B"].float() @ start[f"model.{stem}.init_lora_A"].float()
            else:
                change *= settings["alpha"] / settings["rank"]
            model[stem + ".weight"] = model[stem + ".weight"] + change
            adapted += 1
        elif name in model:
            model[name] = tensor.float().reshape(model[name].shape)
        else:
            assert name.endswith(".lora_B"), name
    assert adapted > 0
    return model


def check(folder, base, untouched):
    result = torch.load(folder / "rwkv-1.pth", map_location="cpu", weights_only=True)
    settings = json.loads((folder / "rwkv-1.pth.json").read_text())["settings"]
    start = folder / "init_pissa.pth"
    start = torch.load(start, map_location="cpu", weights_only=True) if start.exists() else None
    tuned = folder.name == "state"
    with tempfile.TemporaryDirectory() as place:
        name = Path(place) / "model"
        torch.save(base if tuned else merged(base, result, settings, start), f"{name}.pth")
        model = RWKV(model=str(name), strategy="cpu fp32")
    state = model.generate_zero_state() if hasattr(model, "generate_zero_state") else None
    ids = numpy.fromfile(folder / "ids", dtype="<u4").tolist()
    if tuned:
        if state is None:
            # An empty run makes one of the right shapes.
            _, state = model.forward([1], None)
            state = [torch.zeros_like(tensor) for tensor in state]
        for layer in range(len(state) // 3):
            given = result[f"blocks.{layer}.att.time_state"].float()
            # Training keeps [head][value][key]; this engine reads [head][key][value].
            state[3 * layer + 1] = given.transpose(1, 2).contiguous()
    rows = []
    for token in ids:
        logits, state = model.forward([token], state)
        rows.append(logits.float().numpy().copy())
    wanted = numpy.stack(rows)
    found = numpy.fromfile(folder / "logits", dtype="<f4").reshape(wanted.shape)
    largest = numpy.abs(wanted).max(axis=1, keepdims=True)
    difference = float((numpy.abs(found - wanted) / largest).max())
    moved = float((numpy.abs(wanted - untouched) / largest).max())
    print(f"{folder.name}: PyTorch and the engine differ by {difference:.1e}; tuning moved the logits by {moved:.1e}")
    assert difference <= DIFFERENCE_MAX < 10 * DIFFERENCE_MAX < moved, "they differ, or nothing was tuned"


def main():
    torch.set_num_threads(1)
    base = torch.load(BASE, map_location="cpu")
    untouched = numpy.fromfile(BASE.with_suffix(".logits"), dtype="<f4")
    folders = sorted(path for path in FOLDER.iterdir() if path.is_dir())
    assert len(folders) == 3, folders
    for folder in folders:
        check(folder, base, untouched.reshape(-1, base["emb.weight"].shape[0]))


with torch.no_grad():
    main()
