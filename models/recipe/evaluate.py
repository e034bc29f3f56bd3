"""Answer questions with the product's prompt and score the answers.

    python evaluate.py MODEL.pth eval.json [--limit N] [--json OUT]     # eval.json is written by prepare.py
"""
import argparse, ast, collections, functools, json, random, re, sys
import torch
from synth import REFUSE

PROMPT = 'Instruction: {q}\nInput: {d}\n\nResponse:'


@functools.lru_cache(1)
def pieces(tok):
    """Bytes of every token id (the tokenizer package cannot decode a cut character)."""
    t = [b''] * 65536
    for line in open(tok.vocab_filepath, encoding='utf8'):
        x = ast.literal_eval(line[line.index(' ') + 1:line.rindex(' ')])
        t[int(line[:line.index(' ')])] = x if isinstance(x, bytes) else x.encode()
    return t


def norm(s):
    return re.sub(r'[\s\W_]+', '', s.lower())


def f1(a, b, zh):
    A = list(norm(a)) if zh else re.findall(r'\w+', a.lower())
    B = list(norm(b)) if zh else re.findall(r'\w+', b.lower())
    s = sum((collections.Counter(A) & collections.Counter(B)).values())
    return 2 * s / (len(A) + len(B)) if s else 0.


def crop(d, a, zh):
    w = 380 if zh else 1100
    if len(d) <= w:
        return d
    st = max(0, max(0, d.find(a)) - w // 2)
    return d[st:st + w]


BF16 = torch.cuda.is_available()      # matrix products in bf16


def answers(model, tok, items, batch=256, n=48):
    """items: [(passage, question)] -> texts"""
    ids = [tok.encode(PROMPT.format(q=q, d=d)) for d, q in items]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i])); out = [''] * len(ids)
    dev = model.emb.weight.device.type
    with torch.no_grad(), torch.autocast(dev, torch.bfloat16, enabled=BF16):
        W = model.head_weight().to(torch.bfloat16 if BF16 else torch.float32)
        for b in range(0, len(order), batch):
            print(f'\r{b}/{len(order)}', end='', file=sys.stderr, flush=True)
            part = order[b:b + batch]
            for i, o in zip(part, model.generate([ids[i] for i in part], n, W=W)):
                out[i] = b''.join(pieces(tok)[t] for t in o).decode('utf8', 'ignore').strip()
    return out


def score(items, outs):
    """items: [(passage, question, gold answers, zh)]"""
    n = max(1, len(items)); r = collections.Counter()
    for (d, q, g, zh), o in zip(items, outs):
        r['em'] += max(norm(o) == norm(x) for x in g); r['f1'] += max(f1(o, x, zh) for x in g)
        r['em1'] += norm(o) == norm(g[0]); r['f1_1'] += f1(o, g[0], zh)
        r['copied'] += norm(o) != '' and norm(o) in norm(d); r['refused'] += o in REFUSE.values()
    return {'rows': len(items), **{k: round(r[k] / n, 4) for k in ('em', 'f1', 'em1', 'f1_1', 'copied', 'refused')}}


def sets(ev, limit=0):
    """Named sets of (passage, question, gold answers, zh)."""
    s = {'cmrc-dev': [(crop(d, a[0], True), q, a, True) for d, q, a in ev['cmrc-dev']]}
    held = [(crop(d, a, lang == 'zh'), q, [a], lang == 'zh', src) for src, lang, _, d, q, a in ev['held'] if a]
    s['held-zh'] = [x[:4] for x in held if x[3]]
    s['held-en'] = [x[:4] for x in held if not x[3]]
    s['held-en-squad'] = [x[:4] for x in held if x[4] == 'expmrc-squad-dev']
    rng = random.Random(7)
    for v in s.values():
        rng.shuffle(v)
    rng = random.Random(8)
    for lang, pool in (('zh', s['held-zh'] ), ('en', s['held-en']), ('cmrc-dev', s['cmrc-dev'])):
        pool = pool[:1000]; x = []
        for d, q, a, zh in pool:
            x.append((d, q, a, zh))
            o = [p for p in rng.sample(pool, min(8, len(pool))) if p[0] != d and norm(a[0]) not in norm(p[0])]
            if o:
                x.append((o[0][0], q, None, zh))
        s['refusal-' + lang] = x
    return {k: v[:limit] if limit else v for k, v in s.items()}


def refusal(items, outs):
    tp = sum(o in REFUSE.values() and x[2] is None for x, o in zip(items, outs))
    said = sum(o in REFUSE.values() for o in outs); want = sum(x[2] is None for x in items)
    p, r = tp / max(1, said), tp / max(1, want)
    return {'rows': len(items), 'precision': round(p, 4), 'recall': round(r, 4), 'f1': round(2 * p * r / max(1e-9, p + r), 4)}


def run(model, tok, sets, show=0, batch=256, chunk=0, tell=None):
    """Scores of every set; with `chunk`, so many rows at a time and a running score (the rows are in a shuffled order)."""
    res = {}
    for k, items in sets.items():
        outs = []
        for i in range(0, len(items), chunk or len(items) or 1):
            part = items[i:i + (chunk or len(items))]
            outs += answers(model, tok, [(x[0], x[1]) for x in part], batch)
            done = items[:len(outs)]
            res[k] = refusal(done, outs) if k.startswith('refusal') else score(done, outs)
            if tell:
                tell(res)
            if chunk:
                print(f'  {k}: {res[k]}', flush=True)
        if not chunk:
            print(f'  {k}: {res[k]}', flush=True)
        for x, o in list(zip(items, outs))[:show]:
            print('     ', (x[1], x[2], o), flush=True)
    return res


if __name__ == '__main__':
    ap = argparse.ArgumentParser()
    ap.add_argument('model'); ap.add_argument('eval'); ap.add_argument('--limit', type=int, default=0)
    ap.add_argument('--batch', type=int, default=256); ap.add_argument('--json'); ap.add_argument('--show', type=int, default=3)
    ap.add_argument('--sets', default=''); ap.add_argument('--chunk', type=int, default=0); ap.add_argument('--bf16', action='store_true'); ap.add_argument('--threads', type=int, default=2)
    a = ap.parse_args()
    from model import RWKV6
    from pyrwkv_tokenizer import RWKVTokenizer
    torch.set_num_threads(a.threads)
    BF16 = BF16 or a.bf16
    m = RWKV6.from_export(torch.load(a.model, map_location='cpu'))
    if torch.cuda.is_available():
        m.cuda()
    S = sets(json.load(open(a.eval)), a.limit)
    S = {k: S[k] for k in (a.sets.split(',') if a.sets else S)}
    run(m, RWKVTokenizer(), S, a.show, a.batch, a.chunk, (lambda r: json.dump(r, open(a.json, 'w'), indent=1)) if a.json else None)
