"""Texts and questions -> packed rows of tokens for train.py.

    python prepare.py --src DATA --out ROWS [--procs 32] [--syn 8] [--real 16]

Writes rows of 1,024 tokens (NAME.tok, uint16) with one flag byte a token (NAME.flg):
bits 0-1 loss class of the token as a target (0 none, 1 text, 2 answer), bits 2-4 reading tag
(0 none, 1 passage, 2 passage token inside the answer, 3 sentence end, 4 end of a sentence with the answer),
bit 5 last token of its sample (the recurrent state starts anew behind it).
"""
import argparse, bisect, hashlib, json, lzma, os, random
from multiprocessing import Pool
import numpy as np
from pyrwkv_tokenizer import RWKVTokenizer
from synth import REFUSE, ask, cloze, sentences

ROW = 1024
TK = RWKVTokenizer()
HERE = os.path.dirname(os.path.abspath(__file__))
T2S, S2T = {}, {}
A = None


def tables(src):
    """Byte length of every token, and character tables between Traditional and Simplified."""
    n = np.ones(65536, np.int64)
    for line in open(f'{src}/rwkv_vocab_v20230424.txt', encoding='utf8'):
        n[int(line[:line.index(' ')])] = int(line[line.rindex(' '):])
    t = json.load(open(f'{src}/hanzi.json', encoding='utf8'))
    T2S.update({ord(a): b for a, b in t['t2s'].items()})
    S2T.update({ord(a): b for a, b in t['s2t'].items()})
    return n


def split_of(context):
    """'held' for one paragraph in twenty, chosen by its text."""
    return 'held' if int(hashlib.sha1(context.encode()).hexdigest(), 16) % 20 == 0 else 'train'


FORMS = [  # (weight, text); the first is the product's prompt
    (84, 'Instruction: {q}\nInput: {d}\n\nResponse:'),
    (4, 'Instruction: {q}\n\nInput: {d}\n\nResponse:'),
    (3, 'User: {q}\n\n{d}\n\nAssistant:'),
    (3, 'User: {d}\n{q}\n\nAssistant:'),
    (3, 'User: {q}\n{d}\n\nAssistant:'),
    (3, 'User: {q}\n\nInput: {d}\n\nAssistant:')]
FORM_W = [w for w, _ in FORMS]


def encode(lang, q, d, a, span, rng, form=None, more=()):
    """ids and flags of one sample; span is the answer's place in the passage or None; more = [(question, answer)] asked after it."""
    f = form or rng.choices(FORMS, FORM_W)[0][1]
    pre, post = f.split('{d}')
    head = pre.format(q=q)
    text = head + d + post.format(q=q)
    ids = TK.encode(text)
    fl = np.zeros(len(ids), np.uint8)
    end = np.cumsum(A[ids]); beg = end - A[ids]
    p0 = len(head.encode()); p1 = p0 + len(d.encode())
    fl[(beg >= p0) & (end <= p1)] = 1 << 2
    if span:
        s0 = p0 + len(d[:span[0]].encode()); s1 = p0 + len(d[:span[1]].encode())
        fl[(beg < s1) & (end > s0)] = 2 << 2
    for i, j in sentences(d, lang):
        e = p0 + len(d[:j].encode())
        k = int(np.searchsorted(end, e))
        if k < len(fl):
            fl[k] = (4 if span and span[0] < j and span[1] > i else 3) << 2
    r = TK.encode(' ' + a) + [0]
    ids = ids + r
    fl = [fl, np.full(len(r), 2, np.uint8)]
    for q2, a2 in more:
        m = TK.encode('\n\n' + f'Instruction: {q2}\n\nResponse:'); r = TK.encode(' ' + a2) + [0]
        ids = ids + m + r
        fl += [np.zeros(len(m), np.uint8), np.full(len(r), 2, np.uint8)]
    fl = np.concatenate(fl)
    fl[-1] |= 32
    return np.array(ids, np.uint16), fl


def pack(samples, rng):
    """Samples -> whole rows: first fit among the open ones."""
    rows, open_ = [], []
    for ids, fl in samples:
        n = len(ids)
        if n > ROW:
            continue
        for o in open_:
            if o[0] + n <= ROW:
                break
        else:
            o = [0, np.zeros(ROW, np.uint16), np.zeros(ROW, np.uint8)]
            open_.append(o)
            if len(open_) > 24:
                open_.sort(key=lambda z: -z[0])
                rows.append(open_.pop(0))
        o[1][o[0]:o[0] + n] = ids; o[2][o[0]:o[0] + n] = fl; o[0] += n
    rows += [o for o in open_ if o[0] > ROW * .6]
    if not rows:
        return np.zeros((0, ROW), np.uint16), np.zeros((0, ROW), np.uint8)
    return np.stack([r[1] for r in rows]), np.stack([r[2] for r in rows])


