"""RWKV-6 (x060) in PyTorch with the tensor names of the public checkpoints: training form, batched decoding, export.

Packed rows: `first`/`last` mark the samples' borders; the token shift sees zeros at a first token and the
recurrent state is emptied behind a last one, so every sample starts from the zero state as at inference.
"""
import math
import torch, torch.nn as nn, torch.nn.functional as F

RESET = -32.0      # log decay that empties the state; a power of two keeps the kernels' running sums exact


def wkv6_naive(r, k, v, logw, u, s0=None):
    B, T, H, N = r.shape
    s = torch.zeros(B, H, N, N, device=r.device) if s0 is None else s0.float()
    out = []
    for t in range(T):
        kv = k[:, t].float().unsqueeze(-1) * v[:, t].float().unsqueeze(-2)
        out.append(torch.einsum('bhk,bhkv->bhv', r[:, t].float(), u.float()[None, :, :, None] * kv + s))
        s = logw[:, t].float().exp().unsqueeze(-1) * s + kv
    return torch.stack(out, 1), s


def wkv6_chunks(r, k, v, logw, u, s0=None, n=8):
    """The same in chunks of 8, for prefills on a CPU; decays below exp(-10) a step are cut off there."""
    B, T, H, N = r.shape
    pad = -T % n
    r, k, v, g = (F.pad(x.float(), (0, 0, 0, 0, 0, pad)).transpose(1, 2).reshape(B, H, -1, n, N) for x in (r, k, v, logw.clamp(min=-10)))
    gi = g.cumsum(3); ge = gi - g
    re, ke, end = r * ge.exp(), k * (-gi).exp(), gi[:, :, :, -1:]
    A = (re @ ke.mT).tril(-1) + torch.diag_embed((r * u[None, :, None, None] * k).sum(-1))
    o = A @ v; kv = (k * (end - gi).exp()).mT @ v; dec = end.mT.exp()
    s = torch.zeros(B, H, N, N) if s0 is None else s0.float()
    for c in range(r.shape[2]):
        o[:, :, c] += re[:, :, c] @ s
        s = dec[:, :, c] * s + kv[:, :, c]
    return o.reshape(B, H, -1, N)[:, :, :T].transpose(1, 2), s


def wkv6(r, k, v, logw, u, s0=None, final=False):
    if r.is_cuda and r.shape[1] > 1:
        from fla.ops.rwkv6 import chunk_rwkv6
        return chunk_rwkv6(r, k, v, logw, u, scale=1.0, initial_state=s0, output_final_state=final)
    if r.shape[1] > 8 and not torch.is_grad_enabled():
        return wkv6_chunks(r, k, v, logw, u, s0)
    return wkv6_naive(r, k, v, logw, u, s0)


NF4 = torch.tensor([1, 40, 61, 78, 92, 105, 116, 128, 138, 148, 159, 171, 184, 199, 220, 255]).float().sub(128).div(127)


def nf4(w, on=True):
    """The weights as the engine's 4-bit format holds them (blocks of 64 columns), with the gradient of the plain ones."""
    if not on:
        return w * 1.0
    x = w.detach().float().reshape(-1, 64)
    top = x.abs().amax(1, keepdim=True).clamp(min=1e-8)
    t = NF4.to(x.device)
    q = t[torch.bucketize(x / top, (t[1:] + t[:-1]) / 2)] * top
    return w + (q.view_as(w) - w.detach()).to(w.dtype)


def shift(x):
    return F.pad(x, (0, 0, 1, -1))


