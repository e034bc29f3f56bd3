"""Train and measure a cross-encoder reranker that starts from the layers of the shipped e5-small (one GPU).

    python rerank.py --e5 e5-small.safetensors --src DATA --out OUT --seconds 800

`DATA` as for prepare.py. Input: <s> question </s></s> passage </s>; one score from the first token and the mean;
listwise loss over the right passage and five hard ones (dense + BM25). Measured beside MaxSim over the same ten
candidates of the same hybrid order. The transformer's matrices are held to the encoder's 4-bit format from the
middle of the run on; the word table is not trained.
"""
import argparse, hashlib, json, lzma, math, os, random, re, struct, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers

ap = argparse.ArgumentParser()
ap.add_argument('--e5', required=True); ap.add_argument('--src', required=True); ap.add_argument('--out', required=True)
ap.add_argument('--seconds', type=float, default=0); ap.add_argument('--until', type=float, default=0)
ap.add_argument('--lr', type=float, default=1e-4); ap.add_argument('--batch', type=int, default=32); ap.add_argument('--neg', type=int, default=5)
ap.add_argument('--limit', type=int, default=0); ap.add_argument('--maxstep', type=int, default=10 ** 9)
a = ap.parse_args()
cuda = torch.cuda.is_available(); dev = 'cuda' if cuda else 'cpu'; BF = torch.bfloat16 if cuda else torch.float32
os.makedirs(a.out, exist_ok=True); torch.manual_seed(1); rng = random.Random(1); T0 = time.time()


def say(*x):
    print(f'[{time.time() - T0:.0f}]', *x, flush=True)


# ---- the shipped encoder
raw = open(a.e5, 'rb').read(); hl, = struct.unpack_from('<Q', raw); HEAD = json.loads(raw[8:8 + hl])


def get(n, d):
    x, y = HEAD[n]['data_offsets']
    return np.frombuffer(raw[8 + hl + x:8 + hl + y], d).reshape(HEAD[n]['shape']).copy()


def mat(n):
    q, s = get(n + '.nibbles', 'u1'), get(n + '.scales', '<f2').astype(np.float32)
    q = q.reshape(len(q), -1, 16); v = np.concatenate([q & 15, q >> 4], 2).astype(np.float32) - 8
    return torch.from_numpy((v * s[:, :, None]).reshape(len(q), -1))


pb = get('tokenizer.piece_bytes', 'u1'); blob = get('tokenizer.pieces', 'u1').tobytes(); off = np.concatenate([[0], np.cumsum(pb.astype(int))])
P = [blob[off[i]:off[i + 1]].decode() for i in range(len(pb))]; sc = get('tokenizer.scores', '<f4')
nm = get('tokenizer.normalise', '<u4').tolist(); NM = {}; i = 0
while i < len(nm):
    NM[nm[i]] = ''.join(map(chr, nm[i + 2:i + 2 + nm[i + 1]])); i += 2 + nm[i + 1]
TK = Tokenizer(models.Unigram([(p, float(s)) if i > 3 else (f'<{i}>', -100.) for i, (p, s) in enumerate(zip(P, sc))], 3, False))
TK.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='always')


def toks(texts):
    t = [re.sub(' +', ' ', x.translate(NM)).strip() for x in texts]
    return [e.ids for e in TK.encode_batch(t, add_special_tokens=False)]


def q4(w):
    """The weights as Q4_0 blocks of 32 hold them; gradient of the plain ones."""
    x = w.detach().view(-1, 32); m = x.gather(1, x.abs().argmax(1, keepdim=True)); d = m / -8
    q = ((x / torch.where(d == 0, 1., d)).round().clamp(-8, 7) * d).view_as(w)
    return w + (q - w.detach())


