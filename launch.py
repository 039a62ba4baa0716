"""The only entry point: prepare data, train, evaluate, and make videos.

    python launch.py --config=configs/NAME.py[:STAGE] [--workdir=runs/NAME] [--mode=MODE[,MODE...]]

Modes: `prepare` (data into TFRecords; with --input, clips of one's own into clip records), `train`, `evaluate`,
`report` and `generate`. A user's mistake ends in one sentence and exit code 2.
"""

import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # before anything imports TensorFlow
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # it would announce itself
os.environ.setdefault('GLOG_minloglevel', '2')  # MediaPipe

import contextlib
import functools
import hashlib
import json
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from talkinghead_jax import files, timings
from talkinghead_jax.errors import UserError

# JAX, TensorFlow and MediaPipe are imported inside the functions, so that a wrong flag is answered at once.

_CONFIG = config_flags.DEFINE_config_file('config', None, 'configs/NAME.py[:STAGE]', lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'where everything is written; by default runs/NAME')
_MODE = flags.DEFINE_list('mode', ['train'], 'what to do, in this order: prepare, train, evaluate, report, generate')
_INPUT = flags.DEFINE_multi_string('input', [], 'prepare: a video of one face that speaks; may be repeated')
_LANDMARKER = flags.DEFINE_string('landmarker', '', "MediaPipe's face_landmarker.task")

flags.DEFINE_string('source', '', 'generate: video (1 s or more) or picture of the person to animate')
flags.DEFINE_string('audio', '', 'generate: the speech, any audio or video file')
flags.DEFINE_string('driving', '', 'generate: a video whose landmarks drive the face (Fig. 9)')
flags.DEFINE_enum('pose', None, ['rhythmic', 'reference', 'still'],
                  'generate: head motion: predicted (default), taken from --ref_pose, or none')
flags.DEFINE_string('ref_pose', '', 'generate: video whose head motion is taken over')
flags.DEFINE_string('output', '', 'generate: the video to write; by default WORKDIR/out.mp4')
flags.DEFINE_integer('finetune_steps', 0,
                     'generate: first adapt the generator to the source clip, with its training settings', 0)
flags.DEFINE_float('expression_scale', 1.0, 'generate: strength of the expression', 0.0)
flags.DEFINE_float('pose_scale', 1.0, 'generate: strength of the head motion', 0.0)
flags.DEFINE_enum('preprocess', 'crop', ['crop', 'full'],
                  'generate: write the face crop, or paste it back into the whole picture')


def main(argv: list[str]) -> int:
    """Run the modes that the command line asks for; returns the exit code."""
    try:
        config, workdir = _parse(argv)
        _set_up(workdir)
        from talkinghead_jax.train.preemption import PreemptedError
        try:
            for mode in _MODE.value:
                MODES[mode](config, workdir)
        except PreemptedError as error:
            print(f'launch.py: {error}', file=sys.stderr)
            return error.exit_code
    except UserError as error:
        print(f'launch.py: {error}', file=sys.stderr)
        return 2
    return 0


def _parse(argv: list[str]) -> tuple[ConfigDict, pathlib.Path]:
    """Flags -> (config, absolute workdir); every way of getting a flag wrong becomes one sentence."""
    app.define_help_flags()
    named = (after if equals else argv[i + 1] if i + 1 < len(argv) else ''
             for i, (flag, equals, after) in enumerate(a.partition('=') for a in argv)
             if flag in ('--config', '-config'))
    path = next(named, '').partition(':')[0]
    if not any(a.startswith('--help') for a in argv) and not pathlib.Path(path).is_file():
        raise UserError(f'--config={path}: no such file; want --config=configs/NAME.py' if path else
                        'flag --config is missing; want --config=configs/NAME.py')
    try:
        rest = flags.FLAGS(argv)[1:]
        config = _CONFIG.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
        # absl puts a traceback before the line that names the mistake.
        raise UserError(str(error).strip().splitlines()[-1].replace('\\n', '. ').replace('\\', '')) from error
    if rest:
        raise UserError(f'unexpected argument {rest[0]!r}; want only flags, as in --mode=train')
    for mode in _MODE.value:
        if mode not in MODES:
            raise UserError(f'--mode={mode}: unknown; want one of {", ".join(MODES)}')
    return config, pathlib.Path(_WORKDIR.value or f'runs/{config.name}').absolute()


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