class TimeMix(nn.Module):
    def __init__(s, C, L, i, head=64, mix_r=32, dec_r=64):
        super().__init__()
        s.C, s.H, s.N = C, C // head, head
        r0 = i / max(L - 1, 1); r1 = 1.0 - i / L
        d = torch.arange(C).float() / C
        s.time_maa_x = nn.Parameter(1 - d.pow(r1)); s.time_maa_w = nn.Parameter(1 - d.pow(r1))
        s.time_maa_k = nn.Parameter(1 - d.pow(r1)); s.time_maa_v = nn.Parameter(1 - (d.pow(r1) + 0.3 * r0))
        s.time_maa_r = nn.Parameter(1 - d.pow(0.5 * r1)); s.time_maa_g = nn.Parameter(1 - d.pow(0.5 * r1))
        s.time_maa_w1 = nn.Parameter(torch.zeros(C, mix_r * 5))
        s.time_maa_w2 = nn.Parameter(torch.zeros(5, mix_r, C).uniform_(-0.01, 0.01))
        n = torch.arange(C).float()
        s.time_decay = nn.Parameter(-6 + 5 * (n / (C - 1)) ** (0.7 + 1.3 * r0))
        s.time_decay_w1 = nn.Parameter(torch.zeros(C, dec_r))
        s.time_decay_w2 = nn.Parameter(torch.zeros(dec_r, C).uniform_(-0.01, 0.01))
        zig = ((n + 1) % 3 - 1) * 0.1
        s.time_faaaa = nn.Parameter((r0 * (1 - n / (C - 1)) + zig).view(s.H, s.N))
        for nm in ('receptance', 'key', 'value', 'output', 'gate'):
            setattr(s, nm, nn.Linear(C, C, bias=False))
        s.ln_x = nn.GroupNorm(s.H, C, eps=64e-5)
        nn.init.constant_(s.ln_x.weight, ((1 + i) / L) ** 0.7)
        nn.init.orthogonal_(s.receptance.weight, 1.0); nn.init.orthogonal_(s.key.weight, 0.1)
        nn.init.orthogonal_(s.value.weight, 1.0); nn.init.orthogonal_(s.gate.weight, 0.1); nn.init.zeros_(s.output.weight)

    def pre(s, x, prev):
        B, T, C = x.shape
        xx = prev - x
        m = torch.tanh((x + xx * s.time_maa_x) @ s.time_maa_w1).view(B * T, 5, -1).transpose(0, 1)
        mw, mk, mv, mr, mg = torch.bmm(m, s.time_maa_w2).view(5, B, T, C).unbind(0)
        xw = x + xx * (s.time_maa_w + mw); xk = x + xx * (s.time_maa_k + mk); xv = x + xx * (s.time_maa_v + mv)
        xr = x + xx * (s.time_maa_r + mr); xg = x + xx * (s.time_maa_g + mg)
        r, k, v = s.receptance(xr), s.key(xk), s.value(xv)
        g = F.silu(s.gate(xg))
        w = s.time_decay.float() + (torch.tanh(xw @ s.time_decay_w1) @ s.time_decay_w2).float()
        sh = (B, T, s.H, s.N)
        return r.view(sh), k.view(sh), v.view(sh), -torch.exp(w).view(sh), g

    def post(s, o, g):
        B, T, C = g.shape
        o = F.group_norm(o.reshape(B * T, C).float(), s.H, s.ln_x.weight.float(), s.ln_x.bias.float(), s.ln_x.eps)
        return s.output(o.view(B, T, C).to(g.dtype) * g)


class ChannelMix(nn.Module):
    def __init__(s, C, L, i, ffn):
        super().__init__()
        d = torch.arange(C).float() / C
        s.time_maa_k = nn.Parameter(1 - d.pow(1.0 - i / L)); s.time_maa_r = nn.Parameter(1 - d.pow(1.0 - i / L))
        s.key = nn.Linear(C, ffn, bias=False); s.receptance = nn.Linear(C, C, bias=False); s.value = nn.Linear(ffn, C, bias=False)
        nn.init.orthogonal_(s.key.weight, 1.0); nn.init.zeros_(s.receptance.weight); nn.init.zeros_(s.value.weight)

    def forward(s, x, prev):
        xx = prev - x
        k = torch.relu(s.key(x + xx * s.time_maa_k)) ** 2
        return torch.sigmoid(s.receptance(x + xx * s.time_maa_r)) * s.value(k)


