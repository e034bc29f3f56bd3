"""First values of the token tables: one vector for every World token, from the word table of multilingual-e5-small.

    python vectors.py e5-small.safetensors rwkv_vocab_v20230424.txt vec.npz

The word table (not the encoder) of the encoder that the project ships (MIT) is read; a World token gets the mean of the
vectors of its text's pieces. Tokens of scripts other than Latin, Han, kana and punctuation get none. Written as 4-bit
values in groups of 32 with an fp16 scale: unpack.py's vectors() reads it.
"""
import ast, json, struct, sys, unicodedata
import numpy as np

E5, VOCAB, OUT = sys.argv[1:4]
raw = open(E5, 'rb').read(); n, = struct.unpack_from('<Q', raw); head = json.loads(raw[8:8 + n])


def tensor(name, kind):
    x, y = head[name]['data_offsets']
    return np.frombuffer(raw[8 + n + x:8 + n + y], kind).reshape(head[name]['shape'])


at = np.concatenate([[0], np.cumsum(tensor('tokenizer.piece_bytes', 'u1').astype(int))]); blob = tensor('tokenizer.pieces', 'u1').tobytes()
pieces = [blob[at[i]:at[i + 1]].decode() for i in range(len(at) - 1)]
score = tensor('tokenizer.scores', '<f4'); unk = 3
q = tensor('word.nibbles', 'u1').reshape(len(pieces), 12, 16); d = tensor('word.scales', '<f2').astype(np.float32)
E = ((np.concatenate([q & 15, q >> 4], 2).astype(np.float32) - 8) * d[:, :, None]).reshape(-1, 384)
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
