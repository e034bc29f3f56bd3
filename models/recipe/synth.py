"""Questions made by rule from plain text: hide a span and ask for it, quote, continue, look up a keyword.

Everything takes a `random.Random` so that a corpus and a seed give the same questions again.
"""
import re

REFUSE = {'zh': '根据提供的资料无法回答。', 'en': 'The passage does not say.'}
ZH_SENT = re.compile(r'[^。！？；\n]+[。！？；]?[”』」]?')
EN_SENT = re.compile(r'[^.!?\n]+(?:[.!?]+(?=\s|$)|$|\n|[.!?])')
H = r'[\u4e00-\u9fff]'
NUM = r'[0-9０-９一二三四五六七八九十百千万亿两零〇元]+'
ZH_KINDS = [  # (pattern, question words, weight)
    (re.compile(NUM + r'年(?:' + NUM + r'月)?(?:' + NUM + r'日)?|' + NUM + r'月(?:' + NUM + r'日)?|' + H + r'{2}' + NUM + r'年'),
     ['什么时候', '哪一年', '何时', '哪年', '什么时间'], 3),
    (re.compile(NUM + r'(?:多)?(?:天|岁|人|个|万|里|次|名|级|章|条|卷|米|度|%|％|匹|户|斤|石|两|艘|座|种|篇|位|公里|平方公里|小时|分钟)'),
     ['多少', '几'], 3),
    (re.compile(r'(?<=[在到往攻过至从于入回])' + H + r'{1,4}?(?:州|县|郡|城|国|市|省|山|河|江|镇|村|关|岛|湖|宫|殿|寺|门|府|区|路)'),
     ['哪里', '什么地方', '哪儿', '何处'], 3),
    (re.compile(H + r'{0,4}(?:刺史|太守|将军|尚书|侍郎|大夫|丞相|宰相|节度使|都督|御史|知府|知县|巡抚|总督|校尉|司马|长史|参军|县令|中书令|郎中|校书郎|主教|总统|部长|主席|教授|院长)'),
     ['什么职务', '什么官职', '什么', '什么职位'], 2),
    (re.compile(r'(?:(?<=叫做)|(?<=称为)|(?<=名叫)|(?<=字)|(?<=号)|(?<=称作)|(?<=命名为)|(?<=谥号))' + H + r'{1,5}(?=[，。；、])'), ['什么'], 3),
    (re.compile(r'(?:^|(?<=[，。；：]))' + H + r'{2,3}(?=(?:说|问道|回答|率领|上奏|上书|担任|被|出生|派|带领|攻|命令|请求|写|创|提出|认为|死|去世|任|娶|建议|发明|发现))'), ['谁', '谁', '什么人', '哪个人'], 4),
    (re.compile(r'《[^》]{1,16}》'), ['什么', '哪本书', '什么作品'], 2),
    (re.compile(r'(?<=“)[^”]{2,14}(?=”)'), ['什么'], 1),
    (re.compile(r'(?<=是)' + H + r'{2,10}(?=[，。；])'), ['什么', '谁'], 2),
]
ZH_CHUNK = re.compile(r'[^，、：“”《》（）。！？； ]+')
FILLER = re.compile(r'[了着曾便就又也都则却]|于是|因此|所以|但是|然而|并且|当时|后来')
SWAP = [('攻打', '进攻'), ('担任', '任'), ('去世', '死'), ('皇帝', '皇上'), ('建立', '创立'), ('称为', '叫做'), ('出生', '诞生'),
        ('使用', '采用'), ('能够', '可以'), ('但', '不过'), ('因为', '由于'), ('说', '讲'), ('派', '派遣'), ('许多', '很多')]
EN_CAND = re.compile(r"\b(?:[A-Z][A-Za-z0-9_.-]+(?: [A-Z][A-Za-z0-9_.-]+){0,3}|\d[\d.,]*(?: ?[a-z%]+)?|[a-z]+_[a-z_]+|[a-z]{4,} [a-z]{4,})\b")
PUNCT = '，。；：、？！“”《》（） '


def sentences(text, lang):
    """[(start, end)] of the sentences of a text."""
    return [m.span() for m in (ZH_SENT if lang == 'zh' else EN_SENT).finditer(text) if len(m.group().strip()) > 3]


def rough(q, rng):
    """Make a Chinese question differ in wording from its sentence."""
    if rng.random() < .5:
        q = FILLER.sub(lambda m: '' if rng.random() < .5 else m.group(), q)
    if rng.random() < .4:
        for a, b in SWAP:
            if a in q and rng.random() < .5:
                q = q.replace(a, b)
    return q


