"""Train the small RWKV-6 on rows made by prepare.py; one process a GPU.

    torchrun --nproc_per_node N train.py --rows ROWS --out CKPT --seconds 1200 [--vectors vec.npz]
"""
import argparse, io, json, math, os, shutil, time, zlib
import numpy as np, torch, torch.distributed as dist, torch.nn.functional as F
import evaluate, model as M
from model import RWKV6

ap = argparse.ArgumentParser()
ap.add_argument('--rows', required=True); ap.add_argument('--out', required=True); ap.add_argument('--seconds', type=float, default=0)
ap.add_argument('--until', type=float, default=0, help='clock time (seconds since 1970) at which training ends')
ap.add_argument('--vectors', default=''); ap.add_argument('--width', type=int, default=384); ap.add_argument('--layers', type=int, default=12)
ap.add_argument('--batch', type=int, default=28); ap.add_argument('--lr', type=float, default=1.2e-3); ap.add_argument('--muon', type=float, default=2.5e-3)
ap.add_argument('--drop', type=float, default=0.1); ap.add_argument('--maxstep', type=int, default=10 ** 9); ap.add_argument('--seed', type=int, default=1)
ap.add_argument('--every', type=int, default=500, help='steps between losses on what is held back')
ap.add_argument('--quant', type=float, default=.84, help='share of the time from which 4-bit weights are practised')
a = ap.parse_args()
if os.environ.get('ONE_CONFIG'):      # no search over kernel variants: it takes three minutes
    from triton.runtime import autotuner

    def first(init):
        def f(self, fn, arg_names, configs, *x, **k):
            c = sorted(configs or [], key=lambda c: (abs(c.num_warps - int(os.environ['ONE_CONFIG'])), c.num_stages, tuple(c.kwargs.values())))[:1]
            return init(self, fn, arg_names, c or configs, *x, **k)
        return f
    autotuner.Autotuner.__init__ = first(autotuner.Autotuner.__init__)
rank, world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
cuda = torch.cuda.is_available(); dev = f'cuda:{int(os.environ.get("LOCAL_RANK", 0))}' if cuda else 'cpu'; kind = 'cuda' if cuda else 'cpu'
if cuda:
    torch.cuda.set_device(dev)
if world > 1:
    dist.init_process_group('nccl' if cuda else 'gloo')
torch.manual_seed(a.seed); torch.backends.cuda.matmul.allow_tf32 = True; torch.backends.cudnn.allow_tf32 = True
os.makedirs(a.out, exist_ok=True)
ROW, CH = 1024, 8192 if cuda else 128
BF = torch.bfloat16 if cuda else torch.float32


def say(*x):
    if rank == 0:
        print(*x, flush=True)


# ---- model
vec = None
if a.vectors:
    from unpack import vectors
    vec = vectors(a.vectors)
model = RWKV6(65536, a.width, a.layers, drop=a.drop, vectors=None if vec is None else vec.to(BF)).to(dev)
say('parameters', sum(p.numel() for p in model.parameters()) / 1e6, 'M; ranks', world)
named = list(model.named_parameters())
if world > 1:
    for _, p in named:
        dist.broadcast(p.data, 0)
mats = [p for n, p in named if n.startswith('blocks') and p.ndim == 2 and n.endswith('weight')]
ids_ = {id(p) for p in mats}; g = {}
for n, p in named:
    if id(p) in ids_:
        continue
    k = ('dec', 2., 0.) if n.endswith(('time_decay', 'faaaa')) else ('emb', 1., .02) if n == 'emb.weight' else ('head', .7, .02) if n == 'head.weight' else ('rest', 1., 0.)
    g.setdefault(k, []).append(p)
opt = torch.optim.AdamW([dict(params=v, m=k[1], weight_decay=k[2], lr=a.lr) for k, v in g.items()], betas=(.9, .98), eps=1e-9, fused=cuda)
shapes = {}
for p in mats:
    shapes.setdefault(tuple(p.shape), []).append(p)
mom = {s: torch.zeros(len(v), *s, device=dev) for s, v in shapes.items()}


def muon(lr, wd=.05, beta=.95):
    """Momentum, orthogonalised by five Newton-Schulz steps, scaled to the size of an Adam step."""
    for s, ps in shapes.items():
        gr = torch.stack([p.grad for p in ps]); b = mom[s].lerp_(gr, 1 - beta)
        x = gr.lerp(b, beta).to(BF); t = s[0] > s[1]
        if t:
            x = x.mT
        x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
        for _ in range(5):
            A = x @ x.mT; x = 3.4445 * x + (-4.7750 * A + 2.0315 * A @ A) @ x
        if t:
            x = x.mT
        x = x.float() * (.2 * math.sqrt(max(s)))
        for p, u in zip(ps, x):
            p.data.mul_(1 - lr * wd).add_(u, alpha=-lr)


