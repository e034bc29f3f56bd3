"""Join the small copy that train.py wrote (PACK) into the public fp16 state dict.

    python unpack.py PACKDIR vec.npz OUT.pth
"""
import glob, io, sys, zlib
import numpy as np, torch


def vectors(path):
    """The fixed table of token vectors: 4 bits a value, groups of 32 with an fp16 scale."""
    z = np.load(path); q = z['q']
    v = np.empty((len(q), q.shape[1] * 2), np.float32)
    v[:, 0::2] = (q & 15).astype(np.float32) - 8; v[:, 1::2] = (q >> 4).astype(np.float32) - 8
    v = (v.reshape(len(v), -1, 32) * z['d'].astype(np.float32)[:, :, None]).reshape(len(v), -1)
    out = torch.zeros(65536, v.shape[1]); out[torch.from_numpy(z['ids'].astype(np.int64))] = torch.from_numpy(v)
    return out


if __name__ == '__main__':
    src, vec, dst = sys.argv[1:4]
    o = torch.load(io.BytesIO(zlib.decompress(b''.join(open(f, 'rb').read() for f in sorted(glob.glob(f'{src}/pack.*'))))), map_location='cpu')

    def dq(x):
        return (x[0].float() * x[1].float()).reshape(x[2])
    seen = o.pop('seen'); V = vectors(vec); d = {}
    pin, pout = o.pop('in_proj'), o.pop('out_proj')
    for k, v in o.items():
        if k.startswith('tags'):
            continue
        if k in ('emb.weight', 'head.weight'):
            t = V @ (pin if k[0] == 'e' else pout); t[seen] = dq(v); v = t
        elif isinstance(v, tuple):
            v = dq(v)
        if v.ndim == 1 and ('time_maa' in k or 'time_decay' in k):
            v = v.view(1, 1, -1)
        d[k] = v.half().contiguous()
    torch.save(d, dst); print(len(d), 'tensors', sum(v.numel() for v in d.values()) / 1e6, 'M', int(seen.sum()), 'ids seen')
