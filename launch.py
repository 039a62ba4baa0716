"""The only entry point: prepare data, train, evaluate, and make videos.

    python launch.py --config=configs/NAME.py[:STAGE] [--workdir=runs/NAME] [--mode=MODE[,MODE...]]

Modes: `prepare` (data into TFRecords; with --input, clips of one's own into clip records), `train`, `evaluate`,
`report`, `study` (ablations), `motion` (how the heads of the dataset move), `generate`, `export` (trained networks
for use without this program), and `convert` (a published network's weight file; needs no --config). A user's mistake
ends in one sentence and exit code 2; a run that SIGTERM stopped, saved, in 143: the same command goes on.

On many hosts, run the same command on each, with --distributed, and with a --workdir that all of them see.
"""

import os
import sys
import traceback

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # before anything imports TensorFlow
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # it would announce itself
os.environ.setdefault('GLOG_minloglevel', '2')  # MediaPipe

import functools
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from talkinghead_jax import files, timings
from talkinghead_jax.errors import UserError
from talkinghead_jax.synthesis import request

# JAX, TensorFlow and MediaPipe are imported inside the functions, so that a wrong flag is answered at once.

_CONFIG = config_flags.DEFINE_config_file('config', None, 'configs/NAME.py[:STAGE]', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'where everything is written; by default runs/NAME')
_MODE = flags.DEFINE_list('mode', ['train'],
                          'what to do, in this order; of prepare, train, evaluate, report, study, motion, generate, '
                          'export, convert')
_INPUT = flags.DEFINE_multi_string('input', [], 'prepare: a video of one face that speaks; may be repeated; '
                                   'convert: the published weight file')
_NETWORK = flags.DEFINE_string('network', '', 'convert: the published network, as in --network=vgg19')
_LANDMARKER = flags.DEFINE_string('landmarker', '', "MediaPipe's face_landmarker.task")
_MAX_QUARANTINE = flags.DEFINE_float('max_quarantine', None, 'prepare: share of the clips that may be unusable; '
                                     'beyond it, preparation ends with an error', 0, 1)
_PREVIEW = flags.DEFINE_integer('preview', 0, 'prepare: then draw so many clips and what was left out, as a page', 0)
_DISTRIBUTED = flags.DEFINE_bool('distributed', False, 'this is one of many processes, and the cluster (Cloud TPU, '
                                 'SLURM, Open MPI) tells which')
_COORDINATOR = flags.DEFINE_string('coordinator_address', '', 'HOST:PORT of process 0, where no cluster tells it')
_PROCESSES = flags.DEFINE_integer('num_processes', None, 'how many processes there are, for --coordinator_address', 1)
_PROCESS = flags.DEFINE_integer('process_id', None, 'which of them this is, from 0', 0)
_SPEAKERS = flags.DEFINE_list('speakers', [], 'motion: whom to draw; by default those with the most clips')

request.define_flags()
flags.adopt_module_key_flags(request)  # so that --help shows them


def main(argv: list[str]) -> int:
    """Run the modes that the command line asks for; returns the exit code."""
    try:
        config, workdir = _parse(argv)
        _set_up(workdir)
    except UserError as error:
        print(f'launch.py: {error}', file=sys.stderr)
        return 2
    from talkinghead_jax.train import hosts
    from talkinghead_jax.train.preemption import PreemptedError
    try:
        for mode in _MODE.value:
            if mode == 'train' or hosts.is_main():  # training alone is spread over processes
                MODES[mode](config, workdir)
            hosts.wait_for_all(mode)
        return 0
    except (UserError, PreemptedError) as error:
        print(f'launch.py: {error}', file=sys.stderr)
        return hosts.leave(2) if isinstance(error, UserError) else error.exit_code
    except Exception:
        traceback.print_exc()
        return hosts.leave(1)


