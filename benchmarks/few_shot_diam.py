"""DIaM at the size of the OpenEarthMap challenge: closed form against autograd over einsum.

    python benchmarks/few_shot_diam.py [--channels 512] [--grid 128] [--support 20] [--novel 4]

The baseline is the same loss the usual way: logits by einsum over a middle axis, base and novel
rows as parameters of their own, a graph per query, the base's probabilities computed anew at each
step. It runs a few steps and is scaled to all of them. Both run on one thread; memory is what the
work adds to the inputs at its peak.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from covermap.learning.diam import DiamConfig, adapt

BASE, EPS = 8, 1e-10


def make(args: argparse.Namespace, queries: int) -> dict[str, Tensor]:
    """Random features and labels of the size asked for."""
    generator = torch.Generator().manual_seed(0)
    grid = (args.grid, args.grid)

    def features(count: int) -> Tensor:
        return torch.rand(count, args.channels, *grid, generator=generator)

    labels = torch.zeros(args.support, *(8 * side for side in grid), dtype=torch.uint8)
    for image in range(args.support):
        labels[image, : 2 * args.grid, : 2 * args.grid] = BASE + image % args.novel
    return {
        "support": features(args.support),
        "labels": labels,
        "queries": features(queries).to(args.device),
        "weight": torch.randn(BASE, args.channels, generator=generator) / args.channels,
        "bias": torch.zeros(BASE),
    }


def by_autograd(data: dict[str, Tensor], novel: int, steps: int, rate: float = 0.00125) -> Tensor:
    """The loss of DIaM for each query, with a graph; the adapted weights (T, K, C)."""
    support, queries = data["support"], data["queries"]
    grid = support.shape[-2:]
    label = F.interpolate(data["labels"][:, None].float(), grid, mode="nearest")[:, 0].long()
    kinds = (label - BASE + 1).clamp_min(0).to(support.device)
    hot = F.one_hot(kinds, novel + 1).permute(0, 3, 1, 2).float()
    found = torch.einsum("schw,snhw->nc", support, hot[:, 1:])
    found = found / (hot[:, 1:].sum((0, 2, 3))[:, None] + EPS)
    found = found / (found.norm(dim=1, keepdim=True) + EPS)
    count, fixed, fixed_bias = len(queries), data["weight"], data["bias"]
    rows = [fixed.clone(), fixed_bias.clone()]
    rows = [row.repeat(count, *[1] * row.ndim) for row in (*rows, found, found.new_zeros(novel))]
    for row in rows:
        row.requires_grad_()

    def scores(features: Tensor) -> Tensor:
        """(T, S, C, h, w) -> (T, S, K, h, w); base and novel rows are parameters of their own."""
        parts = [
            torch.einsum("tschw,tkc->tskhw", features, weight) + bias[:, None, :, None, None]
            for weight, bias in ((rows[0], rows[1]), (rows[2], rows[3]))
        ]
        return torch.cat(parts, 2)

    factor = torch.ones(novel + 1, device=support.device)
    factor[0] = 0.15
    target = None

    for step in range(1, steps + 1):
        p = scores(support[None].expand(count, -1, -1, -1, -1)).softmax(2)
        p = torch.cat([p[:, :, :BASE].sum(2, keepdim=True), p[:, :, BASE:]], 2)
        each = -(hot * factor[:, None, None] * (p + EPS).log()).sum(2)
        ce = each.mean((1, 2, 3))
        q = scores(queries[:, None])[:, 0].softmax(1)
        mean = q.mean((2, 3))
        if target is None or step == 11:
            target = mean.detach()
        kl = (mean * (EPS + mean / (target + EPS)).log()).sum(1)
        entropy = -(q * (q + EPS).log()).sum(1).mean((1, 2))
        before = torch.einsum("kc,tchw->tkhw", fixed, queries) + fixed_bias[:, None, None]
        before = before.softmax(1)
        kept = torch.cat([q[:, :1] + q[:, BASE:].sum(1, keepdim=True), q[:, 1:BASE]], 1)
        keep = (kept * (EPS + kept / (before + EPS)).log()).sum(1).mean((1, 2))
        total = (100 * ce + kl + entropy + 100 * keep).sum()
        for row, change in zip(rows, torch.autograd.grad(total, rows), strict=True):
            row.data -= rate * change
    return torch.cat([rows[0], rows[2]], 1).detach()


def closed(data: dict[str, Tensor], novel: int, steps: int) -> Tensor:
    """The same with covermap."""
    names = [f"new {index}" for index in range(novel)]
    config = DiamConfig(iterations=steps)
    arrays = (data[key] for key in ("support", "labels", "queries", "weight", "bias"))
    return adapt(*arrays, novel_classes=names, config=config).weight


def measure(args: argparse.Namespace, way: str, queries: int, steps: int) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of one way, in a process of its own."""
    command = [
        *(sys.executable, __file__, "--one", way, "--queries", str(queries)),
        *("--steps", str(steps), "--channels", str(args.channels), "--grid", str(args.grid)),
        *("--support", str(args.support), "--novel", str(args.novel), "--device", args.device),
    ]
    single = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=single)
    names = ("wall", "cpu", "memory")
    return dict(zip(names, map(float, done.stdout.split()), strict=True))


def one(args: argparse.Namespace) -> None:
    """Run one way and write wall seconds, CPU seconds and peak memory beyond the inputs (bytes)."""
    data = {key: value.to(args.device) for key, value in make(args, args.queries).items()}
    way = closed if args.one == "closed" else by_autograd
    cuda = args.device == "cuda"
    if cuda:
        way(data, args.novel, 2)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else _peak()
    wall, cpu = time.perf_counter(), time.process_time()
    way(data, args.novel, args.steps)
    if cuda:
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    after = torch.cuda.max_memory_allocated() if cuda else _peak()
    sys.stdout.write(f"{wall} {cpu} {after - before}\n")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def compare(args: argparse.Namespace) -> float:
    """Largest difference of the two ways' weights after five steps, on a small grid."""
    small = argparse.Namespace(**{**vars(args), "grid": 16})
    data = {key: value.to(args.device) for key, value in make(small, 2).items()}
    return float((closed(data, args.novel, 5) - by_autograd(data, args.novel, 5)).abs().max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--grid", type=int, default=128)
    parser.add_argument("--support", type=int, default=20)
    parser.add_argument("--novel", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--baseline-steps", type=int, default=5)
    parser.add_argument("--one", choices=("closed", "autograd"), help=argparse.SUPPRESS)
    parser.add_argument("--queries", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=100, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args)
        return
    inputs = args.support * args.channels * args.grid**2 * 4
    size = f"{args.support} × {args.channels} × {args.grid}²"
    print(f"support features: {size}, {inputs / 2**20:.0f} MiB")
    print(f"largest difference of weights after 5 steps: {compare(args):.1e}")
    print("\nper query, 100 steps; peak in sizes of the support features\n")
    print("| way | queries | CPU s | wall s | baseline / CPU | peak beyond inputs |")
    print("|---|---:|---:|---:|---:|---:|")
    base = 0.0
    for way, queries, steps in (
        ("autograd", 1, args.baseline_steps),
        ("closed", 1, 100),
        ("closed", 4, 100),
        ("closed", 8, 100),
    ):
        found = measure(args, way, queries, steps)
        scale = 100 / steps / queries
        cpu, wall = found["cpu"] * scale, found["wall"] * scale
        base = base or cpu
        print(
            f"| {way} | {queries} | {cpu:.1f} | {wall:.1f} | {base / cpu:.1f} | "
            f"{found['memory'] / inputs:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
