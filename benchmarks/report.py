"""docs/performance.md: what the benchmarks measured, where and with what. Each benchmark writes its own section."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import re

import jax

from talkinghead_jax import files

PATH = pathlib.Path(__file__).resolve().parent.parent / 'docs' / 'performance.md'
PACKAGES = ('jax', 'jaxlib', 'torch', 'numba')


def write_section(title: str, text: str, path: str | os.PathLike = PATH) -> None:
    """Put `text` (Markdown) into the section `## title` of the report, in the old one's place or at the end.

    The head is written anew and describes this run; each section keeps the day and the device of its own run.

    Raises:
      UserError: the file cannot be written.
    """
    path = pathlib.Path(path)
    sections = _sections(path.read_text()) if path.exists() else {}
    sections[title] = f'Measured on {_today()}, {device()}.\n\n{text.strip()}'
    body = '\n\n'.join(f'## {name}\n\n{content}' for name, content in sections.items())
    files.write_atomically(path, f'{_head()}\n\n{body}\n'.encode())


def device() -> str:
    """The GPU that JAX computes on, or else the processor and its cores."""
    first = jax.devices()[0]
    return f'{first.device_kind} ({first.platform})' if first.platform != 'cpu' else _processor()


def _sections(report: str) -> dict[str, str]:
    """Title -> text of each second-level section, in their order."""
    parts = re.split(r'^## (.+)\n', report, flags=re.MULTILINE)[1:]
    return {title.strip(): text.strip() for title, text in zip(parts[::2], parts[1::2], strict=True)}


def _head() -> str:
    versions = ', '.join(f'{name} {_version(name)}' for name in PACKAGES)
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30
    machine = ', '.join(dict.fromkeys([device(), _processor()]))
    return f"""# Performance

`make bench` writes this file: it installs PyTorch beside this project into `.venv-bench` and measures. The last
section written was measured so:

- machine: {machine}, {memory:.0f} GiB of memory
- system: {platform.system()} {platform.release()}, Python {platform.python_version()}
- versions: {versions}
- day: {_today()}

Ratios are medians over rounds that time every side once, so that other work on the machine meets all alike. CPU time
is that of all threads."""


def _today() -> str:
    return datetime.date.today().isoformat()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return 'absent'


def _processor() -> str:
    """The processor's name, which only Linux's /proc/cpuinfo tells in full, and its cores."""
    name = platform.processor() or platform.machine()
    information = pathlib.Path('/proc/cpuinfo')
    if information.exists():
        found = re.search(r'^model name\s*:\s*(.+)$', information.read_text(), flags=re.MULTILINE)
        if found:
            name = found[1].strip()
    return f'{name}, {len(os.sched_getaffinity(0))} cores'
