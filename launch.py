"""The only entry point: prepare data, train, evaluate, and make videos.

    python launch.py --config=configs/NAME.py[:STAGE] [--workdir=runs/NAME] [--mode=MODE[,MODE...]]

Modes: `prepare` (data into TFRecords; with --input, clips of one's own into clip records), `train`, `evaluate` (the
stages and the paper's protocols; with --generated, folders of videos), `report`, `study` (ablations), `motion` (how
the heads of the dataset move), `generate`, `export` (trained networks for use without this program); and, without
--config, `compare` (two evaluations), `user_study` (a page for raters), `ratings` (their answers) and `convert` (a
published network's weight file). A user's mistake ends in one sentence and exit code 2; a run that SIGTERM stopped,
saved, in 143: the same command goes on.

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
from absl import flags
from ml_collections import ConfigDict

from talkinghead_jax import command_line, files, modes, timings
from talkinghead_jax.errors import UserError
from talkinghead_jax.synthesis import request

# JAX, TensorFlow and MediaPipe are imported inside the functions, so that a wrong flag is answered at once.

flags.adopt_module_key_flags(command_line)  # so that --help shows them

SPREAD = ('train', 'evaluate')  # modes in which all processes work; elsewhere the first does, and the others wait


def main(argv: list[str]) -> int:
    """Run the modes that the command line asks for; returns the exit code."""
    try:
        config, workdir = command_line.parse(argv, MODES)
        _set_up(workdir)
    except UserError as error:
        print(f'launch.py: {error}', file=sys.stderr)
        return 2
    from talkinghead_jax.train import hosts
    from talkinghead_jax.train.preemption import PreemptedError
    try:
        for mode in command_line.MODE.value:
            if mode in SPREAD or hosts.is_main():
                MODES[mode](config, workdir)
            hosts.wait_for_all(mode)
        return 0
    except (UserError, PreemptedError) as error:
        print(f'launch.py: {error}', file=sys.stderr)
        return hosts.leave(2) if isinstance(error, UserError) else error.exit_code
    except Exception:
        traceback.print_exc()
        return hosts.leave(1)


def _set_up(workdir: pathlib.Path) -> None:
    """Make the workdir, keep compiled programs for the next run, and join the other processes."""
    command_line.check_workdir(workdir)
    logging.basicConfig(format='%(message)s')
    logging.getLogger('absl').setLevel(logging.ERROR)  # Orbax and TFDS tell much that no user can act on
    import jax
    jax.config.update('jax_compilation_cache_dir', str(files.cache_folder() / 'xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
    address, processes, process = (flag.value for flag in (
        command_line.COORDINATOR, command_line.PROCESSES, command_line.PROCESS))
    if command_line.DISTRIBUTED.value or address or processes is not None or process is not None:
        from talkinghead_jax.train import hosts
        hosts.start(address, processes, process)


def prepare(config: ConfigDict, workdir: pathlib.Path) -> None:
    """The config's dataset into TFRecords; with --input, clips of one's own into clip records."""
    from input_pipeline import prepare as preparation
    folder = _data_directory(config, workdir)
    if command_line.INPUT.value:
        records, refused = preparation.prepare_inputs(command_line.INPUT.value, config, folder)
        for record in records:
            print(f'{record["clip_id"]}: {len(record["pose"])} frames, face found in '
                  f'{record["detected"].mean():.0%}, key frame {record["key_frame"]}; kept in {folder / "cache"}')
        for refusal in refused:
            print(f'{refusal.path}: not used ({refusal.reason}): {refusal.detail}')
        return
    with timings.timed(workdir, 'prepare'):
        summary = preparation.prepare(config, folder)
    print(preparation.described(summary, folder))
    if command_line.PREVIEW.value:
        _preview(config, workdir, folder)


def _preview(config: ConfigDict, workdir: pathlib.Path, folder: pathlib.Path) -> None:
    """A page that shows what was prepared, and what was left out."""
    from input_pipeline import quarantine, thumbnails
    from talkinghead_jax.report import preview
    dataset = _open_dataset(config, workdir)
    splits = dataset.splits('clips') or dataset.splits('position_maps')
    print('preview: ' + str(preview.write(
        workdir / 'preview', splits, dataset.metadata, _decoder(config.image_size), command_line.PREVIEW.value,
        config.seed, quarantine.read(folder / quarantine.TABLE), thumbnails.thumbnail,
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
    """Every stage on held-out data, and the paper's protocols; with --generated, folders of videos instead."""
    from input_pipeline import detection
    from talkinghead_jax.train import hosts
    with detection.detector(config.data.landmarker) as detector:
        if command_line.GENERATED.value:
            _evaluate_folders(config, workdir, detector)
            return
        dataset = _open_dataset(config, workdir)
        if hosts.is_main():
            _evaluate_stages(config, workdir, dataset, detector)
        if 'generator' in config.stages and config.evaluation.protocols:
            _evaluate_protocols(config, workdir, dataset, detector)
    if hosts.is_main():
        modes.report(config, workdir)