def _parse(argv: list[str]) -> tuple[ConfigDict, pathlib.Path]:
    """Flags -> (config, absolute workdir); every way of getting a flag wrong becomes one sentence."""
    app.define_help_flags()
    path = _value(argv, 'config').partition(':')[0]
    without = any(a.startswith('--help') for a in argv) or _value(argv, 'mode') == 'convert'
    if not without and not pathlib.Path(path).is_file():
        raise UserError(f'--config={path}: no such file; want --config=configs/NAME.py' if path else
                        'flag --config is missing; want --config=configs/NAME.py')
    try:
        rest = flags.FLAGS(argv)[1:]
        config = _CONFIG.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
        # absl puts a traceback before the line that names the mistake.
        last = str(error).strip().splitlines()[-1].replace('\\n', '. ').replace('\\', '')
        raise UserError(last.removeprefix('ValueError: ')) from error
    if rest:
        raise UserError(f'unexpected argument {rest[0]!r}; want only flags, as in --mode=train')
    for mode in _MODE.value:
        if mode not in MODES:
            raise UserError(f'--mode={mode}: unknown; want one of {", ".join(MODES)}')
    if _PREVIEW.value and 'prepare' not in _MODE.value:
        raise UserError(f'--preview={_PREVIEW.value} is a part of --mode=prepare; add that mode, or leave it out')
    if config and _LANDMARKER.value:
        config.data.landmarker = _LANDMARKER.value
    if config and _MAX_QUARANTINE.value is not None:
        config.data.max_quarantine = _MAX_QUARANTINE.value
    return config, pathlib.Path(
        _WORKDIR.value or (f'runs/{config.name}' if config else files.cache_folder())).absolute()


def _value(argv: list[str], name: str) -> str:
    """What follows the first --NAME, before absl has parsed anything; '' where it is not there."""
    found = (after if equals else argv[i + 1] if i + 1 < len(argv) else ''
             for i, (flag, equals, after) in enumerate(a.partition('=') for a in argv)
             if flag.lstrip('-') == name and flag.startswith('-'))
    return next(found, '')