class Block(nn.Module):
    def __init__(s, C, L, i, ffn, drop):
        super().__init__()
        s.ln1 = nn.LayerNorm(C); s.ln2 = nn.LayerNorm(C); s.drop = drop
        if i == 0:
            s.ln0 = nn.LayerNorm(C)
        s.att = TimeMix(C, L, i); s.ffn = ChannelMix(C, L, i, ffn)

    def run(s, x, st, mask):
        """One prefill or one step; st = [att shift, wkv state, ffn shift] or None; mask 0 at left padding."""
        y = s.ln1(x) * mask
        prev = shift(y)
        if st is not None:
            prev[:, 0] = st[0].to(prev.dtype)
        r, k, v, logw, g = s.att.pre(y, prev)
        k = (k * mask.unsqueeze(-1)).to(r.dtype)
        o, S = wkv6(r, k, v, logw, s.att.time_faaaa.to(r.dtype), None if st is None else st[1], True)
        x = x + s.att.post(o, g)
        z = s.ln2(x) * mask
        prev = shift(z)
        if st is not None:
            prev[:, 0] = st[2].to(prev.dtype)
        return x + s.ffn(z, prev), [y[:, -1].clone(), S, z[:, -1].clone()]


def half_one(x, keep, last, l1w, l1b, mx, mw, mk, mv, mr, mg, w1, w2, dec, dw1, dw2, R, K, V, G, H: int):
    """Block up to the recurrence, on plain tensors: one compiled graph then serves every layer."""
    B, T, C = x.shape
    y = F.layer_norm(x, (C,), l1w, l1b)
    xx = shift(y) * keep - y
    m = torch.tanh((y + xx * mx) @ w1).view(B * T, 5, -1).transpose(0, 1)
    dw, dk, dv, dr, dg = torch.bmm(m, w2).view(5, B, T, C).unbind(0)
    r, k, v = F.linear(y + xx * (mr + dr), R), F.linear(y + xx * (mk + dk), K), F.linear(y + xx * (mv + dv), V)
    g = F.silu(F.linear(y + xx * (mg + dg), G))
    w = dec.float() + (torch.tanh((y + xx * (mw + dw)) @ dw1) @ dw2).float()
    sh = (B, T, H, C // H)
    k = torch.where(last, 0, k.view(sh)); logw = torch.where(last, RESET, -torch.exp(w).view(sh))
    return r.view(sh), k, v.view(sh), logw, g


def half_two(x, o, g, keep, lxw, lxb, O, l2w, l2b, mk, mr, K, R, V, drop: float, H: int):
    B, T, C = x.shape
    o = F.group_norm(o.reshape(B * T, C).float(), H, lxw.float(), lxb.float(), 64e-5).view(B, T, C)
    x = x + F.dropout(F.linear(o.to(g.dtype) * g, O), drop, drop > 0)
    y = F.layer_norm(x, (C,), l2w, l2b)
    xx = shift(y) * keep - y
    k = torch.relu(F.linear(y + xx * mk, K)) ** 2
    return x + F.dropout(torch.sigmoid(F.linear(y + xx * mr, R)) * F.linear(k, V), drop, drop > 0)


FAST = {'one': half_one, 'two': half_two}


def fast_block(b, x, keep, last, quant=False):
    a, f = b.att, b.ffn
    r, k, v, logw, g = FAST['one'](x, keep, last, b.ln1.weight, b.ln1.bias, a.time_maa_x, a.time_maa_w, a.time_maa_k, a.time_maa_v,
                                   a.time_maa_r, a.time_maa_g, a.time_maa_w1, a.time_maa_w2, a.time_decay, a.time_decay_w1,
                                   a.time_decay_w2, a.receptance.weight, a.key.weight, a.value.weight, a.gate.weight, a.H)
    o, _ = wkv6(r, k, v, logw, a.time_faaaa.to(r.dtype))
    return FAST['two'](x, o, g, keep, a.ln_x.weight, a.ln_x.bias, a.output.weight, b.ln2.weight, b.ln2.bias, f.time_maa_k,
                       f.time_maa_r, nf4(f.key.weight, quant), nf4(f.receptance.weight, quant), nf4(f.value.weight, quant), b.drop if b.training else 0., a.H)


class RWKV6(nn.Module):
    """`vectors` (V x E, optional): a fixed table of token vectors; the input and output tables are then a learnt
    projection of it plus a learnt difference. export() merges them into plain emb.weight and head.weight."""
    def __init__(s, V=65536, C=384, L=12, ffn=None, drop=0.0, vectors=None):
        super().__init__()
        ffn = ffn or int(C * 3.5) // 32 * 32
        s.C, s.L, s.V, s.quant = C, L, V, False
        s.emb = nn.Embedding(V, C); s.blocks = nn.ModuleList(Block(C, L, i, ffn, drop) for i in range(L))
        s.ln_out = nn.LayerNorm(C); s.head = nn.Linear(C, V, bias=False)
        s.tags = nn.Linear(C, 2)
        s.register_buffer('vec', vectors)
        nn.init.uniform_(s.emb.weight, -1e-4, 1e-4)
        if vectors is None:
            nn.init.orthogonal_(s.head.weight, 0.5 * math.sqrt(V / C) if V > C else 0.5)
        else:
            E = vectors.shape[1]
            nn.init.zeros_(s.emb.weight); nn.init.zeros_(s.head.weight)
            eye = torch.eye(E, C) if E == C else nn.init.orthogonal_(torch.empty(E, C))
            s.in_proj = nn.Parameter(eye.clone()); s.out_proj = nn.Parameter(eye * 0.02)

    def embed(s, idx):
        e = s.emb(idx)
        e = e if s.vec is None else e + (F.embedding(idx, s.vec).to(s.in_proj.dtype) @ s.in_proj).to(e.dtype)
        return nf4(e) if s.quant else e

    def head_weight(s):
        w = s.head.weight if s.vec is None else s.head.weight + s.vec.to(s.out_proj.dtype) @ s.out_proj
        return nf4(w) if s.quant else w

    def hidden(s, idx, first, last):
        """Final hidden vectors, and those two thirds up, where the reading tags are trained."""
        x = s.blocks[0].ln0(s.embed(idx))
        keep = (~first).unsqueeze(-1).to(x.dtype); last = last[..., None, None]
        mid = None
        for i, b in enumerate(s.blocks):
            x = fast_block(b, x, keep, last, s.quant)
            if i == s.L * 2 // 3 - 1:
                mid = x
        return s.ln_out(x), mid

    @torch.no_grad()
    def generate(s, prompts, n=40, stop=0, W=None):
        """Greedy continuation of prompts (lists of ids); left padding."""
        dev = s.emb.weight.device
        W = s.head_weight() if W is None else W
        m = max(map(len, prompts)); m = (m + 63) // 64 * 64 if dev.type == 'cuda' else m
        x = torch.zeros(len(prompts), m, dtype=torch.long); mask = torch.zeros(len(prompts), m, 1)
        for i, p in enumerate(prompts):
            x[i, m - len(p):] = torch.tensor(p); mask[i, m - len(p):] = 1
        x = x.to(dev)
        h = s.blocks[0].ln0(s.embed(x)); mask = mask.to(dev, h.dtype); st = []
        for b in s.blocks:
            h, t = b.run(h, None, mask); st.append(t)
        out = []; one = torch.ones(len(prompts), 1, 1, device=dev, dtype=h.dtype)
        done = torch.zeros(len(prompts), dtype=torch.bool, device=dev)
        for _ in range(n):
            y = (s.ln_out(h[:, -1]) @ W.t()).argmax(-1)
            y = torch.where(done, stop, y); out.append(y); done |= y == stop
            if len(out) % 8 == 0 and bool(done.all()):
                break
            h = s.blocks[0].ln0(s.embed(y[:, None]))
            for i, b in enumerate(s.blocks):
                h, st[i] = b.run(h, st[i], one)
        r = torch.stack(out, 1).tolist()
        return [o[:o.index(stop)] if stop in o else o for o in r]

    def export(s):
        """fp32 state dict with the public names and shapes."""
        d = {}
        for k, v in s.state_dict().items():
            if k.startswith(('tags', 'vec', 'in_proj', 'out_proj')):
                continue
            if k == 'emb.weight' and s.vec is not None:
                v = v + s.vec.float() @ s.in_proj
            if k == 'head.weight':
                v = s.head_weight()
            if v.ndim == 1 and ('time_maa' in k or 'time_decay' in k):
                v = v.view(1, 1, -1)
            d[k] = v.detach().float().cpu().clone()
        return d

    @staticmethod
    def from_export(d):
        V, C = d['emb.weight'].shape
        L = 1 + max(int(k.split('.')[1]) for k in d if k.startswith('blocks.'))
        m = RWKV6(V, C, L, d['blocks.0.ffn.key.weight'].shape[0])
        own = m.state_dict()
        m.load_state_dict({k: (d[k].float().view(own[k].shape) if k in d else own[k]) for k in own})
        return m.eval()
