"""First values of the token tables: one vector for every World token, from the word table of multilingual-e5-small.

    python vectors.py e5-small-q4.bin rwkv_vocab_v20230424.txt vec.npz

The word table (not the encoder) of the encoder that the project ships (MIT) is read; a World token gets the mean of the
vectors of its text's pieces. Tokens of scripts other than Latin, Han, kana and punctuation get none. Written as 4-bit
values in groups of 32 with an fp16 scale: unpack.py's vectors() reads it.
"""
import ast, struct, sys, unicodedata
import numpy as np

E5, VOCAB, OUT = sys.argv[1:4]
b = np.memmap(E5, mode='r')


def take(fmt, p):
    n = struct.calcsize(fmt)
    return struct.unpack(fmt, bytes(b[p:p + n])), p + n


assert bytes(b[:4]) == b'E5S1'
p = 40                                   # magic, version, seven sizes, layer-norm eps
(block,), p = take('<i', p)
(n, bos, eos, pad, unk), p = take('<5i', p)
(size,), p = take('<Q', p)
off = np.frombuffer(bytes(b[p:p + 4 * (n + 1)]), np.uint32); p += 4 * (n + 1)
score = np.frombuffer(bytes(b[p:p + 4 * n]), np.float32); p += 4 * n
blob = bytes(b[p:p + size]); p += size
pieces = [blob[off[i]:off[i + 1]].decode('utf8', 'replace') for i in range(n)]
(_, skip), p = take('<iI', p)
p += skip
(tensors,), p = take('<i', p)
for _ in range(tensors):
    (ln,), p = take('<H', p)
    name = bytes(b[p:p + ln]).decode(); p += ln + 1
    (_, at, length), p = take('<IQQ', p)
    if name == 'emb.word':
        break
q = np.frombuffer(bytes(b[at:at + length]), np.uint8).reshape(-1, 18)
d = q[:, :2].copy().view(np.float16).astype(np.float32)
E = np.empty((len(q), 32), np.float32)
E[:, :16] = ((q[:, 2:] & 15).astype(np.float32) - 8) * d; E[:, 16:] = ((q[:, 2:] >> 4).astype(np.float32) - 8) * d
E = E.reshape(-1, 384)
ids = {s: i for i, s in enumerate(pieces)}
LOW = float(score.min()) - 10


def viterbi(s):
    best = [0.] + [-1e9] * len(s); back = [0] * (len(s) + 1); tok = [unk] * (len(s) + 1)
    for i in range(len(s)):
        for j in range(i + 1, min(len(s), i + 20) + 1):
            k = ids.get(s[i:j])
            if k is not None and k > 3 and best[i] + score[k] > best[j]:
                best[j], back[j], tok[j] = best[i] + score[k], i, k
        if best[i] + LOW > best[i + 1]:
            best[i + 1], back[i + 1], tok[i + 1] = best[i] + LOW, i, unk
    out, j = [], len(s)
    while j > 0:
        out.append(tok[j]); j = back[j]
    return out


def wanted(s):
    return all(ord(c) < 0x250 or 0x2000 <= ord(c) <= 0x9fff or 0xf900 <= ord(c) <= 0xffef for c in s)


W = np.zeros((65536, 384), np.float32); have = np.zeros(65536, bool); keep = np.zeros(65536, bool)
for line in open(VOCAB, encoding='utf8'):
    i = int(line[:line.index(' ')]); s = ast.literal_eval(line[line.index(' ') + 1:line.rindex(' ')])
    if isinstance(s, bytes):
        continue
    keep[i] = wanted(s)
    t = unicodedata.normalize('NFKC', s); space = t.startswith(' '); t = ' '.join(t.split())
    if not t:
        continue
    han = '\u2e80' <= t[0] <= '\u9fff'
    forms = [t.replace(' ', '\u2581')]
    if space or not han:
        forms.insert(0 if space else 1, '\u2581' + forms[0])
    hit = next((x for x in forms if x in ids), None)
    o = [ids[hit]] if hit else [k for k in viterbi(forms[0]) if k != unk and pieces[k] != '\u2581']
    if o:
        W[i] = E[o].mean(0); have[i] = True
W = W.astype(np.float16).astype(np.float32)
mean = W[have].mean(0)
have &= keep
W = W[have] - mean
W *= np.sqrt(384) / np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-6)
g = W.reshape(-1, 12, 32); d = (np.abs(g).max(2) / 7.5).astype(np.float16)
q = (np.clip(np.rint(g / d.astype(np.float32)[:, :, None]), -8, 7) + 8).reshape(len(g), 384).astype(np.uint8)
np.savez_compressed(OUT, q=q[:, 0::2] | (q[:, 1::2] << 4), d=d, ids=np.where(have)[0].astype(np.uint16))
print(have.sum(), 'tokens with a vector')