def _set_up(workdir: pathlib.Path) -> None:
    """Make the workdir, and keep compiled programs for the next run."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--workdir={workdir}: {error.strerror}; want a folder that can be written') from error
    if not os.access(workdir, os.W_OK):
        raise UserError(f'--workdir={workdir}: permission denied; want a folder that can be written')
    logging.basicConfig(format='%(message)s')
    logging.getLogger('absl').setLevel(logging.ERROR)  # Orbax and TFDS tell much that no user can act on
    import jax
    jax.config.update('jax_compilation_cache_dir', str(files.cache_folder() / 'xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
    if _DISTRIBUTED.value or _COORDINATOR.value or _PROCESSES.value is not None or _PROCESS.value is not None:
        from talkinghead_jax.train import hosts
        hosts.start(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)


def prepare(config: ConfigDict, workdir: pathlib.Path) -> None:
    """The config's dataset into TFRecords; with --input, clips of one's own into clip records."""
    from input_pipeline import prepare as preparation
    folder = _data_directory(config, workdir)
    if _INPUT.value:
        records, refused = preparation.prepare_inputs(_INPUT.value, config, folder)
        for record in records:
            print(f'{record["clip_id"]}: {len(record["pose"])} frames, face found in '
                  f'{record["detected"].mean():.0%}, key frame {record["key_frame"]}; kept in {folder / "cache"}')
        for refusal in refused:
            print(f'{refusal.path}: not used ({refusal.reason}): {refusal.detail}')
        return
    with timings.timed(workdir, 'prepare'):
        summary = preparation.prepare(config, folder)
    print(preparation.described(summary, folder))
    if _PREVIEW.value:
        _preview(config, workdir, folder)


def _preview(config: ConfigDict, workdir: pathlib.Path, folder: pathlib.Path) -> None:
    """A page that shows what was prepared, and what was left out."""
    from input_pipeline import quarantine, thumbnails
    from talkinghead_jax.report import preview
    dataset = _open_dataset(config, workdir)
    splits = dataset.splits('clips') or dataset.splits('position_maps')
    print('preview: ' + str(preview.write(
        workdir / 'preview', splits, dataset.metadata, _decoder(config.image_size), _PREVIEW.value, config.seed,
        quarantine.read(folder / quarantine.TABLE), thumbnails.thumbnail,
        title=f'talkinghead_jax: {config.name}, prepared data')))


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Every stage of `config.stages` from its last checkpoint to its last step."""
    import jax

    from input_pipeline import loader
    from talkinghead_jax.stages import published, registry
    from talkinghead_jax.train import checkpoint, hosts, loop, warm_start
    dataset = _open_dataset(config, workdir)
    stages = [registry.make_stage(name, config, dataset.axes) for name in config.stages]
    networks = [published.load(stage) for stage in stages]  # what is missing is told before hours of training
    fresh = [config.start and not checkpoint.exists(workdir, name) for name in config.stages]
    starts = [warm_start.weights(config.start, stage, dataset.metadata) if new else None
              for stage, new in zip(stages, fresh, strict=True)]
    for stage, frozen, start in zip(stages, networks, starts, strict=True):
        batches = functools.partial(loader.training_batches, dataset, stage.name, config,
                                    process_index=jax.process_index(), process_count=jax.process_count())
        with timings.timed(workdir if hosts.is_main() else None, f'train {stage.name}'):
            loop.train(stage, config, {**dataset.metadata, **frozen}, batches, workdir, initial=start)


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Every stage on held-out data, beside its baselines; what is known already is not computed again."""
    import tqdm

    from input_pipeline import detection, loader
    from talkinghead_jax import evaluation, identity_study
    from talkinghead_jax.synthesis.network import restore
    dataset = _open_dataset(config, workdir)
    with detection.detector(config.data.landmarker) as detector:
        for name in config.stages:
            network, inference = restore(workdir, name)
            if name == 'head_motion':
                identity_study.update(workdir, network, inference, dataset.records('clips', 'test'))
            done = evaluation.load(workdir / 'evaluation', name)
            lacks_detector = evaluation.NEEDS_DETECTOR in (done.notes.values() if done else ())
            if done and done.digest == inference.digest and not (detector and lacks_detector):
                continue
            batches = loader.evaluation_batches(dataset, name, inference.config, 'test')
            with timings.timed(workdir, f'evaluate {name}'):
                evaluation.save(workdir / 'evaluation', evaluation.evaluate(
                    network.stage, inference, network.frozen, batches, step=inference.step, detector=detector,
                    progress=functools.partial(tqdm.tqdm, desc=f'evaluate {name}', unit='batch')))
    report(config, workdir)


def report(config: ConfigDict, workdir: pathlib.Path) -> None:
    """The page and the printed table, from what `evaluate`, `train` and `generate` left in the workdir."""
    import jax

    from talkinghead_jax import evaluation, identity_study
    from talkinghead_jax.report import ablations, page, table
    from talkinghead_jax.stages.registry import STAGES
    from talkinghead_jax.train import history
    found = {name: evaluation.load(workdir / 'evaluation', name) for name in (*STAGES, identity_study.NAME)}
    found = {name: result for name, result in found.items() if result}
    if not found:
        raise UserError(f'{workdir / "evaluation"} holds no results; run --mode=evaluate first')
    page.write_report(
        workdir / 'report.html', found, {name: history.read(workdir, name) for name in STAGES},
        timings=timings.read(workdir), videos=[workdir / 'out.mp4', workdir / 'out_concat.mp4'],
        title=f'talkinghead_jax: {config.name}',
        facts={'config': config.name, 'image size': f'{config.image_size} px', 'jax': jax.__version__,
               'device': jax.devices()[0].device_kind}, ablations=ablations.section(workdir / 'study'))
    print(table.text_table(found))
    print(f'report: {workdir / "report.html"}, {workdir / "report.json"}\ncheckpoints: {workdir / "checkpoints"}')


def study(config: ConfigDict, workdir: pathlib.Path) -> None:
    """The ablations of the generator (Fig. 10a) at equal budget; several processes may share the work."""
    from input_pipeline import detection, loader
    from talkinghead_jax import study as studies
    from talkinghead_jax.report import ablations
    dataset = _open_dataset(config, workdir)
    speakers = loader.evaluation_speakers(dataset, studies.STAGE, config, 'test')
    training, held_out = (functools.partial(batches, dataset, studies.STAGE, config)
                          for batches in (loader.training_batches, loader.evaluation_batches))
    data = studies.Data(dataset.axes, dataset.metadata, training, functools.partial(held_out, 'test'), speakers)
    with detection.detector(config.data.landmarker) as detector, timings.timed(workdir, 'study'):
        found = studies.run_all(config, workdir / 'study', data, detector)
    print(ablations.write(workdir / 'study', found, speakers))
    if list((workdir / 'evaluation').glob('*.json')):
        report(config, workdir)


def motion(config: ConfigDict, workdir: pathlib.Path) -> None:
    """How the heads of the prepared dataset move: Fig. 3 of the paper, and a table of every clip."""
    import tqdm

    from talkinghead_jax.report import motion as drawing
    dataset = _open_dataset(config, workdir)
    print(drawing.write(workdir / 'motion', dataset.splits('clips'), _decoder(config.image_size), _SPEAKERS.value,
                        functools.partial(tqdm.tqdm, desc='read motion', unit='clip')))
    print('\n'.join(str(workdir / 'motion' / name) for name in drawing.FILES))


def generate(config: ConfigDict, workdir: pathlib.Path) -> None:
    """A video of the source saying the speech; without --source, of a held-out speaker of the config's dataset."""
    from talkinghead_jax.synthesis import controls, provenance
    from talkinghead_jax.synthesis.network import restore
    values = flags.FLAGS
    inputs = {name: values[name].value for name in ('source', 'audio', 'driving', 'ref_pose') if values[name].value}
    request.check(inputs, values.pose, values.preprocess, values.output, values.finetune_steps, values.finetune_size)
    choice = controls.Controls(values.pose, values.pose_scale, values.expression_scale, values.blink_rate,
                               values.blink_seed)
    if 'driving' in inputs:
        controls.check_driving(choice)
    used = ['expression', 'head_motion', 'generator', *([] if inputs else ['unprojection'])]
    networks = {name: restore(workdir, name) for name in used}
    checkpoints = {name: f'{inference.step} {inference.digest}' for name, (_, inference) in networks.items()}
    output = pathlib.Path(values.output or workdir / 'out.mp4').absolute()
    # Made here, because it refuses an impossible size before the long work.
    tuning = _tuning(config, inputs, networks['generator'][1]) if values.finetune_steps else None
    about = provenance.provenance(inputs, config.seed, {
        'pose': choice.pose or 'default', 'pose_scale': choice.pose_scale, 'preprocess': values.preprocess,
        'expression_scale': choice.expression_scale, 'finetune_steps': values.finetune_steps,
        'finetune_size': values.finetune_size, 'finetune': tuning and tuning.generator.to_dict(),
        'references': values.references, 'blink_rate': choice.blink_rate,
        'blink_seed': choice.blink_seed}, checkpoints)
    if request.is_current(output, about):
        print(f'up to date: {output}, {request.concat_path(output)}')
        return

    material = _material(config, workdir, inputs, networks)
    if not inputs.get('driving'):
        controls.pose_mode(choice, material['source'], material['reference'])  # refuse before the long work
    theta = _theta(config, tuning, workdir, networks['generator'], material['source'], output)
    if inputs.get('driving'):
        frontal, pose = controls.drive(material['source'], material['driver'], choice)
    else:
        frontal, pose = controls.speak(networks['expression'][0], networks['head_motion'][0], material['source'],
                                       material['audio'], choice, material['reference'])
    _write_videos(output, theta, material, frontal, pose, about)
    if output == workdir / 'out.mp4' and list((workdir / 'evaluation').glob('*.json')):
        report(config, workdir)  # once more, now with the video
    print(f'video: {output}\nside by side: {request.concat_path(output)}')