# ---- loss: the head only where a token is to be predicted
def ce_part(logits, t, w):
    z = logits.float(); m = torch.logsumexp(z, -1); l = m - z.gather(1, t[:, None])[:, 0]
    gr = torch.exp(z - m[:, None]); gr = gr - (torch.arange(z.shape[1], device=z.device)[None] == t[:, None]).float()
    return (l * w).sum(), (gr * w[:, None]).to(logits.dtype), l


class HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, W, t, w):
        Wb = W.to(BF); h = h.to(BF); dh = torch.empty_like(h); dW = torch.zeros_like(W, dtype=torch.float32); loss = 0.; ls = []
        for i in range(0, len(h), CH):
            hc = h[i:i + CH]; l, gr, lt = ce_part(hc @ Wb.t(), t[i:i + CH], w[i:i + CH])
            loss = loss + l; dh[i:i + CH] = gr @ Wb; dW += gr.t() @ hc; ls.append(lt)
        ctx.save_for_backward(dh, dW)
        return loss, torch.cat(ls)

    @staticmethod
    def backward(ctx, go, _):
        dh, dW = ctx.saved_tensors
        return dh * go.to(dh.dtype), dW * go, None, None


if cuda:
    if not os.environ.get('EAGER'):
        M.FAST['one'] = torch.compile(M.half_one, dynamic=False, fullgraph=True)
        M.FAST['two'] = torch.compile(M.half_two, dynamic=False, fullgraph=True)
    ce_part = torch.compile(ce_part, dynamic=False)


def forward(tok, flg, lm_w=.5, tag_w=.3):
    if not cuda:       # a trial run
        tok, flg = tok[:, :160], flg[:, :160].clone()
    tok = tok.int() & 0xffff; last = (flg & 32) > 0
    first = torch.zeros_like(last); first[:, 0] = True; first[:, 1:] = last[:, :-1]
    y = torch.zeros_like(tok); y[:, :-1] = tok[:, 1:]
    c = torch.zeros_like(flg); c[:, :-1] = flg[:, 1:] & 3; c[last] = 0
    n1, n2 = (c == 1).sum().clamp(min=1), (c == 2).sum().clamp(min=1)
    with torch.autocast(kind, torch.bfloat16, enabled=cuda):
        h, mid = model.hidden(tok.long(), first, last)
        W = model.head_weight()
        tg = model.tags(mid).float()
    idx = (c.view(-1) > 0).nonzero()[:, 0]; n = len(idx); pad = -n % CH if n else CH
    ix = F.pad(idx, (0, pad)); cs = c.view(-1)[ix]
    w = torch.where(cs == 1, lm_w / n1, 1.0 / n2).float(); w[n:] = 0
    loss, ls = HeadLoss.apply(h.reshape(-1, a.width)[ix], W, y.view(-1)[ix].long(), w)
    t = flg >> 2 & 7
    in_, end = (t == 1) | (t == 2), t >= 3
    b0 = F.binary_cross_entropy_with_logits(tg[..., 0], (t == 2).float(), pos_weight=torch.tensor(4., device=dev), reduction='none')
    b1 = F.binary_cross_entropy_with_logits(tg[..., 1], (t == 4).float(), pos_weight=torch.tensor(2., device=dev), reduction='none')
    aux = (b0 * in_).sum() / in_.sum().clamp(min=1) + (b1 * end).sum() / end.sum().clamp(min=1)
    ls, cs = ls[:n].detach(), cs[:n]
    return loss + tag_w * aux, ((ls * (cs == 1)).sum() / n1, (ls * (cs == 2)).sum() / n2, aux.detach())


# ---- data: files are picked up as prepare.py finishes them
class Pool:
    def __init__(s):
        s.files, s.at, s.pos, s.names = [], 0, 0, set()

    def add(s, name):
        if name in s.names:
            return
        t = torch.from_numpy(np.fromfile(f'{a.rows}/{name}.tok', np.int16).reshape(-1, ROW)[rank::world].copy()).to(dev)
        f = torch.from_numpy(np.fromfile(f'{a.rows}/{name}.flg', np.uint8).reshape(-1, ROW)[rank::world].copy()).to(dev)
        s.files.append((t, f)); s.names.add(name)

    def take(s, n):
        t, f = s.files[s.at]
        if s.pos + n > len(t):
            s.at, s.pos = (s.at + 1) % len(s.files), 0
            t, f = s.files[s.at]
            if n > len(t):
                ix = torch.randint(0, len(t), (n,)); return t[ix.to(dev)], f[ix.to(dev)]
        s.pos += n
        return t[s.pos - n:s.pos], f[s.pos - n:s.pos]