class Layer(nn.Module):
    def __init__(s, i):
        super().__init__()
        for n in ('q', 'k', 'v', 'attention_out', 'up', 'down'):
            w = mat(f'layers.{i}.{n}'); l = nn.Linear(w.shape[1], w.shape[0]); l.weight.data = w
            l.bias.data = torch.from_numpy(get(f'layers.{i}.{n}.bias', '<f4')); setattr(s, n, l)
        for n in ('attention_norm', 'output_norm'):
            l = nn.LayerNorm(384, eps=1e-12); l.weight.data = torch.from_numpy(get(f'layers.{i}.{n}.weight', '<f4'))
            l.bias.data = torch.from_numpy(get(f'layers.{i}.{n}.bias', '<f4')); setattr(s, n, l)


def layer(x, mask, qw, qb, kw, kb, vw, vb, ow, ob, n1w, n1b, uw, ub, dw, db, n2w, n2b, drop: float):
    B, T, C = x.shape
    q, k, v = (F.linear(x, w, b).view(B, T, 12, 32).transpose(1, 2) for w, b in ((qw, qb), (kw, kb), (vw, vb)))
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(B, T, C)
    x = F.layer_norm(x + F.dropout(F.linear(o, ow, ob), drop, drop > 0), (C,), n1w, n1b, 1e-12)
    h = F.gelu(F.linear(x, uw, ub))
    return F.layer_norm(x + F.dropout(F.linear(h, dw, db), drop, drop > 0), (C,), n2w, n2b, 1e-12)


def layer_train(*x):
    return layer(*x, .1)


def layer_plain(*x):
    return layer(*x, 0.)


RUN = {True: layer_train, False: layer_plain}


class Encoder(nn.Module):
    def __init__(s):
        super().__init__()
        s.register_buffer('word', mat('word')); s.pos = nn.Parameter(torch.from_numpy(get('position', '<f4'))); s.register_buffer('typ', torch.from_numpy(get('type', '<f4')))
        s.norm = nn.LayerNorm(384, eps=1e-12); s.norm.weight.data = torch.from_numpy(get('embedding_norm.weight', '<f4')); s.norm.bias.data = torch.from_numpy(get('embedding_norm.bias', '<f4'))
        s.layers = nn.ModuleList(Layer(i) for i in range(12)); s.score = nn.Linear(768, 1); nn.init.normal_(s.score.weight, std=.02); s.quant = False

    def forward(s, ids):
        n = ids != 1
        x = s.norm(F.embedding(ids, s.word) + s.pos[:ids.shape[1]] + s.typ).to(BF if cuda else torch.float32)
        m = torch.zeros(ids.shape[0], 1, 1, ids.shape[1], device=ids.device, dtype=x.dtype).masked_fill(~n[:, None, None], -1e4).expand(-1, -1, ids.shape[1], -1)
        for l in s.layers:
            f = q4 if s.quant else (lambda w: w * 1.0)
            args = []
            for k in (l.q, l.k, l.v, l.attention_out, l.attention_norm, l.up, l.down, l.output_norm):
                args += [f(k.weight) if isinstance(k, nn.Linear) else k.weight, k.bias]
            x = RUN[s.training](x, m, *[z.to(x.dtype) for z in args])
        return x, n

    def rank(s, ids):
        x, n = s(ids); x = x.float(); mean = (x * n[..., None]).sum(1) / n.sum(1, keepdim=True)
        return s.score(torch.cat([x[:, 0], mean], 1))[:, 0]


def pad(rows):
    m = max(map(len, rows)); m = (m + 63) // 64 * 64
    return torch.tensor([r + [1] * (m - len(r)) for r in rows]).to(dev)


# ---- data: pools of passages, questions with the index of their own
hz = json.load(open(f'{a.src}/hanzi.json', encoding='utf8')); T2S = {ord(k): v for k, v in hz['t2s'].items()}; S2T = {ord(k): v for k, v in hz['s2t'].items()}
POOLS = {}


def add(pool, d, q, part, ans):
    p = POOLS.setdefault(pool, {'doc': {}, 'q': []}); p['q'].append((q, p['doc'].setdefault(d, len(p['doc'])), part, ans))