def _material(config: ConfigDict, workdir: pathlib.Path, inputs: dict[str, str],
              networks: dict[str, Any]) -> dict[str, Any]:
    """What a video is made of: records of source, driver and reference, the speech, and the true video if any."""
    if inputs:
        from input_pipeline import sources
        return sources.material(inputs, config, _data_directory(config, workdir))
    from talkinghead_jax.synthesis import mesh
    dataset = _open_dataset(config, workdir)
    source, speech = dataset.read('test', 0), dataset.read('test', dataset.size('test') - 1)
    decode = _decoder(config.image_size)
    if len(source['mesh_vertices']) == dataset.metadata.get('uv_mask', np.zeros(0)).sum():
        # The mesh is lifted as it would be in use, not taken from the ground truth.
        source = mesh.unproject(networks['unprojection'][0], source, decode)
    return {'source': source, 'audio': speech['audio'], 'truth': map(decode, speech['video']), 'reference': None}


def _theta(config: ConfigDict, tuning: ConfigDict | None, workdir: pathlib.Path, trained: tuple,
           source: dict[str, Any], output: pathlib.Path) -> Any:
    """The generator for the source's mesh topology, fine-tuned if the user asks for it."""
    from input_pipeline import detectors
    from talkinghead_jax.synthesis.network import make_network
    network, inference = trained
    frozen = dict(network.frozen)
    if flags.FLAGS.source:  # real clips carry the tracked points; the networks do not know the topology
        frozen['triangles'] = detectors.triangles(detectors.find(config))
    if tuning:
        return _finetune(config, tuning, workdir, inference, frozen, source, output)
    return make_network('generator', inference, frozen, len(source['mesh_vertices']))


