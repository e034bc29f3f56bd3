"""Read the quantised file that ships back into a plain state dict, to evaluate it with PyTorch.

    python packed.py rwkv6-demo.safetensors OUT.pth

Ids that the file leaves out get the mean row as embedding and a head row of zeros with no chance of being chosen.
The layout is described in host/rag-engine/src/packed.rs and cpu/matrix.rs.
"""
import json, struct, sys
import numpy as np, torch

PANEL, STEP = 16, 32
NF4 = np.array([1, 40, 61, 78, 92, 105, 116, 128, 138, 148, 159, 171, 184, 199, 220, 255], np.float32) - 128


def matrix(b, kind, rows, cols):
    """Values of a packed matrix [rows, cols]."""
    sizes = (128, 64) if kind == 'int8' else (64,)
    block = next((s for s in sizes if cols % s == 0), STEP); panels = -(-rows // PANEL); blocks = cols // block
    n = panels * blocks; per = block * PANEL // (1 if kind == 'int8' else 2)
    q = b[:n * per]
    scales = b[n * per:].view('<f2').astype(np.float32).reshape(-1, panels, blocks, PANEL)      # then, for int4, the minima
    if kind == 'int8':       # step, group of 4 columns, row, column in the group
        v = q.reshape(panels, blocks * (block // STEP), 8, PANEL, 4).transpose(0, 3, 1, 2, 4).astype(np.float32) - 128
    else:                    # low nibbles are groups 0 to 3, high ones 4 to 7
        q = q.reshape(panels, blocks * (block // STEP), 4, PANEL, 4); q = np.concatenate([q & 15, q >> 4], 2).transpose(0, 3, 1, 2, 4)
        v = NF4[q] if kind == 'nf4' else q.astype(np.float32)
    v = v.reshape(panels, PANEL, blocks, block) * scales[0].transpose(0, 2, 1)[..., None]
    if kind == 'int4':
        v = v + scales[1].transpose(0, 2, 1)[..., None]
    return torch.from_numpy(v.reshape(panels * PANEL, cols)[:rows].copy())


def read(path):
    raw = open(path, 'rb').read(); n, = struct.unpack_from('<Q', raw); head = json.loads(raw[8:8 + n]); meta = head.pop('__metadata__')
    shapes = json.loads(meta['shapes']); out = {}; parts = {}
    get = lambda k, t: np.frombuffer(raw, t, offset=8 + n + head[k]['data_offsets'][0], count=(head[k]['data_offsets'][1] - head[k]['data_offsets'][0]) // np.dtype(t).itemsize)
    kept = torch.from_numpy(get('kept_ids', '<u4').astype(np.int64)) if 'kept_ids' in head else None
    for k, h in head.items():
        if h['dtype'] != 'U8':
            if k != 'kept_ids':
                out[k] = torch.from_numpy(get(k, '<f4').reshape(h['shape']).copy())
            continue
        name, kind = k.rsplit('.', 1); part = name.rsplit('.', 1)
        if part[-1].isdigit() and part[0] in shapes:
            p, i, o = shapes[part[0]]; parts.setdefault(part[0], {})[int(part[1])] = matrix(get(k, 'u1'), kind, o, i).T
            continue
        s = shapes[name]
        if name in ('emb.weight', 'head.weight') and kept is not None:
            m = matrix(get(k, 'u1'), kind, len(kept) + (name[0] == 'e'), s[1])
            full = m[-1:].expand(s[0], -1).clone() if name[0] == 'e' else torch.zeros(s)
            full[kept] = m[:len(kept)]; out[name] = full
        elif name.endswith(('_w1', '_w2')):
            out[name] = matrix(get(k, 'u1'), kind, s[1], s[0]).T.contiguous()
        else:
            out[name] = matrix(get(k, 'u1'), kind, *s)
    for k, v in parts.items():
        out[k] = torch.stack([v[i] for i in range(len(v))]).contiguous()
    return {k: v.view(1, 1, -1) if v.ndim == 1 and ('time_maa' in k or k.endswith('time_decay')) else v for k, v in out.items()}


if __name__ == '__main__':
    torch.save(read(sys.argv[1]), sys.argv[2])