def prepare(config: ConfigDict, workdir: pathlib.Path) -> None:
    """The config's dataset into TFRecords; with --input, clips of one's own into clip records."""
    from input_pipeline import prepare as preparation
    folder = _data_directory(config, workdir)
    if _INPUT.value:
        records, refused = preparation.prepare_inputs(_INPUT.value, config, folder, _LANDMARKER.value)
        for record in records:
            print(f'{record["clip_id"]}: {len(record["pose"])} frames, face found in '
                  f'{record["detected"].mean():.0%}, key frame {record["key_frame"]}; kept in {folder / "cache"}')
        for path, reason in refused:
            print(f'{path}: not used: {reason}')
        return
    with timings.timed(workdir, 'prepare'):
        summary = preparation.prepare(config, folder)
    clips = ', '.join(f'{count} {split}' for split, count in summary['clips'].items())
    print(f'prepared: {clips} clips ({summary["quarantined"]} left out), {summary["frames"]} frames, '
          f'{summary["bytes"] / 2**20:.0f} MiB in {folder}')


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Every stage of `config.stages` from its last checkpoint to its last step."""
    from input_pipeline import loader
    from talkinghead_jax.stages import registry
    from talkinghead_jax.train import loop
    dataset = _open_dataset(config, workdir)
    for name in config.stages:
        stage = registry.make_stage(name, config, dataset.axes)
        with timings.timed(workdir, f'train {name}'):
            loop.train(stage, config, dataset.metadata,
                       functools.partial(loader.training_batches, dataset, name, config), workdir)


def evaluate(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Every stage on held-out data, beside its baselines; what is known already is not computed again."""
    import tqdm

    from input_pipeline import loader
    from talkinghead_jax import evaluation
    dataset = _open_dataset(config, workdir)
    with _detector(config) as detector:
        for name in config.stages:
            network, inference = _restore(workdir, name)
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

    from talkinghead_jax import evaluation
    from talkinghead_jax.report import page, table
    from talkinghead_jax.stages.registry import STAGES
    from talkinghead_jax.train import history
    found = {name: evaluation.load(workdir / 'evaluation', name) for name in STAGES}
    found = {name: result for name, result in found.items() if result}
    if not found:
        raise UserError(f'{workdir / "evaluation"} holds no results; run --mode=evaluate first')
    page.write_report(
        workdir / 'report.html', found, {name: history.read(workdir, name) for name in STAGES},
        timings=timings.read(workdir), videos=[workdir / 'out.mp4', workdir / 'out_concat.mp4'],
        title=f'talkinghead_jax: {config.name}',
        facts={'config': config.name, 'image size': f'{config.image_size} px', 'jax': jax.__version__,
               'device': jax.devices()[0].device_kind})
    print(table.text_table(found))
    print(f'report: {workdir / "report.html"}, {workdir / "report.json"}\ncheckpoints: {workdir / "checkpoints"}')


def generate(config: ConfigDict, workdir: pathlib.Path) -> None:
    """A video of the source saying the speech; without --source, of a held-out speaker of the config's dataset."""
    from talkinghead_jax.synthesis import controls, provenance
    values = flags.FLAGS
    inputs = {name: values[name].value for name in ('source', 'audio', 'driving', 'ref_pose') if values[name].value}
    _check_inputs(inputs)
    used = ['expression', 'head_motion', 'generator', *([] if inputs else ['unprojection'])]
    networks = {name: _restore(workdir, name) for name in used}
    checkpoints = {name: f'{inference.step} {inference.digest}' for name, (_, inference) in networks.items()}
    choice = controls.Controls(values.pose, values.pose_scale, values.expression_scale)
    output = pathlib.Path(values.output or workdir / 'out.mp4').absolute()
    about = provenance.provenance(inputs, config.seed, {
        'pose': choice.pose or 'default', 'pose_scale': choice.pose_scale, 'preprocess': values.preprocess,
        'expression_scale': choice.expression_scale, 'finetune_steps': values.finetune_steps}, checkpoints)
    if _is_current(output, about):
        print(f'up to date: {output}, {_concat_path(output)}')
        return

    material = _material(config, workdir, inputs, networks)
    if not inputs.get('driving'):
        controls.pose_mode(choice, material['source'], material['reference'])  # refuse before the long work
    theta = _theta(workdir, networks['generator'], material['source'])
    if inputs.get('driving'):
        frontal, pose = controls.drive(material['source'], material['driver'], choice)
    else:
        frontal, pose = controls.speak(networks['expression'][0], networks['head_motion'][0], material['source'],
                                       material['audio'], choice, material['reference'])
    _write_videos(output, theta, material, frontal, pose, about)
    if output == workdir / 'out.mp4' and list((workdir / 'evaluation').glob('*.json')):
        report(config, workdir)  # once more, now with the video
    print(f'video: {output}\nside by side: {_concat_path(output)}')