def _finetune(config: ConfigDict, tuning: ConfigDict, workdir: pathlib.Path, inference: Any,
              frozen: dict[str, Any], source: dict[str, Any], output: pathlib.Path) -> Any:
    """Adapt the generator to the source clip but for its last quarter, and show how it does on that quarter."""
    import dataclasses

    from input_pipeline import detection, loader
    from talkinghead_jax.synthesis import finetune, holdout
    from talkinghead_jax.synthesis.network import make_network, stage_axes
    vertices = len(source['mesh_vertices'])
    seen, unseen = holdout.split(source)
    tuned = finetune.adapt(inference, frozen, tuning, stage_axes(frozen, vertices),
                           functools.partial(loader.record_batches, [seen], 'generator', tuning),
                           workdir / 'finetuned' / finetune.name_of(source, inference.digest, tuning))
    networks = {'before': make_network('generator', dataclasses.replace(inference, config=tuning), frozen, vertices),
                f'after {tuned.step} steps': make_network('generator', tuned, frozen, vertices)}
    name, network = list(networks.items())[-1]
    if unseen['detected'].any():  # in a short clip nothing is left to score
        with detection.detector(config.data.landmarker) as detector:
            score = holdout.score(networks, seen, unseen, _decoder(tuning.image_size), detector)
        finetune.report(score, name, len(seen['video']), output)
    return network


def _tuning(config: ConfigDict, inputs: dict[str, str], inference: Any) -> ConfigDict:
    """The settings of --finetune_steps, checked."""
    from input_pipeline import media
    from talkinghead_jax.synthesis import finetune
    if media.is_image(inputs.get('source', '')):
        raise UserError('--finetune_steps needs a clip, and --source is one picture; leave --finetune_steps out')
    settings = ConfigDict(config.finetune.to_dict())
    if not config.generator.losses.perceptual.weight:  # here the user can do without VGG19's weights
        settings.update({'losses': {'perceptual': {'weight': 0.0}}})
    return finetune.configure(inference.config, settings, flags.FLAGS.finetune_steps, flags.FLAGS.finetune_size)