def zh_cloze(s, rng):
    """(question, answer, start, end) from one Chinese sentence, or None."""
    pool = []
    for pat, words, wt in ZH_KINDS:
        for m in pat.finditer(s):
            if m.end() > m.start():
                pool.append((m.start(), m.end(), words, wt))
    if pool and rng.random() < .75:
        a, b, words, _ = rng.choices(pool, [p[3] for p in pool])[0]
        w = rng.choice(words)
        if w in ('多少', '几'):
            unit = re.sub('^' + NUM, '', s[a:b])
            if rng.random() < .8:
                w += unit.replace('多', '')
    else:
        parts = [m.span() for m in ZH_CHUNK.finditer(s)]
        parts = [p for p in parts if 2 <= p[1] - p[0] <= 16]
        if not parts:
            return None
        a, b = rng.choice(parts)
        n = b - a
        if n > 4 and rng.random() < .6:
            k = rng.randint(2, min(8, n))
            st = rng.choice([0, n - k, rng.randint(0, n - k)])
            a, b = a + st, a + st + k
        w = rng.choice(['什么', '什么', '什么', '____', '哪里', '谁'])
    ans = s[a:b]
    left = max(s.rfind(x, 0, a) for x in '，；：。') + 1
    right = min([x for x in (s.find(y, b) for y in '，；：。') if x >= 0] or [len(s)])
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        left = max([s.rfind(x, 0, max(left - 1, 0)) for x in '，；：'] + [-1]) + 1
    cl, cr = s[left:a], s[b:right]
    if len(cl) + len(cr) < 4:
        return None
    if rng.random() < .15:      # 'clause with the span left out: which one?'
        q = rough(cl + cr, rng).strip(PUNCT)
        q = q + rng.choice(['的是', '，是', '，这是']) + w
    else:
        q = rough(cl, rng) + w + rough(cr, rng)
    q = q.strip(PUNCT) + rng.choice(['？', '？', '？', '?', ''])
    if rng.random() < .12:
        q = rng.choice(['请问', '请根据资料回答：', '根据上下文，', '问：']) + q
    return q, ans, a, b


EN_STOP = {'The', 'This', 'That', 'These', 'Those', 'It', 'He', 'She', 'They', 'We', 'You', 'In', 'If', 'When', 'A', 'An', 'As', 'For', 'But', 'And', 'To', 'His', 'Her', 'Its', 'There', 'Both'}
AUX = re.compile(r"\b(was|were|is|are|can|could|has|had|have|will|would|should|may|must|does|did)\b")
MONTH = re.compile(r'January|February|March|April|May|June|July|August|September|October|November|December')
PREP = re.compile(r'\b(in|on|at|by|from|to|of|for|with|as|into|during|since|until|between|near|under|the|a|an|its|his|their)$')


def fronted(s, a, b, ans, rng):
    """'The tower was built in 1889 by X.' and 1889 -> 'When was the tower built?': the usual English order."""
    left = re.split(r'[;:]|, (?:and|but|which|who|while) ', s[:a])[-1].strip(' ,')
    m = AUX.search(left)
    if not m or not 2 <= len(left[:m.start()].split()) + 1 <= 14 or not left[:m.start()].strip():
        return None
    subj, rest = left[:m.start()].strip(), left[m.end():].strip()
    w0 = subj.split()[0]
    if w0 in ('The', 'A', 'An', 'This', 'These', 'It', 'He', 'She', 'They', 'In', 'His', 'Her', 'Its', 'Their', 'All', 'Some', 'Many', 'Most', 'One'):
        subj = w0.lower() + subj[len(w0):]
    prep = ''
    p = PREP.search(rest)
    while p:
        prep = p.group(); rest = rest[:p.start()].strip(); p = PREP.search(rest)
    if re.fullmatch(r'1\d\d\d|20\d\d', ans) or MONTH.search(ans):
        w = rng.choice(['When', 'When', 'In what year', 'In which year']) if not MONTH.search(ans) else 'When'
        prep = ''
    elif ans[0].isdigit():
        nxt = s[b:].split()
        w = 'How many ' + nxt[0].strip('.,;') if nxt and re.match(r'[a-z]{3,}', nxt[0]) else 'How much'
    elif prep == 'by':
        w = rng.choice(['By whom', 'By what', 'Who', 'What']); prep = '' if w[0] == 'B' else 'by'
    elif prep in ('in', 'at', 'near', 'from', 'to') and ans[0].isupper():
        w = rng.choice(['Where', 'Where', 'What', 'Which place']); prep = '' if w == 'Where' and prep != 'from' else prep
    else:
        w = rng.choice(['What', 'What', 'Who', 'Which'] if ans[0].isupper() else ['What'])
    if prep in ('the', 'a', 'an', 'its', 'his', 'their'):
        prep = ''
    tail = ''
    if rng.random() < .4:
        tail = ' ' + re.split(r'[,.;:]', s[b:])[0].strip()
        if len(tail) > 60:
            tail = ''
    q = f'{w} {m.group()} {subj} {rest} {prep}{tail}'
    return re.sub(r'\s+', ' ', q).strip(' ,.') + '?' if len(q) > 14 else None


