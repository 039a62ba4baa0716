"""The flow warp against PyTorch's `grid_sample`, at 256 px, in float32.

    python -m benchmarks.flow_warp [--rounds=9]

Both run in this process, in turn, with as many threads as it has cores (`taskset` gives fewer), compiled beforehand;
on a GPU both run there. Ours takes B H W C, PyTorch B C H W, its own fastest. Its time contains what turns px into
its grid. Image and gradients are compared in float64 before anything is timed. The table goes to
docs/performance.md. Exit code 1: the two do not agree; 2: PyTorch is absent or cannot reach JAX's GPU.
"""

import argparse
import os
import sys

# OpenMP's threads shall not spin for milliseconds where other work wants the core: that would slow PyTorch tenfold.
os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import jax
import numpy as np

from benchmarks import peers, report, timing
from talkinghead_jax.ops import flow_warp

SIZE, FLOW = 256, 3.0  # px: of the image; deviation of the flow
CHANNELS, BATCHES, GATE = (3, 32, 128), (1, 8), 0.7
OURS, TORCH = 'ours', 'PyTorch'
EXACT = 1e-10  # largest difference in float64, relative to the largest value
HEAD = """| C | B | pass | ours ms | PyTorch ms | wall ratio | CPU-time ratio | floor MB | ours GB/s |
|---|---|---|---|---|---|---|---|---|"""

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def example(batch: int, channels: int, size: int = SIZE, dtype: type = np.float32) -> Arrays:
    """Image, flow, and the gradient that arrives at the warped image."""
    rng = np.random.default_rng(0)
    shape = batch, size, size, channels
    draws = rng.standard_normal(shape), FLOW * rng.standard_normal((*shape[:3], 2)), rng.standard_normal(shape)
    return tuple(draw.astype(dtype) for draw in draws)


def _pull(image: jax.Array, flow: jax.Array, gradient: jax.Array) -> tuple[jax.Array, ...]:
    warped, back = jax.vjp(flow_warp.warp, image, flow)
    return warped, *back(gradient)


class Ours:
    """The compiled warp on JAX's default device."""

    def __init__(self, arrays: Arrays):
        self.arrays = jax.device_put(arrays)
        self._forward = jax.jit(flow_warp.warp).lower(*self.arrays[:2]).compile()
        self._both = jax.jit(_pull).lower(*self.arrays).compile()

    def forward(self) -> jax.Array:
        return jax.block_until_ready(self._forward(*self.arrays[:2]))

    def both(self) -> tuple[jax.Array, ...]:
        """Warped image and the gradients to image and flow."""
        return jax.block_until_ready(self._both(*self.arrays))


class Torch:
    """`grid_sample` and its autograd: eager, as there is nothing around the one kernel that compiling could fuse."""

    def __init__(self, arrays: Arrays):
        import torch
        self.torch, self.device = torch, 'cpu' if jax.default_backend() == 'cpu' else 'cuda'
        image, flow, gradient = (torch.from_numpy(array).to(self.device) for array in arrays)
        self.image, self.gradient = (x.permute(0, 3, 1, 2).contiguous() for x in (image, gradient))
        self.flow = flow
        height, width = flow.shape[1:3]
        y, x = (torch.arange(size, dtype=flow.dtype, device=self.device) for size in (height, width))
        self.grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), -1)[None]
        self.scale = torch.tensor([2 / (width - 1), 2 / (height - 1)], dtype=flow.dtype, device=self.device)

    def forward(self) -> object:
        with self.torch.no_grad():
            return self._finish(self._warp(self.image, self.flow))

    def both(self) -> tuple:
        """As `Ours.both`, with channels first."""
        image, flow = (x.detach().requires_grad_() for x in (self.image, self.flow))
        warped = self._warp(image, flow)
        return self._finish((warped, *self.torch.autograd.grad(warped, (image, flow), self.gradient)))

    def _warp(self, image: object, flow: object) -> object:
        grid = (self.grid + flow) * self.scale - 1
        return self.torch.nn.functional.grid_sample(image, grid, mode='bilinear', padding_mode='border',
                                                    align_corners=True)

    def _finish(self, results: object) -> object:
        if self.device == 'cuda':
            self.torch.cuda.synchronize()
        return results