POOLS = {k: Pool() for k in ('lm', 'short', 'mid', 'long', 'real')}


def scan():
    for f in sorted(os.listdir(a.rows)):
        if f.endswith('.flg'):
            n = f[:-4]
            k = 'lm' if n == 'lm' else 'short' if n == 'syn0' else 'mid' if n == 'syn1' else 'long' if n.startswith('syn') else 'real' if n.startswith('real') else None
            if k:
                POOLS[k].add(n)


def mix(p):
    """Rows of a batch by progress: (text, short, middle, long made-up questions, real questions)."""
    if os.path.exists(f'{a.out}/mix.json'):      # the rest of the run can be changed while it is on
        return json.load(open(f'{a.out}/mix.json'))
    for lim, m in ((.08, (.45, .35, 0, 0, .20)), (.35, (.45, 0, .30, 0, .25)), (.65, (.28, 0, 0, .32, .40)), (.87, (.15, 0, 0, .27, .58)), (2., (.05, 0, 0, .20, .75))):
        if p < lim:
            return m


from pyrwkv_tokenizer import RWKVTokenizer
TK = RWKVTokenizer()


def save(name):
    if rank == 0:
        torch.save({k: v.half() for k, v in model.export().items()}, f'{a.out}/{name}.tmp'); os.rename(f'{a.out}/{name}.tmp', f'{a.out}/{name}.pth')


def pack():
    """Small copy of the weights in files of at most 14 MiB: matrices as int8 in groups of 64, tables in 7 bits and only where ids were seen."""
    if rank or not os.environ.get('PACK'):
        return
    def q8(v, top=127):
        g = v.reshape(v.shape[0], -1, 64) if v.shape[-1] % 64 == 0 else v.reshape(v.shape[0], -1, 32)
        s = (g.abs().amax(2, keepdim=True) / top).clamp(min=1e-7).half()
        return (g / s.float()).round().clamp(-top, top).to(torch.int8).cpu(), s.cpu(), tuple(v.shape)
    o = {'seen': (seen > 0).cpu()}
    for k, v in model.state_dict().items():
        v = v.detach().float()
        if k in ('emb.weight', 'head.weight'):
            if vec is not None:
                v = v + model.vec.float() @ (model.in_proj if k[0] == 'e' else model.out_proj).detach().float()
            o[k] = q8(v[seen > 0], 63)
        elif k == 'vec':
            continue
        else:
            o[k] = q8(v) if v.ndim > 1 and min(v.shape[-1], v.numel() // 4096) >= 4 and v.shape[-1] % 32 == 0 and 'proj' not in k else v.cpu()
    b = io.BytesIO(); torch.save(o, b); c = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY); b = c.compress(b.getbuffer()) + c.flush()
    d = os.environ['PACK']; shutil.rmtree(f'{d}.new', ignore_errors=True); os.makedirs(f'{d}.new')
    for i in range(0, len(b), 14 << 20):
        open(f'{d}.new/pack.{i // (14 << 20):02d}', 'wb').write(b[i:i + (14 << 20)])
    shutil.rmtree(d, ignore_errors=True); os.rename(f'{d}.new', d)
    say('packed', len(b) / 2 ** 20, 'MiB')


def held_loss():
    """Loss on the answers that are held back; with dropout and gradients on, so that nothing is compiled anew."""
    parts = [x for x in zip(VAL[0].split(a.batch), VAL[1].split(a.batch)) if len(x[0]) == a.batch][:6 if cuda else 2]
    x = [forward(t, f)[1][1].detach() for t, f in parts]
    x = torch.stack(x).mean() if x else torch.zeros((), device=dev)
    if world > 1:
        dist.all_reduce(x); x /= world
    return x.item()


torch.manual_seed(a.seed + 1000 * rank)      # other dropout on every GPU
model.train()
if cuda:       # compile while prepare.py is at work
    t1 = time.time()
    q_ = [torch.randn(2, 192, 6, 64, device=dev).bfloat16() * .5 for _ in range(3)]; w_ = -torch.exp(torch.randn(2, 192, 6, 64, device=dev) - 2)
    w_[:, 77] = M.RESET; u_ = torch.randn(6, 64, device=dev).bfloat16()
    o1, o2 = M.wkv6(*q_, w_, u_)[0].float(), M.wkv6_naive(*q_, w_, u_)[0]
    say('kernel against plain loop, relative error', ((o1 - o2).norm() / o2.norm()).item(), round(time.time() - t1, 1), 's')
    x = torch.randint(1, 60000, (a.batch, ROW), device=dev).short(); f = torch.full((a.batch, ROW), 1, dtype=torch.uint8, device=dev)
    f[:, 500] |= 32; f[:, 600] = 6; f[:, 700] = 4 << 2
    for i in range(4):
        model.quant = i == 2
        l, _ = forward(x, f); l.backward(); model.zero_grad(set_to_none=True)
    model.quant = False
    torch.cuda.synchronize(); say('compiled in', round(time.time() - t1), 's; loss', l.item())