def _check_inputs(inputs: dict[str, str]) -> None:
    for name, path in inputs.items():
        if not pathlib.Path(path).is_file():
            raise UserError(f'--{name}={path}: no such file; want a video, picture or sound')
    if inputs and 'source' not in inputs:
        raise UserError(f'--{next(iter(inputs))} needs --source, the person to animate; it is missing')
    if 'source' in inputs and not ({'audio', 'driving'} & set(inputs)):
        raise UserError('--source needs --audio, the speech, or --driving, a video that drives the face')
    if {'audio', 'driving'} <= set(inputs):
        raise UserError('--audio and --driving exclude each other; the sound of --driving is used')
    values = flags.FLAGS
    if 'driving' in inputs and (values.pose or 'ref_pose' in inputs):
        raise UserError('--driving brings its own head pose; leave --pose and --ref_pose out')
    if values.pose == 'reference' and 'ref_pose' not in inputs:
        raise UserError('--pose=reference takes its head motion from a clip; want --ref_pose=CLIP')
    if values.preprocess == 'full' and 'source' not in inputs:
        raise UserError('--preprocess=full pastes into the picture of --source, which is missing')
    if values.output and pathlib.Path(values.output).suffix not in ('.mp4', '.mov', '.mkv'):
        raise UserError(f'--output={values.output}: want a name that ends in .mp4, .mov or .mkv')


def _is_current(output: pathlib.Path, about: dict[str, Any]) -> bool:
    """Whether `output` was made from just these inputs, settings and checkpoints."""
    sidecar = output.with_suffix('.provenance.json')
    there = all(path.is_file() for path in (output, _concat_path(output), sidecar))
    return there and json.loads(sidecar.read_text()) == json.loads(json.dumps(about))


def _material(config: ConfigDict, workdir: pathlib.Path, inputs: dict[str, str],
              networks: dict[str, Any]) -> dict[str, Any]:
    """What a video is made of: records of source, driver and reference, the speech, and the true video if any."""
    if inputs:
        return _media_material(config, workdir, inputs)
    from talkinghead_jax.synthesis import mesh
    dataset = _open_dataset(config, workdir)
    source, speech = dataset.read('test', 0), dataset.read('test', dataset.size('test') - 1)
    decode = _decoder(config.image_size)
    if len(source['mesh_vertices']) == dataset.metadata.get('uv_mask', np.zeros(0)).sum():
        # The mesh is lifted as it would be in use, not taken from the ground truth.
        source = mesh.unproject(networks['unprojection'][0], source, decode)
    return {'source': source, 'audio': speech['audio'], 'truth': map(decode, speech['video']), 'reference': None}


def _media_material(config: ConfigDict, workdir: pathlib.Path, inputs: dict[str, str]) -> dict[str, Any]:
    from input_pipeline import face_tracking, media, preprocess
    from input_pipeline import prepare as preparation

    def record(name: str) -> dict[str, Any] | None:
        if name not in inputs:
            return None
        if media.is_image(inputs[name]):
            if name != 'source':
                raise UserError(f'--{name}={inputs[name]} is a picture; want a video')
            with face_tracking.MediaPipeDetector(face_tracking.find_landmarker(_landmarker(config))) as detector:
                return preprocess.prepare_image(media.read_image(inputs[name]), detector, inputs[name],
                                                config.image_size)
        return preparation.prepare_inputs([inputs[name]], config, _data_directory(config, workdir),
                                          _LANDMARKER.value)[0][0]

    sound = media.audio_for(inputs['audio']) if 'audio' in inputs else None  # a mistake shows before the tracking
    source, driver = record('source'), record('driving')
    decode = _decoder(config.image_size)
    if driver:
        sound, truth = driver['audio'], map(decode, driver['video'])
    else:
        truth = media.Video(inputs['audio']) if media.has_video(inputs['audio']) else None
    return {'source': source, 'driver': driver, 'reference': record('ref_pose'), 'audio': sound, 'truth': truth,
            'path': inputs['source']}


def _theta(workdir: pathlib.Path, trained: tuple, source: dict[str, Any]) -> Any:
    """The generator for the source's mesh topology, fine-tuned if the user asks for it."""
    from input_pipeline import mediapipe_mapping
    network, inference = trained
    frozen = dict(network.frozen)
    if flags.FLAGS.source:  # real clips carry the tracked points; the networks do not know the topology
        frozen['triangles'] = mediapipe_mapping.mesh_triangles()
    steps = flags.FLAGS.finetune_steps
    if not steps:
        return _network('generator', inference, frozen, len(source['mesh_vertices']))
    return _finetune(workdir, inference, frozen, source, steps, _decoder(inference.config.image_size))


