"""The same training in PyTorch with fla's kernels, to measure against: state tuning of an RWKV-6 with random weights.

    python3 baseline.py LAYERS WIDTH CONTEXT BATCH STEPS [kept] [compiled]

Needs torch, triton and fla-core. Frozen weights in bf16, states in f32, Adam; gradient checkpointing unless `kept`;
`compiled` runs each layer through torch.compile. Prints one line of JSON.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from fla.ops.rwkv6 import chunk_rwkv6
from torch.utils.checkpoint import checkpoint

layers, width, context, batch, steps = map(int, sys.argv[1:6])
kept, compiled = "kept" in sys.argv, "compiled" in sys.argv
vocabulary, hidden, heads = 65536, width * 7 // 2, width // 64
mix, decay = (64, 128) if width >= 4096 else (32, 64)
torch.manual_seed(1)


def matrix(*shape):
    return (torch.rand(shape, device="cuda") * 4 - 2).mul_(shape[-1] ** -0.5).bfloat16()


def vector(middle=0.0, *shape):
    return (torch.rand(shape or (width,), device="cuda") * 2 - 1 + middle).bfloat16()


def layer():
    names = {name: matrix(width, width) for name in ("r", "k", "v", "g", "o", "fr")}
    names |= {"fk": matrix(hidden, width), "fv": matrix(width, hidden)}
    names |= {"w1": matrix(width, 5 * mix), "w2": matrix(5, mix, width)}
    names |= {"d1": matrix(width, decay), "d2": matrix(decay, width)}
    names |= {name: vector() for name in ("mx", "mw", "mk", "mv", "mr", "mg", "fmk", "fmr")}
    names |= {"w0": vector(-2.0), "u": vector(0.0, heads, 64)}
    for norm in ("ln1", "ln2", "lnx"):
        names |= {norm: vector(1.0), norm + "b": vector()}
    return names


blocks = [layer() for _ in range(layers)]
states = [torch.zeros(heads, 64, 64, device="cuda", requires_grad=True) for _ in range(layers)]
table, head = matrix(vocabulary, width), matrix(vocabulary, width)
ends = [vector(1.0), vector(), vector(1.0), vector()]


def shifted(x):
    return F.pad(x, (0, 0, 1, -1)) - x


def block(x, p, state):
    b, t, c = x.shape
    y = F.layer_norm(x, (c,), p["ln1"], p["ln1b"])
    dx = shifted(y)
    low = torch.tanh((y + dx * p["mx"]) @ p["w1"]).view(b * t, 5, -1).transpose(0, 1)
    mw, mk, mv, mr, mg = torch.bmm(low, p["w2"]).view(5, b, t, c).unbind(0)
    r = F.linear(y + dx * (p["mr"] + mr), p["r"])
    k = F.linear(y + dx * (p["mk"] + mk), p["k"])
    v = F.linear(y + dx * (p["mv"] + mv), p["v"])
    g = F.silu(F.linear(y + dx * (p["mg"] + mg), p["g"]))
    w = p["w0"] + torch.tanh((y + dx * (p["mw"] + mw)) @ p["d1"]) @ p["d2"]
    r, k, v, w = (z.view(b, t, heads, 64) for z in (r, k, v, -torch.exp(w.float())))
    start = state.expand(b, -1, -1, -1).contiguous()
    o, _ = chunk_rwkv6(r, k, v, w, p["u"], scale=1.0, initial_state=start)
    o = F.group_norm(o.reshape(b * t, c), heads, p["lnx"], p["lnxb"], 64e-5).view(b, t, c)
    x = x + F.linear(o * g, p["o"])
    y = F.layer_norm(x, (c,), p["ln2"], p["ln2b"])
    dx = shifted(y)
    key = torch.relu(F.linear(y + dx * p["fmk"], p["fk"])) ** 2
    return x + torch.sigmoid(F.linear(y + dx * p["fmr"], p["fr"])) * F.linear(key, p["fv"])


run = torch.compile(block) if compiled else block
adam = torch.optim.Adam(states, lr=1.0, betas=(0.9, 0.99), eps=1e-8, fused=True)
tokens = torch.randint(vocabulary, (batch, context), device="cuda")
labels = torch.randint(vocabulary, (batch, context), device="cuda")


def update():
    x = F.layer_norm(table[tokens], (width,), ends[0], ends[1])
    for p, state in zip(blocks, states):
        x = run(x, p, state) if kept else checkpoint(run, x, p, state, use_reentrant=False)
    x = F.layer_norm(x, (width,), ends[2], ends[3])
    loss = F.cross_entropy(F.linear(x, head).view(-1, vocabulary), labels.view(-1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(states, 1.0)
    adam.step()
    adam.zero_grad(set_to_none=True)
    return loss.item()


for _ in range(3):
    update()
times = []
for _ in range(steps):
    torch.cuda.synchronize()
    started = time.perf_counter()
    loss = update()
    torch.cuda.synchronize()
    times.append(time.perf_counter() - started)
median = sorted(times)[len(times) // 2]
print(json.dumps({
    "baseline": f"{layers}x{width}", "context": context, "batch": batch, "kept": kept, "compiled": compiled,
    "tokens_per_s": round(context * batch / median), "fastest": round(context * batch / min(times)), "loss": loss,
    "allocated_mib": torch.cuda.max_memory_allocated() >> 20, "reserved_mib": torch.cuda.max_memory_reserved() >> 20,
}))