while not all(os.path.exists(f'{a.rows}/{n}.flg') for n in ('lm', 'syn0', 'real0', 'val_real')):
    time.sleep(1)
time.sleep(1); scan()
if world > 1:
    dist.barrier()
seen = torch.zeros(65536, device=dev)
VAL = [torch.from_numpy(np.fromfile(f'{a.rows}/val_real.{x}', y).reshape(-1, ROW)[rank::world].copy()).to(dev) for x, y in (('tok', np.int16), ('flg', np.uint8))]
for k in ('lm', 'short', 'real'):
    for t, _ in POOLS[k].files:
        seen[(t.view(-1).int() & 0xffff).long()] = 1
if world > 1:
    dist.all_reduce(seen, op=dist.ReduceOp.MAX)
say('ids seen', int(seen.sum())); np.save(f'{a.out}/seen.npy', seen.cpu().numpy() > 0)
t0 = time.time(); seconds = a.until - t0 if a.until else a.seconds; say('seconds to train', round(seconds)); ema = None; step = 0; p = 0.; packs = [.3, .5, .7]; tokens = 0; acc = []
params = [p_ for _, p_ in named]
while True:
    if step % 10 == 0:
        v = torch.tensor([(time.time() - t0) / seconds if step < a.maxstep else 1.], device=dev, dtype=torch.float64)
        if world > 1:
            dist.broadcast(v, 0)
        p = v.item()
        if p >= 1:
            break
    if step % 100 == 0:
        scan()
    m = [x if POOLS[k].files else 0 for x, k in zip(mix(p), POOLS)]
    nb = np.random.default_rng(step + 7).multinomial(a.batch, np.array(m) / sum(m))
    tok, flg = (torch.cat(z) for z in zip(*[POOLS[k].take(n) for k, n in zip(POOLS, nb) if n]))
    model.quant = p > a.quant
    loss, parts = forward(tok, flg); loss.backward()
    model.head.weight.grad.mul_(seen[:, None])
    gs = [q.grad for q in params]
    if world > 1:
        flat = torch._utils._flatten_dense_tensors(gs); dist.all_reduce(flat); flat /= world
        for gr, o in zip(gs, torch._utils._unflatten_dense_tensors(flat, gs)):
            gr.copy_(o)
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    lr = min(1, (step + 1) / 120) * (1 if p < .2 else max(.01, 1 - (p - .2) / .8))
    for gr in opt.param_groups:
        gr['lr'] = a.lr * lr * gr['m']
    opt.step(); muon(a.muon * lr); opt.zero_grad(set_to_none=True)
    step += 1; tokens += a.batch * ROW * world; acc.append(torch.stack(parts))
    if p > .9 and step % 5 == 0:
        if ema is None:
            ema = [q.data.clone() for q in params]
        torch._foreach_lerp_(ema, [q.data for q in params], .05)
    if step % 200 == 0 or step in (1, 10, 50):
        x = torch.stack(acc).mean(0).tolist(); acc = []
        say(f'step {step} p {p:.3f} {time.time() - t0:.0f} s text {x[0]:.3f} answer {x[1]:.3f} tags {x[2]:.3f} lr {lr:.3f} tok/s {tokens / (time.time() - t0):.0f} {"" if not cuda else round(torch.cuda.max_memory_allocated() / 2 ** 30, 1)} GB files {sum(len(k.files) for k in POOLS.values())}')
    if step % 1000 == 0 and world > 1:
        for q in params:
            dist.broadcast(q.data, 0)
    if step % a.every == 0:
        say(f'step {step} p {p:.3f} held-out answers {held_loss():.4f}')
    if packs and p > packs[0]:
        packs.pop(0); pack()
say('trained', step, 'steps', tokens / 1e6, 'M tokens', round(time.time() - t0), 's')
if ema is not None:
    for q, x in zip(params, ema):
        q.data.copy_(x)
model.quant = False; pack(); save('final')
model.eval(); S = evaluate.sets(json.load(open(f'{a.rows}/eval.json')), 0 if cuda else 2)
order = ['held-zh', 'held-en', 'cmrc-dev', 'refusal-zh', 'refusal-en', 'refusal-cmrc-dev', 'held-en-squad']
res = {}
for k in order[rank::world]:
    res.update(evaluate.run(model, TK, {k: S[k]}, 5))
    json.dump(res, open(f'{a.out}/figures{rank}.json', 'w'), indent=1)
open(f'{a.out}/done{rank}', 'w').write('ok'); say('DONE')
if world > 1:
    dist.barrier(); dist.destroy_process_group()