def _write_videos(output: pathlib.Path, theta: Any, material: dict[str, Any], frontal: Any, pose: Any,
                  about: dict[str, Any]) -> None:
    """The result and the comparison, the provenance inside and beside them."""
    import tqdm

    from input_pipeline import media
    from talkinghead_jax import specs
    from talkinghead_jax.synthesis import paste_back, provenance, side_by_side, talking_head
    source = material['source']
    decode = _decoder(theta.axis('target', 1))
    drawn = talking_head.generate_frames(theta, source, frontal, pose, decode, flags.FLAGS.references)
    frames = list(tqdm.tqdm(drawn, total=len(pose), desc='generate', unit='frame'))
    images = [frame['image'] for frame in frames]
    if flags.FLAGS.preprocess == 'full':
        from input_pipeline import preprocess
        whole = media.read_frame(material['path'], int(source['key_frame']))
        pictures = paste_back.paste_back(preprocess.crop_of(source), whole, images)
    else:
        pictures = (media.resize(image, specs.CROP_SIZE) for image in images)
    output.with_suffix('.provenance.json').unlink(missing_ok=True)  # the old one must not vouch for the new video
    tags, sound = provenance.container_tags(about), material['audio'].reshape(-1)
    media.write_video(output, pictures, sound, metadata=tags)
    reference = decode(source['video'][int(source['key_frame'])])
    media.write_video(request.concat_path(output), side_by_side.comparison(reference, frames, material['truth']),
                      sound, metadata=tags)
    provenance.write_sidecar(output, about)


def export(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Every trained stage for use without this program: weights for Orbax, networks as StableHLO."""
    from talkinghead_jax import export as exporting
    from talkinghead_jax.train import checkpoint
    # Where nothing is trained, the first stage says so.
    for name in [name for name in config.stages if checkpoint.exists(workdir, name)] or config.stages:
        print(exporting.export(workdir, name, workdir / 'export' / name))


def convert(config: ConfigDict | None, workdir: pathlib.Path) -> None:
    """The published weight file --input into what training and evaluation read (`third_party/*/README.md`)."""
    from third_party import convert as conversion
    del config, workdir  # networks serve every config
    if len(_INPUT.value) != 1:
        raise UserError(f'--mode=convert found {len(_INPUT.value)} --input; want one, the published weight file')
    try:
        converted = conversion.convert(_NETWORK.value, _INPUT.value[0])
    except (OSError, ValueError) as error:
        raise UserError(str(error)) from error
    print(f'{converted.path}\n{converted.verdict}')


def _decoder(size: int) -> Callable[[bytes], Any]:
    from input_pipeline import examples
    return functools.partial(examples.decode, size=size)


def _open_dataset(config: ConfigDict, workdir: pathlib.Path) -> Any:
    """The prepared data, if they are what the config describes."""
    from input_pipeline import loader
    from input_pipeline import prepare as preparation
    from input_pipeline.dataset import read_marker
    folder = _data_directory(config, workdir)
    dataset = loader.open_dataset(folder)
    if read_marker(folder)['key'] != preparation.key_of(config):
        raise UserError(f'{folder} was prepared with other settings than these; run --mode=prepare, or set them back')
    return dataset


def _data_directory(config: ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(config.data.directory).absolute() if config.data.directory else workdir / 'data'


MODES = {'prepare': prepare, 'train': train, 'evaluate': evaluate, 'report': report, 'study': study,
         'motion': motion, 'generate': generate, 'export': export, 'convert': convert}

if __name__ == '__main__':
    sys.exit(main(sys.argv))