def _evaluate_stages(config: ConfigDict, workdir: pathlib.Path, dataset: Any, detector: Any) -> None:
    """Each stage beside its baselines; what is known already is not computed again."""
    import tqdm

    from input_pipeline import loader
    from talkinghead_jax import evaluation, identity_study
    from talkinghead_jax.synthesis.network import restore
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


def _evaluate_protocols(config: ConfigDict, workdir: pathlib.Path, dataset: Any, detector: Any) -> None:
    """Whole videos of held-out clips, as in the paper's Tables 1 and 2."""
    from talkinghead_jax.protocols import checkpoints, devices
    from talkinghead_jax.train import hosts
    settings = config.evaluation
    machines = devices.local_devices(settings.batch_size)
    clips, facts = checkpoints.gather(workdir, dataset.records('clips', settings.split), machines, settings, _decoder,
                                      _data_facts(config, workdir))
    for protocol in settings.protocols:
        with timings.timed(workdir if hosts.is_main() else None, f'evaluate {protocol}'):
            _judge(config, workdir, checkpoints.plan(protocol, clips, settings, config.data.dataset, facts), machines,
                   detector)


def _evaluate_folders(config: ConfigDict, workdir: pathlib.Path, detector: Any) -> None:
    """Videos of any methods beside the true ones."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    from input_pipeline import media, video_pairs
    from talkinghead_jax.protocols import devices, folders
    from talkinghead_jax.report import whole_videos
    from talkinghead_jax.train import hosts
    crop = command_line.CROP.value
    squares = video_pairs.FaceSquares(config) if crop == 'face' else None
    reader = folders.Reader(media.VIDEO_SUFFIXES, video_pairs.frames, video_pairs.measure, video_pairs.sound,
                            media.beside, video_pairs.resize, squares, squares.facts if squares else {})
    # A config of one table says among whose published rows these stand.
    table, *more = config.evaluation.protocols or ('',)
    about = {'dataset': config.data.dataset, 'table': table} if table and not more else {}
    plan = folders.plan(command_line.folders(command_line.GENERATED.value, 'generated'),
                        pathlib.Path(command_line.TRUTH.value).absolute(), reader, crop, **about)
    with logging_redirect_tqdm():  # clips that are left out are told of on lines of their own
        _judge(config, workdir, plan, devices.local_devices(config.evaluation.batch_size), detector)
    if hosts.is_main():
        print('report: ' + whole_videos.page(workdir / 'evaluation', f'talkinghead_jax: {config.name}, whole videos'))


def _judge(config: ConfigDict, workdir: pathlib.Path, plan: Any, machines: Any, detector: Any) -> None:
    """Score what is planned; process 0 prints the table."""
    import tqdm

    from input_pipeline import media
    from talkinghead_jax.protocols import judges
    from talkinghead_jax.report import whole_videos
    if table := whole_videos.evaluate(
            workdir / 'evaluation', plan, judges.judges(machines, detector, config.evaluation.metrics),
            config.evaluation, media.write_video, functools.partial(tqdm.tqdm, unit='clip')):
        print(table)


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
        modes.report(config, workdir)


def motion(config: ConfigDict, workdir: pathlib.Path) -> None:
    """How the heads of the prepared dataset move: Fig. 3 of the paper, and a table of every clip."""
    import tqdm

    from talkinghead_jax.report import motion as drawing
    dataset = _open_dataset(config, workdir)
    print(drawing.write(workdir / 'motion', dataset.splits('clips'), _decoder(config.image_size),
                        command_line.SPEAKERS.value, functools.partial(tqdm.tqdm, desc='read motion', unit='clip')))
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
        modes.report(config, workdir)  # once more, now with the video
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


def convert(config: ConfigDict | None, workdir: pathlib.Path) -> None:
    """The published weight file --input into what training and evaluation read (`third_party/*/README.md`)."""
    from third_party import convert as conversion
    del config, workdir  # networks serve every config
    inputs = command_line.INPUT.value
    if len(inputs) != 1:
        raise UserError(f'--mode=convert found {len(inputs)} --input; want one, the published weight file')
    try:
        converted = conversion.convert(command_line.NETWORK.value, inputs[0])
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


def _data_facts(config: ConfigDict, workdir: pathlib.Path) -> dict[str, str]:
    """Which data an evaluation is of."""
    from input_pipeline.dataset import read_marker
    return {'dataset': config.data.dataset, 'data': read_marker(_data_directory(config, workdir))['key']}


def _data_directory(config: ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(config.data.directory).absolute() if config.data.directory else workdir / 'data'


MODES = {'prepare': prepare, 'train': train, 'evaluate': evaluate, 'report': modes.report, 'study': study,
         'motion': motion, 'generate': generate, 'export': modes.export, 'compare': modes.compare,
         'user_study': modes.user_study, 'ratings': modes.ratings, 'convert': convert}

if __name__ == '__main__':
    sys.exit(main(sys.argv))