def disagreement() -> str | None:
    """A sentence where the two differ in float64, None where they agree. Compares on a small odd-sized image."""
    with jax.enable_x64(True):
        arrays = example(2, 5, 37, np.float64)
        warped, g_image, g_flow = (x.detach().cpu().numpy() for x in Torch(arrays).both())
        wanted = warped.transpose(0, 2, 3, 1), g_image.transpose(0, 2, 3, 1), g_flow
        for name, x, y in zip(('image', 'gradient to the image', 'gradient to the flow'), Ours(arrays).both(), wanted,
                              strict=True):
            difference = float(np.abs(np.asarray(x) - y).max() / np.abs(y).max())
            if not difference <= EXACT:
                return f"{name}: differs from PyTorch's by {difference:.1e}, want at most {EXACT:.0e}"
    return None


def floor_bytes(batch: int, channels: int, both: bool) -> int:
    """Compulsory traffic: forward reads image and flow and writes the image; backward reads image, flow and gradient
    and writes two gradients (rasterizer.md, Sec. 6)."""
    return 4 * batch * SIZE * SIZE * ((5 * channels + 6) if both else (2 * channels + 2))


def rows(batch: int, channels: int, rounds: int) -> tuple[list[str], float]:
    """Two lines of the table, and the wall ratio of forward and backward."""
    arrays = example(batch, channels)
    ours, torch = Ours(arrays), Torch(arrays)
    lines = []
    for title, sides in (('forward', {OURS: ours.forward, TORCH: torch.forward}),
                         ('forward + backward', {OURS: ours.both, TORCH: torch.both})):
        samples = timing.paired(sides, rounds)
        milliseconds = [1e3 * timing.median(samples[side]) for side in (OURS, TORCH)]
        wall, cpu = (timing.ratio(samples, OURS, TORCH, which) for which in ('wall', 'cpu'))
        traffic = floor_bytes(batch, channels, title != 'forward')
        figures = *milliseconds, wall, cpu, traffic / 1e6, traffic / milliseconds[0] / 1e6
        lines.append(f'| {channels} | {batch} | {title} | ' + ' | '.join(f'{x:.2f}' for x in figures) + ' |')
        print(lines[-1], flush=True)
    return lines, wall


def measure(rounds: int) -> str:
    """The section's text."""
    print(HEAD)
    lines, verdicts = [HEAD], []
    for batch in BATCHES:
        for channels in CHANNELS:
            pair, wall = rows(batch, channels, rounds)
            lines += pair
            verdicts.append(f'B = {batch}, C = {channels}: {wall:.2f} ({"met" if wall <= GATE else "MISSED"})')
    verdict = f'Bar: forward and backward at most {GATE} of PyTorch\'s wall time. {"; ".join(verdicts)}.'
    print(verdict)
    return (f'{SIZE} px, float32, flow of {FLOW:g} px deviation, gradients to image and flow; {rounds} rounds. '
            "Ratios are ours to PyTorch's. The floor is what must be read and written at least once; GB/s is it over "
            f'our time.\n\n{verdict}\n\n' + '\n'.join(lines))


def main() -> int:
    """Compare, measure, write. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=9)
    arguments = parser.parse_args()
    absent = peers.absent()
    if absent:
        print(f'benchmarks.flow_warp: {absent}', file=sys.stderr)
        return 2
    import torch
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sentence = disagreement()
    if sentence:
        print(f'benchmarks.flow_warp: {sentence}', file=sys.stderr)
        return 1
    report.write_section('Flow warp', measure(arguments.rounds))
    return 0


if __name__ == '__main__':
    sys.exit(main())
