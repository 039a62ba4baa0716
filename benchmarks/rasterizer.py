"""The soft rasterizer against the same algorithm in PyTorch, on dense face meshes at 256 px.

    python -m benchmarks.rasterizer [--rounds=9] [--quick]

Sides: ours; PyTorch eager and compiled (`benchmarks.peers.torch_splat`); numba's hard z-buffer, which is a bound.
All run in this process, in turn, with as many threads as it has cores, in float32, compiled beforehand. XLA's second
thread mostly waits busily, which counts as CPU time: so measure on one core, too (`taskset -c 0`). Image and
gradients are compared before anything is timed. The table goes to docs/performance.md, a section for each number of
cores; with --quick (one mesh, batch 1) it is printed only. Exit code 1: the two do not agree; 2: PyTorch is absent.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

# OpenMP's threads shall not spin for milliseconds where other work wants the core: that would slow PyTorch tenfold.
os.environ.setdefault('GOMP_SPINCOUNT', '1000')

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import meshes, peers, report, timing
from talkinghead_jax.ops import hard_rasterizer, soft_rasterizer

SIZE = 256
OURS, EAGER, COMPILED = 'ours', 'PyTorch eager', 'PyTorch compiled'
WALL_GATE, CPU_GATE, MEMORY_GATE = 0.5, 0.6, 64  # of eager's wall time, of compiled's CPU time, MB at batch 8
EXACT, CLOSE = 1e-9, 1e-3  # largest difference in float64 and float32, relative to the largest value or the norm
# Multiply-adds count as two. Operations a slot: rasterizer.md, Sec. 5; data sheets: TFLOP/s of float32, TB/s.
FORWARD_OPERATIONS, BACKWARD_OPERATIONS = 315, 350
GPUS = {'H100': (67, 3.35), 'H200': (67, 4.8), 'A100': (19.5, 1.56), 'B200': (75, 8.0)}

Outputs = tuple[jax.Array, jax.Array, jax.Array]


class Case(NamedTuple):
    """Inputs and the gradients that arrive at the outputs."""

    name: str
    vertices: np.ndarray  # (B, V, 3)
    triangles: np.ndarray  # (F, 3)
    colours: np.ndarray  # (B, V, 3)
    gradients: tuple[np.ndarray, ...]  # of image, alpha, depth

    @classmethod
    def of(cls, mesh: meshes.Mesh, batch: int, dtype: type = np.float32) -> 'Case':
        rng = np.random.default_rng(0)
        shapes = (batch, SIZE, SIZE, 3), (batch, SIZE, SIZE), (batch, SIZE, SIZE)
        return cls(mesh.name, meshes.posed(mesh, batch).astype(dtype), mesh.triangles,
                   np.repeat(mesh.colours[None], batch, 0).astype(dtype),
                   tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes))


@jax.jit
def _forward(vertices: jax.Array, triangles: jax.Array, colours: jax.Array) -> Outputs:
    return soft_rasterizer.rasterize(vertices, triangles, colours, SIZE)


@jax.jit
def _both(vertices: jax.Array, triangles: jax.Array, colours: jax.Array, gradients: Outputs,
          ) -> tuple[Outputs, tuple[jax.Array, jax.Array]]:
    outputs, backward = jax.vjp(lambda v, c: _forward(v, triangles, c), vertices, colours)
    return outputs, backward(gradients)


class Torch:
    """The peer, on the GPU where JAX has one."""

    def __init__(self, case: Case):
        import torch

        from benchmarks.peers import torch_splat
        self.torch, self.splat = torch, torch_splat
        self.device = 'cpu' if jax.default_backend() == 'cpu' else 'cuda'

        def put(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.array(array)).to(self.device)

        self.vertices, self.colours = put(case.vertices).requires_grad_(), put(case.colours).requires_grad_()
        self.triangles, self.gradients = put(case.triangles).long(), [put(g) for g in case.gradients]

    def forward(self, compiled: bool) -> tuple:
        with self.torch.no_grad():
            return self._finish(self._draw(compiled))

    def both(self, compiled: bool) -> tuple[tuple, tuple]:
        """Outputs and gradients to vertices and colours."""
        self.vertices.grad = self.colours.grad = None
        outputs = self._draw(compiled)
        self.torch.autograd.backward(outputs, self.gradients)
        return self._finish((outputs, (self.vertices.grad, self.colours.grad)))

    def count(self) -> tuple[int, int]:
        """Slots, and those that a triangle reaches."""
        return self.splat.count(self.vertices, self.triangles, SIZE)

    def _draw(self, compiled: bool) -> tuple:
        return self.splat.rasterize(self.vertices, self.triangles, self.colours, SIZE, compiled=compiled)

    def _finish(self, results: tuple) -> tuple:
        if self.device == 'cuda':
            self.torch.cuda.synchronize()
        return results


def differences(case: Case, peer: Torch, compiled: bool) -> dict[str, float]:
    """Largest difference of each output relative to its largest value, of each gradient in norms."""
    outputs, gradients = _both(*map(jnp.asarray, (case.vertices, case.triangles, case.colours)),
                               tuple(map(jnp.asarray, case.gradients)))
    theirs, their_gradients = peer.both(compiled)
    found = {}
    for name, x, y in zip(('image', 'alpha', 'depth'), outputs, theirs, strict=True):
        x, y = np.asarray(x), y.detach().cpu().numpy()
        found[name] = float(np.abs(x - y).max() / np.abs(x).max())
    for name, x, y in zip(('gradient to vertices', 'gradient to colours'), gradients, their_gradients, strict=True):
        x, y = np.asarray(x), y.cpu().numpy()
        found[name] = float(np.linalg.norm(x - y) / np.linalg.norm(x))
    return found


def disagreement(mesh: meshes.Mesh) -> str | None:
    """A sentence that says where the two sides differ, if they do."""
    for dtype, bound, builds in ((np.float64, EXACT, [False]), (np.float32, CLOSE, [False, True])):
        with jax.enable_x64(dtype is np.float64):
            case = Case.of(mesh, 1, dtype)
            peer = Torch(case)
            for compiled in builds:
                for name, found in differences(case, peer, compiled).items():
                    if not found <= bound:
                        return (f'{COMPILED if compiled else EAGER} and ours differ on the {mesh.name} mesh: {name} '
                                f'by {found:.1e} in {np.dtype(dtype)}, want at most {bound:.0e}')
    return None


def sides(case: Case, peer: Torch) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    """Forward and forward+backward calls that block."""
    from benchmarks.peers import zbuffer
    inputs = tuple(jax.device_put(x) for x in (case.vertices, case.triangles, case.colours))
    gradients = tuple(map(jax.device_put, case.gradients))
    bound = functools.partial(zbuffer.rasterize, case.vertices, case.triangles, case.colours, SIZE)
    forward = {OURS: lambda: jax.block_until_ready(_forward(*inputs)), EAGER: lambda: peer.forward(False),
               COMPILED: lambda: peer.forward(True), **_hard(inputs), 'numba z-buffer, 1 thread': bound,
               'numba z-buffer, a thread an image': lambda: bound(parallel=True)}
    both = {OURS: lambda: jax.block_until_ready(_both(*inputs, gradients)), EAGER: lambda: peer.both(False),
            COMPILED: lambda: peer.both(True)}
    return forward, both


def _hard(inputs: tuple[jax.Array, ...]) -> dict[str, Callable[[], object]]:
    """Our own z-buffer."""
    draw = jax.jit(lambda *arrays: hard_rasterizer.rasterize(*arrays, SIZE))
    return {'our z-buffer': lambda: jax.block_until_ready(draw(*inputs))}


def temporary_bytes(case: Case) -> int:
    """XLA's temporary memory of our forward+backward."""
    lowered = _both.lower(case.vertices, case.triangles, case.colours, case.gradients)
    return lowered.compile().memory_analysis().temp_size_in_bytes