def en_cloze(s, rng):
    c = [m.span() for m in EN_CAND.finditer(s) if m.end() - m.start() < 40]
    if not c:
        return None
    a, b = rng.choices(c, [4 if (s[x].isupper() and s[x:y] not in EN_STOP) or s[x].isdigit() else 1 for x, y in c])[0]
    ans = s[a:b]
    wl, wr = s[:a].split(), s[b:].split()
    l = ' '.join(wl[-rng.randint(2, 12):])
    r = ' '.join(wr[:rng.randint(2, 12)])
    if len(l) + len(r) < 10:
        return None
    if re.fullmatch(r'1\d\d\d|20\d\d', ans):
        w = rng.choice(['when', 'what year', 'which year'])
    elif ans[0].isdigit():
        w = rng.choice(['how many', 'what', 'what number', 'how much'])
    else:
        w = rng.choice(['what', 'what', 'which', 'who', 'where'])
    st = rng.random()
    f = fronted(s, a, b, ans, rng) if st < .5 else None
    if f:
        return f, ans, a, b
    if len(wl) <= 2 and r:
        q = f'{w.capitalize()} {r}'.strip(' ,.;:') + '?'
    elif st < .45:
        q = f'{l} {w} {r}'.strip(' ,.;:') + '?'
    elif st < .75:
        q = f'{w.capitalize()} {r} {l}'.strip(' ,.;:') + '?'
    else:
        q = f'{w.capitalize()} {l} ____ {r}'.strip(' ,.;:') + '?'
    return q, ans, a, b


def cloze(s, lang, rng):
    return zh_cloze(s, rng) if lang == 'zh' else en_cloze(s, rng)


def ask(text, spans, lang, rng, easy=0.):
    """One (question, answer, start, end) about `text`, whose sentences are `spans`; positions are of the answer in the text."""
    i, j = rng.choice(spans)
    s = text[i:j]
    lead = len(s) - len(s.lstrip())
    s, i = s.strip(), i + lead
    r = rng.random()
    if r < .12 + .3 * easy:      # continue the sentence
        if lang == 'zh':
            k = rng.randint(4, 10)
            if len(s) < k + 3:
                return None
            x, y = s[:k], s[k:k + 48]
            q = rng.choice(['“{}”后面是什么？', '请接着写出原文：{}', '原文“{}”的下文是什么？', '续写：{}', '“{}……”，接下来的原文是什么？']).format(x)
        else:
            ws = s.split(' ')
            k = rng.randint(3, 7)
            if len(ws) < k + 2:
                return None
            x = ' '.join(ws[:k]); y = ' '.join(ws[k:k + 24])
            q = rng.choice(['What comes after "{}"?', 'Continue the text: {}', 'How does the sentence "{} ..." go on?']).format(x)
            k = len(x) + 1
        if text.count(x) != 1:
            return None
        return q, y, i + k, i + k + len(y)
    if r < .22 + .3 * easy:      # which sentence speaks of K
        if lang == 'zh':
            ks = [m.group() for m in ZH_CHUNK.finditer(s) if len(m.group()) >= 2]
            if not ks:
                return None
            k = rng.choice(ks)
            n = rng.randint(2, min(6, len(k)))
            o = rng.randint(0, len(k) - n) if rng.random() < .5 else 0
            k = k[o:o + n]
            q = rng.choice(['关于{}，资料是怎么说的？', '资料中哪句话提到了{}？', '请引用提到“{}”的原文。', '介绍一下{}。', '{}是怎么回事？'] +
                           (['{}是什么？'] * 2 if s.startswith(k) else [])).format(k)
        else:
            ks = EN_CAND.findall(s)
            if not ks:
                return None
            k = rng.choice(ks)
            q = rng.choice(['What does the text say about {}?', 'Which sentence mentions {}?', 'Quote the sentence about {}.', 'Tell me about {}.'] +
                           (['What is {}?'] * 2 if s.startswith(k) else [])).format(k)
        if text.count(k) != 1 or len(s) > (90 if lang == 'zh' else 300):
            return None
        return q, s, i, i + len(s)
    c = cloze(s, lang, rng)
    if not c:
        return None
    q, a, u, v = c
    if rng.random() < .08 and len(s) <= (90 if lang == 'zh' else 300):
        q = q.rstrip('？?') + ('？请引用原文。' if lang == 'zh' else '? Quote the sentence.')
        return q, s, i, i + len(s)
    return q, a, i + u, i + v
