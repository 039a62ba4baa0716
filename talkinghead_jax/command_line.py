"""What the user of `launch.py` may say: its flags, and every way of getting them wrong as one sentence."""

import os
import pathlib
import re
from collections.abc import Collection

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from talkinghead_jax import files
from talkinghead_jax.errors import UserError
from talkinghead_jax.synthesis import request

CONFIG = config_flags.DEFINE_config_file('config', None, 'configs/NAME.py[:STAGE]', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'where everything is written; by default runs/NAME')
MODE = flags.DEFINE_list('mode', ['train'], 'what to do, in this order; see the top of launch.py')
INPUT = flags.DEFINE_multi_string('input', [], 'prepare: a video of one face that speaks; convert: the published '
                                  'weight file; ratings: the answers of a rater. May be repeated')
NETWORK = flags.DEFINE_string('network', '', 'convert: the published network, as in --network=vgg19')
LANDMARKER = flags.DEFINE_string('landmarker', '', "MediaPipe's face_landmarker.task")
MAX_QUARANTINE = flags.DEFINE_float('max_quarantine', None, 'prepare: share of the clips that may be unusable; '
                                    'beyond it, preparation ends with an error', 0, 1)
PREVIEW = flags.DEFINE_integer('preview', 0, 'prepare: then draw so many clips and what was left out, as a page', 0)
SPEAKERS = flags.DEFINE_list('speakers', [], 'motion: whom to draw; by default those with the most clips')
GENERATED = flags.DEFINE_multi_string('generated', [], 'evaluate: instead of a checkpoint, a folder of generated '
                                      'videos, DIR or NAME=DIR; may be repeated')
TRUTH = flags.DEFINE_string('truth', '', 'evaluate: with --generated, the folder of the true videos, by name')
CROP = flags.DEFINE_string('crop', 'none', "evaluate: with --generated, 'none' (whole pictures) or 'face' (the "
                           'square about the face of the true video)')
RUNS = flags.DEFINE_list('runs', [], 'compare: two folders of results, as in runs/a/evaluation/audio_driven,'
                         'runs/b/evaluation/audio_driven')
VIDEOS = flags.DEFINE_multi_string('videos', [], 'user_study: a folder of videos of one method or condition, '
                                   'NAME=DIR; repeated')
CONSENT = flags.DEFINE_string('consent', '', 'user_study: a text file, what raters agree to: who asks, what for, and '
                              'what becomes of their answers')
PER_CLIP = flags.DEFINE_integer('per_clip', None, 'user_study: how many videos of each clip one rater sees; by '
                                'default all', 1)

DISTRIBUTED = flags.DEFINE_bool('distributed', False, 'this is one of many processes, and the cluster (Cloud TPU, '
                                'SLURM, Open MPI) tells which')
COORDINATOR = flags.DEFINE_string('coordinator_address', '', 'HOST:PORT of process 0, where no cluster tells it')
PROCESSES = flags.DEFINE_integer('num_processes', None, 'how many processes there are, for --coordinator_address', 1)
PROCESS = flags.DEFINE_integer('process_id', None, 'which of them this is, from 0', 0)

# Flags that other modes would ignore.
_PART_OF = {'preview': 'prepare', 'generated': 'evaluate', 'runs': 'compare', 'videos': 'user_study',
            'consent': 'user_study', 'per_clip': 'user_study'}
_NAME = re.compile(r'[A-Za-z0-9_ .+-]+')  # of a method, in NAME=DIR
_NO_CONFIG = ('convert', 'compare', 'user_study', 'ratings')  # modes that serve every config

request.define_flags()
flags.adopt_module_key_flags(request)  # so that --help shows them