for f in ('qa-train', 'qa-dev'):
    for l in lzma.open(f'{a.src}/{f}.jsonl.xz', 'rt'):
        d = json.loads(l); c = d['context']
        if d['answers'] and d['src'] != 'pubmedqa':
            h = int(hashlib.sha1(c.encode()).hexdigest(), 16)
            pool = 'cmrc-dev' if f == 'qa-dev' else 'cmrc' if d['src'][:4] == 'cmrc' else 'qamr' if d['src'][:4] == 'qamr' else d['src']
            held = f == 'qa-dev' or (h % 7 == 0 if pool == 'drcd-dev' else h % 20 == 0)
            add(pool, c, d['question'], 'test' if held else 'train', d['answers'][0])
if a.limit:
    for p in POOLS.values():
        p['q'] = p['q'][:a.limit]; keep = {j for _, j, _, _ in p['q']}; n = max(keep) + 1; p['doc'] = dict(list(p['doc'].items())[:n])
for k, p in POOLS.items():
    p['doc'] = list(p['doc']); say(k, len(p['doc']), 'passages', len(p['q']), 'questions')


def terms(t):
    t = t.lower(); han = re.findall(r'[\u4e00-\u9fff]+', t)
    return [h[i:i + 2] for h in han for i in range(len(h) - 1)] + re.findall(r'[a-z0-9]+', t)


def bm25(docs, qs):
    import scipy.sparse as sp
    voc = {}; T = [terms(d) for d in docs]; L = np.array([len(t) for t in T]); r, c, v = [], [], []; df = {}
    for i, t in enumerate(T):
        n = {}
        for x in t:
            n[x] = n.get(x, 0) + 1
        for x, k in n.items():
            r.append(i); c.append(voc.setdefault(x, len(voc))); v.append(k * 2.2 / (k + 1.2 * (.25 + .75 * L[i] / L.mean()))); df[voc[x]] = df.get(voc[x], 0) + 1
    idf = np.array([math.log(1 + (len(docs) - df[i] + .5) / (df[i] + .5)) for i in range(len(voc))])
    W = sp.csr_matrix((np.array(v) * idf[c], (r, c)), (len(docs), len(voc)))
    r, c = [], []
    for i, q in enumerate(qs):
        for x in set(terms(q)):
            if x in voc:
                r.append(i); c.append(voc[x])
    return (sp.csr_matrix((np.ones(len(r)), (r, c)), (len(qs), len(voc))) @ W.T).toarray().astype(np.float32)


model = Encoder().to(dev).eval()
if cuda and not os.environ.get('EAGER'):
    RUN = {k: torch.compile(f, dynamic=True) for k, f in RUN.items()}


@torch.no_grad()
def vectors(rows, keep=False, skip=0):
    """Normalised mean vectors, or all token vectors without special and prefix tokens (in half precision)."""
    o = sorted(range(len(rows)), key=lambda i: len(rows[i])); out = [None] * len(rows)
    for b in range(0, len(o), 128):
        part = o[b:b + 128]; x, n = model(pad([rows[i] for i in part])); x = x.float()
        if keep:
            x = F.normalize(x, dim=-1).half()
            for i, y in zip(part, x):
                out[i] = y[1 + skip:len(rows[i]) - 1]
        else:
            x = F.normalize((x * n[..., None]).sum(1) / n.sum(1, keepdim=True), dim=-1)
            for i, y in zip(part, x):
                out[i] = y
    return out if keep else torch.stack(out)


PQ, PP = toks(['query:'])[0], toks(['passage:'])[0]


def with_prefix(pre, ids, n=480):
    return [0] + pre + ids[:n] + [2]


def hybrid(p):
    D, Q = p['dt'], p['qt']
    c = (vectors([with_prefix(PQ, q) for q in Q]) @ vectors([with_prefix(PP, d) for d in D]).T).cpu().numpy()
    b = bm25(p['doc'], [q[0] for q in p['q']])
    z = lambda x: (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)
    return torch.from_numpy(z(c) + z(b)).topk(min(40, len(D)), 1)[1].numpy()