def _finetune(workdir: pathlib.Path, inference: Any, frozen: dict[str, Any], source: dict[str, Any], steps: int,
              decode: Callable[[bytes], Any]) -> Any:
    """Adapt the generator to the source clip but for its last quarter, and print how it does on that quarter."""
    import dataclasses

    import jax

    from input_pipeline import loader
    from talkinghead_jax.stages import registry
    from talkinghead_jax.synthesis import holdout
    from talkinghead_jax.train import checkpoint, loop, sharding
    if len(source['video']) == 1:
        raise UserError('--finetune_steps needs a clip, and --source is one picture; leave --finetune_steps out')
    config = ConfigDict(inference.config.to_dict())
    config.generator.steps = config.log.checkpoint_every_steps = steps
    vertices = len(source['mesh_vertices'])
    seen, unseen = holdout.split(source)
    stage = registry.make_stage('generator', config, _axes(frozen, vertices))
    folder = workdir / 'finetuned' / f'{_fingerprint(source)}-{inference.digest}-{steps}'
    loop.train(stage, config, frozen, functools.partial(loader.record_batches, [seen], 'generator', config), folder,
               initial={'params': inference.params, 'model_state': inference.model_state},
               layout=sharding.make_layout(devices=jax.local_devices()[:1]))  # the batch is small
    tuned = dataclasses.replace(checkpoint.load_for_inference(folder, 'generator'), step=steps)
    network = _network('generator', tuned, frozen, vertices)
    if not unseen['detected'].any():
        return network  # a short clip: nothing is left to score
    untuned = holdout.score(_network('generator', inference, frozen, vertices), seen, unseen, decode)
    scores = {'before': untuned['model'], 'matched reference': untuned['matched_reference'],
              f'after {steps} steps': holdout.score(network, seen, unseen, decode)['model']}
    print(f'on the {len(unseen["video"])} frames of the source that were held out:')
    for name, of in scores.items():
        print(f'  {name:22s} ssim {of["ssim"]:.4f}   psnr {of["psnr"]:.2f} dB')
    return network


def _fingerprint(record: dict[str, Any]) -> str:
    return hashlib.sha256(b''.join(record['video'])).hexdigest()[:12]


def _write_videos(output: pathlib.Path, theta: Any, material: dict[str, Any], frontal: Any, pose: Any,
                  about: dict[str, Any]) -> None:
    """The result and the comparison, the provenance inside and beside them."""
    import tqdm

    from input_pipeline import media
    from talkinghead_jax import specs
    from talkinghead_jax.synthesis import paste_back, provenance, side_by_side, talking_head
    source = material['source']
    decode = _decoder(theta.axis('target', 1))
    frames = list(tqdm.tqdm(talking_head.generate_frames(theta, source, frontal, pose, decode), total=len(pose),
                            desc='generate', unit='frame'))
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
    media.write_video(_concat_path(output), side_by_side.comparison(reference, frames, material['truth']),
                      sound, metadata=tags)
    provenance.write_sidecar(output, about)


def _concat_path(output: pathlib.Path) -> pathlib.Path:
    return output.with_name(f'{output.stem}_concat{output.suffix}')


def _restore(workdir: pathlib.Path, name: str) -> tuple[Any, Any]:
    """A trained stage as (network, inference), with the config that it was trained with."""
    from talkinghead_jax.train import checkpoint
    inference = checkpoint.load_for_inference(workdir, name)
    vertices = int(inference.dataset['uv_mask'].sum()) if 'uv_mask' in inference.dataset else 0
    return _network(name, inference, inference.dataset, vertices), inference


def _network(name: str, inference: Any, frozen: dict[str, Any], vertices: int) -> Any:
    from talkinghead_jax.stages import registry
    from talkinghead_jax.synthesis.network import Network
    stage = registry.make_stage(name, inference.config, _axes(frozen, vertices))
    return Network(stage, inference.params, inference.model_state, frozen)


def _axes(frozen: dict[str, Any], vertices: int) -> dict[str, int]:
    return {'vertices': vertices, 'triangles': len(frozen['triangles']), 'components': len(frozen['pca_basis'])}


@contextlib.contextmanager
def _detector(config: ConfigDict) -> Iterator[Callable | None]:
    """MediaPipe as a function: frames -> (landmarks, detected); None where its model is absent and not asked for."""
    from input_pipeline import face_tracking
    try:
        path = face_tracking.find_landmarker(_landmarker(config))
    except UserError:
        if _landmarker(config):
            raise
        path = None
    if path is None:
        yield None
        return
    with face_tracking.MediaPipeDetector(path) as detector:
        def detect(images: Any) -> tuple[Any, Any]:
            # One by one: they are pictures of different people, not a film in which to follow a face.
            found = [detector.detect(image[None]) for image in images]
            return np.concatenate([f.landmarks for f in found]), np.concatenate([f.detected for f in found])
        yield detect


def _landmarker(config: ConfigDict) -> str:
    return _LANDMARKER.value or config.data.landmarker


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


MODES = {'prepare': prepare, 'train': train, 'evaluate': evaluate, 'report': report, 'generate': generate}

if __name__ == '__main__':
    sys.exit(main(sys.argv))
