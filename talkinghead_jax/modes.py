"""Modes of `launch.py` that need neither media nor TensorFlow: what becomes of results, networks and videos."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from talkinghead_jax import command_line, timings
from talkinghead_jax.errors import UserError

# JAX is imported inside the functions, so that a wrong flag is answered at once.


def report(config: ConfigDict, workdir: pathlib.Path) -> None:
    """The pages and the printed table, from what `evaluate`, `train` and `generate` left in the workdir."""
    from talkinghead_jax import evaluation, identity_study
    from talkinghead_jax.report import whole_videos
    from talkinghead_jax.stages.registry import STAGES
    found = {name: evaluation.load(workdir / 'evaluation', name) for name in (*STAGES, identity_study.NAME)}
    found = {name: result for name, result in found.items() if result}
    videos = whole_videos.page(workdir / 'evaluation', f'talkinghead_jax: {config.name}, whole videos')
    if not found and not videos:
        raise UserError(f'{workdir / "evaluation"} holds no results; run --mode=evaluate first')
    if found:  # not after --generated alone
        _stages_report(config, workdir, found)
    if videos:
        print(f'whole videos: {videos}')


def _stages_report(config: ConfigDict, workdir: pathlib.Path, found: dict[str, Any]) -> None:
    """The page and the table of the stages' results."""
    import jax

    from talkinghead_jax.report import ablations, page, table
    from talkinghead_jax.stages.registry import STAGES
    from talkinghead_jax.train import history
    page.write_report(
        workdir / 'report.html', found, {name: history.read(workdir, name) for name in STAGES},
        timings=timings.read(workdir), videos=[workdir / 'out.mp4', workdir / 'out_concat.mp4'],
        title=f'talkinghead_jax: {config.name}',
        facts={'config': config.name, 'image size': f'{config.image_size} px', 'jax': jax.__version__,
               'device': jax.devices()[0].device_kind}, ablations=ablations.section(workdir / 'study'))
    print(table.text_table(found))
    print(f'report: {workdir / "report.html"}, {workdir / "report.json"}\ncheckpoints: {workdir / "checkpoints"}')


def export(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Every trained stage for use without this program: weights for Orbax, networks as StableHLO."""
    from talkinghead_jax import export as exporting
    from talkinghead_jax.train import checkpoint
    # Where nothing is trained, the first stage says so.
    for name in [name for name in config.stages if checkpoint.exists(workdir, name)] or config.stages:
        print(exporting.export(workdir, name, workdir / 'export' / name))


def compare(config: ConfigDict | None, workdir: pathlib.Path) -> None:
    """Two evaluations of the same clips, clip by clip."""
    from talkinghead_jax.protocols import results
    from talkinghead_jax.report import comparison
    del config
    if len(command_line.RUNS.value) != 2:
        raise UserError(f'--mode=compare found {len(command_line.RUNS.value)} --runs; want --runs=FOLDER,FOLDER')
    first, second = (results.load(folder) for folder in command_line.RUNS.value)
    print(comparison.write(workdir / 'comparison', first, second, command_line.RUNS.value))


def user_study(config: ConfigDict | None, workdir: pathlib.Path) -> None:
    """A page on which people rate videos of several methods, blind (paper, Sec. 6)."""
    from talkinghead_jax.user_study import markup, page
    del config
    folders = command_line.folders(command_line.VIDEOS.value, 'videos')
    consent = _text(command_line.CONSENT.value) if command_line.CONSENT.value else markup.CONSENT
    print(page.write(workdir / 'user_study' / 'index.html', folders, per_clip=command_line.PER_CLIP.value,
                     consent=consent))
    if not command_line.CONSENT.value:
        print('what raters agree to is a draft, which says what to put there; give your own by --consent=FILE')


def _text(path: str) -> str:
    """The text in the file of --consent."""
    try:
        text = pathlib.Path(path).read_text('utf-8').strip()
    except OSError as error:
        raise UserError(f'--consent={path}: {error.strerror}; want a text file') from error
    except UnicodeDecodeError as error:
        raise UserError(f'--consent={path} is no text in UTF-8; want a text file') from error
    if not text:
        raise UserError(f'--consent={path} is empty; want what raters agree to')
    return text


def ratings(config: ConfigDict | None, workdir: pathlib.Path) -> None:
    """The answers of the raters as a chart (Fig. 10b) and a table."""
    from talkinghead_jax.user_study import answers, chart, page
    del config
    folder = workdir / 'user_study'
    print(chart.write(folder, answers.read(command_line.INPUT.value, folder / page.KEY)))