TRAIN = []; TEST = {}
with torch.no_grad():
    for k, p in POOLS.items():
        p['dt'], p['qt'] = toks(p['doc']), toks([q[0] for q in p['q']])
        p['top'] = hybrid(p)
        TRAIN += [(k, i) for i, q in enumerate(p['q']) if q[2] == 'train']
        TEST[k] = [i for i, q in enumerate(p['q']) if q[2] == 'test'][:3500]
say('candidates found; train', len(TRAIN), 'test', {k: len(v) for k, v in TEST.items()})


def pair(q, d, n=400):
    q = q[:100]
    return [0] + q + [2, 2] + d[:n] + [2]


@torch.no_grad()
def cross(pairs):
    o = sorted(range(len(pairs)), key=lambda i: len(pairs[i])); out = torch.zeros(len(pairs))
    for b in range(0, len(o), 256):
        out[o[b:b + 256]] = model.rank(pad([pairs[i] for i in o[b:b + 256]])).float().cpu()
    return out


def maxsim(k):
    p = POOLS[k]; dv = vectors([with_prefix(PP, d) for d in p['dt']], True, len(PP)); qv = vectors([with_prefix(PQ, p['qt'][i]) for i in TEST[k]], True, len(PQ))
    return torch.stack([torch.stack([(q @ dv[j].T).max(1)[0].float().mean() for j in p['top'][i][:10]]) for i, q in zip(TEST[k], qv)]).cpu()


def recall(k, s):
    """R@1 and MRR@10 of the ten candidates in the order of the scores."""
    p = POOLS[k]; order = s.argsort(1, descending=True).numpy(); hit = rr = 0
    for i, o in zip(TEST[k], order):
        c = p['top'][i][:10][o]; at = np.where(c == p['q'][i][1])[0]
        if len(at):
            hit += at[0] == 0; rr += 1 / (1 + at[0])
    return round(hit / max(1, len(order)), 4), round(rr / max(1, len(order)), 4)


SETS = ['cmrc-dev', 'drcd-dev', 'cmrc', 'qamr', 'expmrc-squad-dev']
SETS = [k for k in SETS if TEST.get(k)]
FIG = {'rows': {k: len(TEST[k]) for k in SETS}, 'hybrid': {}, 'maxsim': {}}; MS = {}
for k in SETS:
    MS[k] = maxsim(k); w = min(10, MS[k].shape[1]); FIG['hybrid'][k] = recall(k, -torch.arange(w).float().expand(len(TEST[k]), -1)); FIG['maxsim'][k] = recall(k, MS[k])
    FIG.setdefault('at best', {})[k] = round(float(np.mean([POOLS[k]['q'][i][1] in POOLS[k]['top'][i][:10] for i in TEST[k]])), 4)
say(FIG)


def measure(name, sets):
    model.eval(); r = {}
    for k in (k for k in sets if k in SETS):
        p = POOLS[k]; c = cross([pair(p['qt'][i], p['dt'][j]) for i in TEST[k] for j in p['top'][i][:10]]).view(len(TEST[k]), -1)
        r[k] = {'cross': recall(k, c)}
        place = -.1 * torch.arange(c.shape[1]).float()
        for w in (10., 30., 100.):
            r[k][f'cross + {w:.0f} maxsim'] = recall(k, c + w * MS[k])
        for w in (1., 3., 10.):
            r[k][f'cross + {w:.0f} place'] = recall(k, c + w * place)
    FIG[name] = r; json.dump(FIG, open(f'{a.out}/rerank.json', 'w'), indent=1, ensure_ascii=False); say(name, json.dumps(r)); model.train()


