"""Two small inputs of prepare.py.

    python sources.py hanzi OPENCC_DICTIONARY_FOLDER hanzi.json     # Traditional <-> Simplified, single characters
    python sources.py sample lm-text.xz SAMPLE.xz [SHARE]           # a share of the text, in pieces of about 6,000 characters
"""
import json, lzma, random, sys


def hanzi(folder, out):
    def table(name):
        t = {}
        for line in open(f'{folder}/{name}.txt', encoding='utf8'):
            a, b = line.rstrip('\n').split('\t'); b = b.split(' ')[0]
            if a != b and len(a) == len(b) == 1:
                t[a] = b
        return t
    json.dump({'t2s': table('TSCharacters'), 's2t': table('STCharacters')}, open(out, 'w', encoding='utf8'), ensure_ascii=False)


def sample(src, out, share=.36):
    r = random.Random(11); parts = []
    for d in lzma.open(src, 'rt', encoding='utf8').read().split('\n\n'):
        st = 0
        while len(d) > 200 and st < len(d):
            e = d.find('\n', st + 6000); e = len(d) if e < 0 else e
            if r.random() < share:
                parts.append(d[st:e])
            st = e + 1
    lzma.open(out, 'wt', encoding='utf8').write('\n\n'.join(parts))


if __name__ == '__main__':
    if sys.argv[1] == 'hanzi':
        hanzi(*sys.argv[2:4])
    else:
        sample(*sys.argv[2:4], *map(float, sys.argv[4:5]))