def table(samples: dict[str, list[timing.Sample]]) -> str:
    """Milliseconds of each side, and ours as a share of its."""
    rows = ['| side | wall ms | CPU ms | ours / it, wall | ours / it, CPU |', '|---|---|---|---|---|']
    for name, values in samples.items():
        milliseconds = [f'{1000 * timing.median(values, which):.1f}' for which in ('wall', 'cpu')]
        ratios = [f'{timing.ratio(samples, OURS, name, which):.2f}' for which in ('wall', 'cpu')]
        rows.append(f'| {" | ".join([name, *milliseconds, *ratios])} |')
    return '\n'.join(rows)


def floor(case: Case, slots: int, reached: int) -> str:
    """What the slots' operations and the arrays' bytes cost on this GPU at its data sheet's rates."""
    kind = jax.devices()[0].device_kind
    pixels = len(case.vertices) * SIZE ** 2
    traffic = 2 * (case.vertices.nbytes + case.colours.nbytes) + case.triangles.nbytes + 2 * 4 * 5 * pixels
    operations = slots * (FORWARD_OPERATIONS + BACKWARD_OPERATIONS)
    known = [(name, *rates) for name, rates in GPUS.items() if name in kind]
    text = (f'Floor of forward+backward: {operations / 1e9:.2f} G operations, {traffic / 1e6:.1f} MB, '
            f'{reached * 7 / 1e6:.1f} M atomics on pixels')
    if not known:
        return f'{text} (rates of {kind} unknown).'
    name, teraflops, terabytes = known[0]
    return (f'{text}: {operations / teraflops / 1e9:.3f} ms of arithmetic and {traffic / terabytes / 1e9:.3f} ms of '
            f'traffic on an {name} ({teraflops} TFLOP/s, {terabytes} TB/s).')


