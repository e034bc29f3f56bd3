"""Reference logits and greedy tokens, computed with PyPI `rwkv` (cpu fp32) from the zero state, and the same formulas in f64.

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


def ln(x, w, b, eps=1e-5):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt() * w + b


def exact(z, ids):
    """Logits behind the last id and the recurrent states of all layers, token by token in f64 from the weights alone."""
    z = {k: v.double().squeeze() for k, v in z.items()}
    L = 1 + max(int(k.split('.')[1]) for k in z if k[:6] == 'blocks'); H, N = z['blocks.0.att.time_faaaa'].shape; C = H * N
    S = [torch.zeros(H, N, N, dtype=torch.double) for _ in range(L)]; before = [[torch.zeros(C, dtype=torch.double)] * 2 for _ in range(L)]
    for t in ids:
        x = ln(z['emb.weight'][t], z['blocks.0.ln0.weight'], z['blocks.0.ln0.bias'])
        for i in range(L):
            p = {k.split('.', 2)[2]: v for k, v in z.items() if k.startswith(f'blocks.{i}.')}; a = {k[4:]: v for k, v in p.items() if k[:3] == 'att'}; f = {k[4:]: v for k, v in p.items() if k[:3] == 'ffn'}
            y = ln(x, p['ln1.weight'], p['ln1.bias']); d = before[i][0] - y; before[i][0] = y
            m = torch.bmm(torch.tanh((y + d * a['time_maa_x']) @ a['time_maa_w1']).view(5, 1, -1), a['time_maa_w2']).view(5, C)
            w_, k_, v_, r_, g_ = (y + d * (a['time_maa_' + n] + m[j]) for j, n in enumerate('wkvrg'))
            r, k, v = (a[n + '.weight'] @ u for n, u in (('receptance', r_), ('key', k_), ('value', v_)))
            g = torch.nn.functional.silu(a['gate.weight'] @ g_); w = torch.exp(-torch.exp(a['time_decay'] + torch.tanh(w_ @ a['time_decay_w1']) @ a['time_decay_w2'])).view(H, N, 1)
            kv = k.view(H, N, 1) * v.view(H, 1, N)
            o = torch.einsum('hn,hnm->hm', r.view(H, N), S[i] + a['time_faaaa'].unsqueeze(2) * kv); S[i] = w * S[i] + kv
            o = ln(o, 1., 0., 64e-5).reshape(C) * a['ln_x.weight'] + a['ln_x.bias']
            x = x + a['output.weight'] @ (o * g)
            y = ln(x, p['ln2.weight'], p['ln2.bias']); d = before[i][1] - y; before[i][1] = y
            x = x + torch.sigmoid(f['receptance.weight'] @ (y + d * f['time_maa_r'])) * (f['value.weight'] @ torch.relu(f['key.weight'] @ (y + d * f['time_maa_k'])) ** 2)
    return z['head.weight'] @ ln(x, z['ln_out.weight'], z['ln_out.bias']), S


def exact_fields(z, ids):
    x, S = exact(z, ids); top = torch.topk(x, 5)
    return {'logits_first8_f64': [round(v, 7) for v in x[:8].tolist()], 'top5_f64': [[int(i), round(v, 7)] for v, i in zip(top.values.tolist(), top.indices.tolist())],
            'logsumexp_f64': round(torch.logsumexp(x, 0).item(), 7), 'state_l0_sum_f64': round(S[0].sum().item(), 6), 'state_last_abs_sum_f64': round(S[-1].abs().sum().item(), 5)}


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
        z = torch.load(a.model, map_location='cpu')
        for c in r['cases']:
            c.update(exact_fields(z, c['ids']))
        json.dump(r, open(a.out, 'w'), ensure_ascii=False, indent=1)
        for c in r['cases']:
            print(repr(c['prompt'][-90:]), '->', repr(c['greedy_text']))