def export():
    """The trained layers in the encoder's 4-bit blocks, for rerank.pt."""
    o = {}
    for n, v in model.state_dict().items():
        if n in ('word', 'typ'):
            continue
        v = v.detach().float().cpu()
        if v.ndim == 2 and n.startswith('layers'):
            x = v.view(-1, 32); d = (x.gather(1, x.abs().argmax(1, keepdim=True)) / -8).half(); f = d.float()
            q = ((x / torch.where(f == 0, 1., f)).round().clamp(-8, 7) + 8).to(torch.uint8)
            o[n] = (q[:, :16] | q[:, 16:] << 4, d, tuple(v.shape))
        else:
            o[n] = v
    torch.save(o, f'{a.out}/rerank.tmp'); os.rename(f'{a.out}/rerank.tmp', f'{a.out}/rerank.pt')


opt = torch.optim.AdamW([{'params': [p for n, p in model.named_parameters() if not n.startswith('score')], 'm': 1.}, {'params': model.score.parameters(), 'm': 5.}], lr=a.lr, weight_decay=.01, fused=cuda)
t0 = time.time(); seconds = a.until - t0 if a.until else a.seconds; step = 0; acc = []; said = 0; say('seconds to train', round(seconds)); model.train()
share = {'qamr': .25}
while True:
    order = [x for x in TRAIN if rng.random() < share.get(x[0], 1)]; rng.shuffle(order)
    for b in range(0, len(order) - a.batch + 1, a.batch):
        p_ = (time.time() - t0) / seconds
        if p_ >= 1 or step >= a.maxstep:
            break
        rows = []
        for k, i in order[b:b + a.batch]:
            p = POOLS[k]; q, own, _, ans = p['q'][i]; top = [j for j in p['top'][i] if j != own]
            near = rng.sample(top[:8], min(3, len(top[:8]))); far = rng.sample(top[8:], min(a.neg - len(near), len(top[8:]))); neg = near + far
            while len(neg) < a.neg:
                neg.append(rng.randrange(len(p['doc'])))
            tr = {'drcd-dev': (.5, T2S), 'cmrc': (.2, S2T), 'chinesesquad2-dev': (.15, S2T)}.get(k, (0, None))
            t = tr[1] if rng.random() < tr[0] else None
            n = rng.choice([400, 400, 250, 120])
            for m, j in enumerate([own] + neg):
                d = p['dt'][j] if t is None else toks([p['doc'][j].translate(t)])[0]
                qt = p['qt'][i] if t is None else toks([q.translate(t)])[0]
                st = 0
                if len(d) > n:
                    if m == 0:       # the part that holds the answer
                        f = p['doc'][j].find(ans) / len(p['doc'][j]) * len(d); st = int(min(len(d) - n, max(0, f - n * rng.uniform(.2, .8))))
                    else:
                        st = rng.randint(0, len(d) - n)
                rows.append(pair(qt, d[st:st + n]))
        o = sorted(range(len(rows)), key=lambda i: len(rows[i])); parts = [o[:len(o) // 2], o[len(o) // 2:]]; s = torch.empty(len(rows), device=dev)
        idx, val = [], []
        model.quant = p_ > .5
        for x in parts:
            idx += x; val.append(model.rank(pad([rows[i] for i in x])).float())
        s = torch.cat(val)[torch.tensor(idx, device=dev).argsort()].view(a.batch, -1)
        loss = F.cross_entropy(s, torch.zeros(a.batch, dtype=torch.long, device=dev))
        loss.backward(); torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        lr = min(1, (step + 1) / 150) * max(.02, 1 - p_)
        for g in opt.param_groups:
            g['lr'] = a.lr * g['m'] * lr
        opt.step(); opt.zero_grad(set_to_none=True); step += 1; acc.append(loss.detach())
        if step % 100 == 0 or step == 1:
            say(f'step {step} p {p_:.3f} loss {torch.stack(acc).mean():.4f} first {(s.argmax(1) == 0).float().mean():.3f}'); acc = []
        if p_ > .3 and said == 0 or p_ > .6 and said == 1:
            said += 1; measure(f'at {p_:.2f}', ['drcd-dev', 'cmrc']); export()
    else:
        continue
    break
model.quant = True; measure('4 bits', SETS); export(); model.quant = False; measure('unquantised', SETS)
open(f'{a.out}/done-rerank', 'w').write('ok'); say('DONE', step, 'steps')