def gates(measured: list[tuple[str, dict[str, list[timing.Sample]]]], memory: dict[str, int]) -> str:
    """The bars of forward+backward, each judged by its worst case."""
    def line(text: str, values: dict[str, float], bar: float, unit: str) -> str:
        worst = max(values, key=values.get)
        verdict = 'met' if values[worst] <= bar else 'MISSED'
        return f'- {verdict}: {text} at most {bar:g}{unit}; found {values[worst]:.2f}{unit} ({worst})'

    wall = {name: timing.ratio(samples, OURS, EAGER, 'wall') for name, samples in measured}
    cpu = {name: timing.ratio(samples, OURS, COMPILED, 'cpu') for name, samples in measured}
    lines = [line("wall time, of eager PyTorch's", wall, WALL_GATE, '')]
    if jax.default_backend() == 'cpu':
        lines.append(line("CPU time, of compiled PyTorch's", cpu, CPU_GATE, ''))
    if memory:
        lines.append(line('XLA temporary memory at batch 8', {k: v / 1e6 for k, v in memory.items()}, MEMORY_GATE,
                          ' MB'))
    return '\n'.join(lines)


def measure(faces: list[meshes.Mesh], batches: list[int], rounds: int) -> str:
    """The section's text; printed as it grows."""
    parts, measured, memory = [], [], {}
    for mesh in faces:
        for batch in batches:
            case = Case.of(mesh, batch)
            peer = Torch(case)
            slots, reached = peer.count()
            name = f'{mesh.name} mesh, batch {batch}'
            forward, both = (timing.paired(calls, rounds) for calls in sides(case, peer))
            measured.append((name, both))
            if batch == 8:
                memory[name] = temporary_bytes(case)
            parts.append(f'### {name}\n\n{len(mesh.triangles):,} triangles; {slots / batch / 1e6:.2f} M slots an '
                         f'image, {reached / batch / 1e6:.2f} M of them reached.\n\nForward:\n\n{table(forward)}\n\n'
                         f'Forward and backward:\n\n{table(both)}')
            if jax.default_backend() != 'cpu':
                parts.append(floor(case, slots, reached))
            print(parts[-1] + '\n', flush=True)
    verdicts = f'### Bars\n\nForward and backward:\n\n{gates(measured, memory)}'
    print(verdicts)
    return '\n\n'.join([f'{SIZE} px, float32, 3 colours, alpha and depth; gradients to vertices and colours; '
                        f'{rounds} rounds.', verdicts, *parts])


def main() -> int:
    """Compare, measure, write. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--quick', action='store_true', help='one mesh, batch 1, nothing written')
    arguments = parser.parse_args()
    absent = peers.absent()
    if absent:
        print(f'benchmarks.rasterizer: {absent}', file=sys.stderr)
        return 2
    import torch
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    faces = [mesh for mesh in (meshes.synthetic_face(), meshes.prnet_face()) if mesh is not None]
    faces = faces[:1] if arguments.quick else faces
    for mesh in faces:
        sentence = disagreement(mesh)
        if sentence:
            print(f'benchmarks.rasterizer: {sentence}', file=sys.stderr)
            return 1
    text = measure(faces, [1] if arguments.quick else [1, 8], arguments.rounds)
    if not arguments.quick:
        cores = len(os.sched_getaffinity(0))
        where = f'{cores} core{"s" * (cores > 1)}' if jax.default_backend() == 'cpu' else report.device()
        report.write_section(f'Soft rasterizer, {where}', text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