def parse(argv: list[str], modes: Collection[str]) -> tuple[ConfigDict | None, pathlib.Path]:
    """Flags -> (config, absolute workdir).

    Args:
      argv: the command line.
      modes: those that there are.

    Raises:
      UserError: something is wrong with it.
    """
    app.define_help_flags()
    path = _value(argv, 'config').partition(':')[0]
    asked = _value(argv, 'mode').split(',')
    without = any(a.startswith('--help') for a in argv) or (not path and set(asked) <= set(_NO_CONFIG))
    if not without and not pathlib.Path(path).is_file():
        raise UserError(f'--config={path}: no such file; want --config=configs/NAME.py' if path else
                        'flag --config is missing; want --config=configs/NAME.py')
    try:
        rest = flags.FLAGS(argv)[1:]
        config = CONFIG.value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, ImportError) as error:
        # absl puts a traceback before the line that names the mistake.
        last = str(error).strip().splitlines()[-1].replace('\\n', '. ').replace('\\', '')
        raise UserError(last.removeprefix('ValueError: ')) from error
    if rest:
        raise UserError(f'unexpected argument {rest[0]!r}; want only flags, as in --mode=train')
    for mode in MODE.value:
        if mode not in modes:
            raise UserError(f'--mode={mode}: unknown; want one of {", ".join(modes)}')
    _check()
    if config and LANDMARKER.value:
        config.data.landmarker = LANDMARKER.value
    if config and MAX_QUARANTINE.value is not None:
        config.data.max_quarantine = MAX_QUARANTINE.value
    usual = f'runs/{config.name}' if config else files.cache_folder() if 'convert' in MODE.value else 'runs'
    return config, pathlib.Path(WORKDIR.value or usual).absolute()


def _check() -> None:
    """Flags that need each other, or a mode."""
    for flag, mode in _PART_OF.items():
        if flags.FLAGS[flag].value not in (None, 0, '', []) and mode not in MODE.value:
            raise UserError(f'--{flag} is a part of --mode={mode}; add that mode, or leave it out')
    if bool(GENERATED.value) != bool(TRUTH.value):
        raise UserError('--generated and --truth belong together; want both, each a folder of videos')
    if CROP.value != 'none' and not GENERATED.value:
        raise UserError(f'--crop={CROP.value} belongs to --generated, folders of videos; add it, or leave --crop out')


def check_workdir(workdir: pathlib.Path) -> None:
    """Make it; UserError where it cannot be made or written."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--workdir={workdir}: {error.strerror}; want a folder that can be written') from error
    if not os.access(workdir, os.W_OK):
        raise UserError(f'--workdir={workdir}: permission denied; want a folder that can be written')


def folders(arguments: list[str], flag: str) -> dict[str, pathlib.Path]:
    """Values of `flag`, NAME=DIR or DIR (whose last part is then the name), as name -> absolute folder.

    What stands before the first '=' is a name only if it holds nothing but letters, digits, spaces and _ . + -; else
    all is a folder, as in /data/run=1/out.

    Raises:
      UserError: one has no name or no folder, or two have one name.
    """
    found: dict[str, pathlib.Path] = {}
    for argument in arguments:
        name, folder = _named(argument)
        if not name.strip() or not folder:
            raise UserError(f'--{flag}={argument}: the {"name" if folder else "folder"} is empty; want NAME=DIR')
        if name in found:
            raise UserError(f'--{flag}={argument}: the name {name!r} is taken by {found[name]}; want NAME=DIR with '
                            'another name')
        found[name] = pathlib.Path(folder).absolute()
    return found


def _named(argument: str) -> tuple[str, str]:
    """NAME=DIR or DIR -> name and folder."""
    name, equals, folder = argument.partition('=')
    if equals and (not name or (_NAME.fullmatch(name) and name not in ('.', '..'))):
        return name, folder
    return pathlib.PurePath(os.path.abspath(argument)).name, argument


def _value(argv: list[str], name: str) -> str:
    """What follows the first --NAME, before absl has parsed anything; '' where it is not there."""
    found = (after if equals else argv[i + 1] if i + 1 < len(argv) else ''
             for i, (flag, equals, after) in enumerate(a.partition('=') for a in argv)
             if flag.lstrip('-') == name and flag.startswith('-'))
    return next(found, '')
