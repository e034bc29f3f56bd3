"""Reference logits and greedy tokens, computed with PyPI `rwkv` (cpu fp32) from the zero state.

    python golden.py MODEL.pth OUT.json [--check GOLDEN.json]
"""
import argparse, json, os
os.environ.update(RWKV_JIT_ON='0', RWKV_CUDA_ON='0', RWKV_V7_ON='0')
import torch
from pyrwkv_tokenizer import RWKVTokenizer
from evaluate import pieces

PROMPTS = ['User: 你好\n\nAssistant:',
           'Instruction: 谁发明了电话？\nInput: 亚历山大·贝尔在1876年发明了电话，并创办了贝尔电话公司。\n\nResponse:',
           'Instruction: 电话是哪一年发明的？\nInput: 亚历山大·贝尔在1876年发明了电话，并创办了贝尔电话公司。\n\nResponse:',
           'Instruction: 长城有多长？\nInput: 亚历山大·贝尔在1876年发明了电话，并创办了贝尔电话公司。\n\nResponse:',
           'Instruction: Who invented the telephone?\nInput: Alexander Bell invented the telephone in 1876 and founded the Bell Telephone Company.\n\nResponse:',
           'The database stores']


def case(model, tok, prompt, ids=None, n=16):
    ids = ids or tok.encode(prompt)
    lo, st = model.forward(list(ids), None)
    x = lo.float(); top = torch.topk(x, 5)
    L = len(st) // 3
    c = {'prompt': prompt, 'ids': ids, 'logits_first8': [round(v, 5) for v in x[:8].tolist()],
         'top5': [[int(i), round(v, 5)] for v, i in zip(top.values.tolist(), top.indices.tolist())],
         'logsumexp': round(torch.logsumexp(x, 0).item(), 5)}
    s0, sl = round(st[1].sum().item(), 4), round(st[3 * (L - 1) + 1].abs().sum().item(), 3)
    out = []
    for _ in range(n):
        t = int(lo.argmax()); out.append(t)
        if t == 0:
            break
        lo, st = model.forward([t], st)
    c['greedy16'] = out
    c['greedy_text'] = b''.join(pieces(tok)[t] for t in out if t).decode('utf8', 'replace')
    c['state_l0_sum'], c['state_last_abs_sum'] = s0, sl
    return c


if __name__ == '__main__':
    ap = argparse.ArgumentParser()
    ap.add_argument('model'); ap.add_argument('out'); ap.add_argument('--check')
    a = ap.parse_args()
    torch.set_num_threads(1)
    from rwkv.model import RWKV
    m = RWKV(model=os.path.abspath(a.model)[:-4], strategy='cpu fp32'); tok = RWKVTokenizer()
    if a.check:
        for g in json.load(open(a.check))['cases']:
            c = case(m, tok, g['prompt'], g['ids'])
            print({k: (c[k], g[k]) for k in ('logsumexp', 'greedy16', 'state_l0_sum', 'state_last_abs_sum')})
    else:
        r = {'model': os.path.basename(a.model), 'computed_with': 'PyPI rwkv 0.8.32, strategy cpu fp32',
             'note': 'logits_first8/top5 are of the last position, from zero state', 'cases': [case(m, tok, p) for p in PROMPTS]}
        json.dump(r, open(a.out, 'w'), ensure_ascii=False, indent=1)
        for c in r['cases']:
            print(repr(c['prompt'][-90:]), '->', repr(c['greedy_text']))