def lm_rows(docs, rng):
    """Plain text in rows; a document's pieces start from the zero state."""
    out = []
    for lang, t in docs:
        ids = TK.encode(t) + [0]
        o = rng.randint(0, ROW // 2) if len(ids) > 2 * ROW else 0
        cuts = [0] + list(range(o, len(ids), ROW)) if o else list(range(0, len(ids), ROW))
        for a, b in zip(cuts, cuts[1:] + [len(ids)]):
            if b - a > 16:
                fl = np.full(b - a, 1, np.uint8); fl[-1] |= 32
                out.append((np.array(ids[a:b], np.uint16), fl))
    return out


def windows(t, lang, rng, short):
    lo, hi = ((30, 130) if lang == 'zh' else (80, 350)) if short == 0 else ((60, 300) if lang == 'zh' else (150, 800)) if short == 1 else ((80, 450) if lang == 'zh' else (200, 1300))
    sp = sentences(t, lang)
    i = 0
    while i < len(sp):
        lim = rng.randint(lo, hi); j = i
        while j < len(sp) and sp[j][1] - sp[i][0] < lim:
            j += 1
        j = max(j, i + 1)
        w = t[sp[i][0]:sp[j - 1][1]].strip()
        if 20 < len(w) < 3 * hi:
            yield w
        i = j


def syn_rows(docs, rng, short):
    out, prev = [], {}
    for lang, t in docs:
        t = t.replace('\n\n', '\n')
        if lang == 'zh' and rng.random() < .04:
            t = t.translate(S2T)
        for d in windows(t, lang, rng, short):
            sp = sentences(d, lang)
            qs = []
            for _ in range(6):
                if sp and len(qs) < 4:
                    x = ask(d, sp, lang, rng, easy=1. if short == 0 else .4 if short == 1 else .15)
                    if x and x[1].strip():
                        qs.append(x)
            if not qs:
                continue
            form = rng.random()
            if form < (.55 if short == 0 else .3):     # several questions on one passage, the first ahead of it
                q, a, u, v = qs[0]
                out.append(encode(lang, q, d, a.strip(), (u, v), rng, FORMS[0][1], [(x[0], x[1].strip()) for x in qs[1:]]))
            else:
                for q, a, u, v in qs[:1 if short else 2]:
                    r = rng.random()
                    other = prev.get(lang)
                    if other and r < .09:              # not in the text: the passage before it
                        out.append(encode(lang, q, other, REFUSE[lang], None, rng))
                    elif other and r < .22:            # two passages
                        out.append(two(lang, q, d, a, (u, v), [other], rng))
                    else:
                        out.append(encode(lang, q, d, a.strip(), (u, v), rng))
            prev[lang] = d
    return out


def two(lang, q, d, a, span, others, rng):
    """The passage among others, plain or numbered."""
    ps = list(others); at = rng.randint(0, len(ps)); ps.insert(at, d)
    num = rng.random() < .5
    sep = rng.choice(['\n', '\n', '\n\n']) if not num else '\n'
    text, off = '', 0
    for i, p in enumerate(ps):
        text += (sep if i else '') + (f'[{i + 1}] ' if num else '')
        if i == at:
            off = len(text)
        text += p
    return encode(lang, q, text, a.strip() if span else REFUSE[lang], (span[0] + off, span[1] + off) if span else None, rng)


def crop(d, u, v, lang, rng, lo, hi):
    """A part of the passage that holds [u, v): whole sentences mostly, now and then a plain cut."""
    lim = rng.randint(lo, hi)
    if len(d) <= lim:
        return d, u, v
    if rng.random() < .3:
        st = rng.randint(max(0, v - lim), max(max(0, v - lim), min(u, len(d) - lim)))
        return d[st:st + max(lim, v - st)], u - st, v - st
    sp = sentences(d, lang)
    i = max([k for k, s in enumerate(sp) if s[0] <= u] or [0]); j = i
    while j + 1 < len(sp) and sp[j][1] < v:
        j += 1
    while sp and sp[j][1] - sp[i][0] < lim:
        can = [x for x in (-1, 1) if (x < 0 and i > 0) or (x > 0 and j + 1 < len(sp))]
        if not can:
            break
        if rng.choice(can) < 0:
            i -= 1
        else:
            j += 1
    st, en = (min(sp[i][0], u), max(sp[j][1], v)) if sp else (0, len(d))
    return d[st:en], u - st, v - st


WH = {'zh': ['多少', '第几', '几', '哪年', '哪一年', '何时', '什么时候', '时间', '谁', '哪里', '哪个国家', '何处', '什么地方', '人', '为什么', '什么'],
      'en': ['how many', 'how much', 'how long', 'how old', 'when', 'what year', 'who', 'where', 'why', 'how', 'which', 'what']}


def kind(lang, q, a):
    """Answers of one kind may stand for each other."""
    w = next((x for x in WH[lang] if x in q.lower()), '')
    return lang, w, any(c.isdigit() for c in a), a[:1].isupper(), lang == 'zh' and a[:1] in '《“「'


def substitutes(rows):
    """Answers by kind, in the order of their length."""
    t = {}
    for _, lang, hant, d, q, a in rows:
        if a and len(a) < 40:
            t.setdefault(kind(lang, q, a), set()).add(a)
    return {k: sorted(v, key=lambda x: (len(x), x)) for k, v in t.items()}


def substitute(lang, d, q, a, rng):
    """The passage with another answer of the same kind in place of its own: then only reading helps."""
    t = SUBST.get(kind(lang, q, a), [])
    if len(t) < 8 or len(a) > 30 or a in q or d.count(a) > 4 or (lang == 'en' and not a[0].isupper() and not a[0].isdigit()):
        return d, a
    k = bisect.bisect_left(t, len(a), key=len)
    b = t[min(len(t) - 1, max(0, k + rng.randint(-len(t) // 12 - 2, len(t) // 12 + 2)))]
    if b in d or b in q or len(b) > 1.6 * len(a) + 2:
        return d, a
    return d.replace(a, b), b


def real_rows(rows, pool, rng):
    out = []
    for src, lang, hant, d, q, a in rows:
        home = d
        if not a and rng.random() > .2:               # adversarial unanswerable ones: a third of them each time
            continue
        if hant and rng.random() < .6:
            d, q, a = d.translate(T2S), q.translate(T2S), a.translate(T2S)
        elif lang == 'zh' and not hant and rng.random() < .06:
            d, q, a = d.translate(S2T), q.translate(S2T), a.translate(S2T)
        if rng.random() < .08:
            q = q.rstrip('？?') if rng.random() < .5 else (rng.choice(['请问', '请根据资料回答：', '根据上下文回答：']) + q if lang == 'zh' else
                                                           rng.choice(['Please answer: ', 'From the text: ']) + q)
        if a and rng.random() < .25:
            d, a = substitute(lang, d, q, a, rng)
        def other():
            p = pool[src]
            if lang == 'zh' and rng.random() < .5 and home in NEAR:      # of the same article, mostly
                return p[(NEAR[home] + rng.choice([-2, -1, 1, 2])) % len(p)]
            return rng.choice(p)
        lo, hi = (50, 400) if lang == 'zh' else (120, 1200)
        if not a:
            d, _, _ = crop(d, 0, 1, lang, rng, lo, hi)
            out.append(encode(lang, q, d, REFUSE[lang], None, rng)); continue
        at = [k for k in range(len(d)) if d.startswith(a, k)]
        if not at:
            continue
        u = at[0]; v = u + len(a)
        if lang == 'en' and len(d) < 320:              # sentence-level sets: give them neighbours
            near = [other() for _ in range(rng.choice([0, 0, 1, 1, 2, 3, 4, 5]))]
            k = rng.randint(0, len(near)); pre = ''.join(x + ' ' for x in near[:k])
            alone = ' '.join(near)
            full = pre + d + ''.join(' ' + x for x in near[k:])
            if near and rng.random() < .10:
                out.append(encode(lang, q, alone, REFUSE[lang], None, rng)); continue
            d, u, v = full, u + len(pre), v + len(pre)
        r = rng.random()
        if r < .05:                                    # another passage: refuse
            o = other()
            if a not in o:
                o, _, _ = crop(o, 0, 1, lang, rng, lo, hi)
                out.append(encode(lang, q, o, REFUSE[lang], None, rng)); continue
        if r < (.08 if lang == 'zh' else .06) and len(at) == 1 and len(d) > (160 if lang == 'zh' else 500):  # the same passage without the sentence: refuse
            i = max([s[0] for s in sentences(d, lang) if s[0] <= u] or [0])
            j = min([s[1] for s in sentences(d, lang) if s[1] >= v] or [len(d)])
            o, _, _ = crop(d[:i] + d[j:], 0, 1, lang, rng, lo, hi)
            if len(o) > 40:
                out.append(encode(lang, q, o, REFUSE[lang], None, rng)); continue
        full = (d, u, v)
        d, u, v = crop(d, u, v, lang, rng, lo, hi)
        s = d[u:v]
        if rng.random() < .04:                         # quote the sentence
            sp = [x for x in sentences(d, lang) if x[0] <= u and x[1] >= v]
            if sp and sp[0][1] - sp[0][0] < (100 if lang == 'zh' else 350):
                x = d[sp[0][0]:sp[0][1]]
                out.append(encode(lang, q.rstrip('？?') + ('？请引用原文。' if lang == 'zh' else '? Quote the sentence.'), d, x.strip(), sp[0], rng)); continue
        if rng.random() < .05:                         # make the question instead: trained as text
            out.append(ask_back(lang, q, d, s.strip(), rng)); continue
        if rng.random() < .2:
            ot = [crop(other(), 0, 1, lang, rng, lo, hi // 2)[0] for _ in range(rng.choice([1, 1, 2]))]
            if not any(s in o for o in ot):
                if rng.random() < .07:
                    out.append(two(lang, q, ot[0], '', None, ot[1:], rng)); continue
                d, u, v = crop(*full, lang, rng, lo, hi // 2)
                out.append(two(lang, q, d, s, (u, v), ot, rng)); continue
        out.append(encode(lang, q, d, s.strip(), (u, v), rng))
    return out


ASK = {'zh': '请根据资料提一个答案是“{a}”的问题。', 'en': 'Ask a question about the passage whose answer is "{a}".'}


def ask_back(lang, q, d, a, rng):
    """The task turned round: the question is what is to be written, with the weight of text."""
    ids, fl = encode(lang, ASK[lang].format(a=a), d, q, None, rng, FORMS[0][1])
    fl[(fl & 3) == 2] -= 1
    return ids, fl


def glued(rng, sents, times):
    """Passages of single sentences, which the sentence-level sets have only."""
    out = []
    for _ in range(times):
        x = list(sents); rng.shuffle(x)
        for i in range(0, len(x) - 8, 8):
            out.append(('en', ' '.join(x[i:i + 8])))
    return out


def held_rows(rows, rng):
    """Questions that are held back, as they are evaluated: for a loss while training."""
    out = []
    for src, lang, _, d, q, a in rows:
        if a and a in d:
            lo = 380 if lang == 'zh' else 1100
            d, u, v = crop(d, d.index(a), d.index(a) + len(a), lang, rng, lo, lo)
            out.append(encode(lang, q, d, a.strip(), (u, v), rng, FORMS[0][1]))
    return out


def job(arg):
    kind, seed, items, extra = arg
    rng = random.Random(seed)
    s = lm_rows(items, rng) if kind == 'lm' else syn_rows(items, rng, extra) if kind == 'syn' else held_rows(items, rng) if kind == 'held' else real_rows(items, POOL, rng)
    rng.shuffle(s)
    return pack(s, rng)


def save(out, name, parts):
    t = np.concatenate([p[0] for p in parts]); f = np.concatenate([p[1] for p in parts])
    o = np.random.default_rng(0).permutation(len(t))
    t[o].tofile(f'{out}/{name}.tok'); f[o].tofile(f'{out}/{name}.flg.tmp'); os.rename(f'{out}/{name}.flg.tmp', f'{out}/{name}.flg')
    print(name, len(t), 'rows', round(t.size / 1e6, 1), 'M places', round((f > 0).mean(), 3), 'flagged', round(((f & 3) == 2).mean(), 4), 'answer', flush=True)


POOL, NEAR, SUBST = {}, {}, {}


def read_rows(path):
    for l in lzma.open(path, 'rt'):
        d = json.loads(l)
        yield d['src'], 'zh' if d['lang'].startswith('zh') else 'en', d['lang'] == 'zh-Hant', d['context'], d['question'], d['answers']


if __name__ == '__main__':
    ap = argparse.ArgumentParser()
    ap.add_argument('--src', required=True); ap.add_argument('--out', required=True)
    ap.add_argument('--procs', type=int, default=32); ap.add_argument('--syn', type=int, default=8); ap.add_argument('--real', type=int, default=16)
    ap.add_argument('--limit', type=int, default=0, help='only so many documents and questions (for a trial)')
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    A = tables(a.src)
    text = (open(f'{a.src}/lm-text.txt', encoding='utf8') if os.path.exists(f'{a.src}/lm-text.txt') else lzma.open(f'{a.src}/lm-text.xz', 'rt')).read()
    docs = [('zh' if sum('\u4e00' <= c <= '\u9fff' for c in d[:400]) > 60 else 'en', d) for d in text.split('\n\n') if len(d) > 200]
    tr, held = [], []
    for src, lang, hant, d, q, ans in read_rows(f'{a.src}/qa-train.jsonl.xz'):
        if src == 'pubmedqa' or (ans and (len(ans[0]) > 160 or ans[0] not in d)):
            continue
        x = (src, lang, hant, d, q, ans[0] if ans else '')
        if split_of(d) == 'train':
            tr += [x] * (4 if src == 'expmrc-squad-dev' else 1)      # the only SQuAD-style English
        else:
            held.append(x)
    ev = {'cmrc-dev': [(d, q, x) for _, _, _, d, q, x in read_rows(f'{a.src}/qa-dev.jsonl.xz')],
          'held': [list(x) for x in held]}
    json.dump(ev, open(f'{a.out}/eval.json', 'w'), ensure_ascii=False)
    rng = random.Random(1); rng.shuffle(docs)
    if a.limit:
        docs = docs[:a.limit]; rng.shuffle(tr); tr = tr[:a.limit * 4]
    docs.sort(key=lambda x: len(x[1]) > 100000)      # a few documents are very long: none of them for validation
    val, docs = docs[:60], docs[60:]
    for x in tr:
        POOL.setdefault(x[0], []).append(x[3])
    POOL = {k: list(dict.fromkeys(v)) for k, v in POOL.items()}
    SUBST.update(substitutes(tr))
    rng.shuffle(tr)
    ctx = [('en' if k[:4] in ('qamr', 'covi') or k == 'expmrc-squad-dev' else 'zh', c) for k in POOL for c in POOL[k] if len(c) > 150]
    short_en = [c for k in POOL if k[:4] == 'qamr' for c in POOL[k]]
    print(len(docs), 'texts', len(tr), 'questions', len(held), 'held back', len(ctx), 'passages as text', flush=True)
    # long documents in pieces, so that the processes share the work evenly
    for k, v in POOL.items():
        for i, c in enumerate(v):
            NEAR[c] = i
    bits = []
    for lang, t in docs:
        st = 0
        while st < len(t):
            e = t.find('\n', st + 6000)
            e = len(t) if e < 0 else e
            bits.append((lang, t[st:e])); st = e + 1
    rng.shuffle(bits)
    n = max(1, len(bits) // (a.procs * 6)); m = max(1, len(tr) // (a.procs * 3))
    with Pool(a.procs) as p:
        def go(name, kind, items, seed, extra=None):
            k = m if kind == 'real' else n
            save(a.out, name, p.map(job, [(kind, seed * 100003 + i, items[i:i + k], extra) for i in range(0, len(items), k)], chunksize=1))
        zh = [b for b in bits if b[0] == 'zh']; en = [b for b in bits if b[0] == 'en']
        wiki = ctx * 2

        def mixed(seed, share):   # a share of the text, three quarters of its English, the question sets' passages twice
            r = random.Random(seed)
            x = [b for b in zh if r.random() < share] + [b for b in en if r.random() < share * .75] + wiki + glued(r, short_en, 3)
            r.shuffle(x); return x
        # what training waits for comes first; every further file of questions is another epoch with other crops
        go('lm', 'lm', bits + ctx * 2, 1)
        go('syn0', 'syn', mixed(0, .16), 10, 0)
        go('real0', 'real', tr, 30)
        save(a.out, 'val_real', [job(('held', 5, held, None))])
        go('val_lm', 'lm', val, 2)
        go('syn1', 'syn', mixed(1, .7), 11, 1)
        for k in range(1, a.real):
            go(f'real{k}', 'real', tr, 30 + k)
            if k % 4 == 3 and k // 4 + 2 < a.syn:
                go(f'syn{k // 4 + 2}', 'syn', mixed(k // 4 + 2, .8), 12 + k // 4, 2)
    print('done', flush=True)
