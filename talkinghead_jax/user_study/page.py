"""A web page on which people rate videos of several methods without knowing which is which.

The page needs nothing beside itself: the videos are inside, and it works from a file without a network. It holds
random ids only; what they stand for is in key.json beside it, which raters do not get.
"""

import base64
import dataclasses
import hashlib
import json
import os
import pathlib
import random
from collections.abc import Collection, Mapping

from talkinghead_jax import files
from talkinghead_jax.errors import UserError
from talkinghead_jax.report import elements
from talkinghead_jax.synthesis import request
from talkinghead_jax.user_study import markup
from talkinghead_jax.user_study.script import SCRIPT

KEY = 'key.json'
_BESIDE = ('.json', '.png', '.txt', '.csv')  # what lies beside videos, as --mode=generate leaves it
KINDS = {'.mp4': 'video/mp4', '.webm': 'video/webm'}
LARGEST = 500 * 10 ** 6  # bytes of all videos together: browsers open larger pages slowly, or not at all
# Signs of what browsers play: MP4's sample entries and handler, WebM's codec names.
_PLAYABLE = (b'avc1', b'avc3', b'vp08', b'vp09', b'av01', b'hvc1', b'hev1', b'V_VP8', b'V_VP9', b'V_AV1')
_SOUND = (b'soun', b'A_OPUS', b'A_VORBIS')

Table = Mapping[str, Mapping[str, pathlib.Path]]  # clip -> method -> file


@dataclasses.dataclass(frozen=True)
class Study:
    """What was written; as text, what to tell the one who runs the study.

    Attributes:
      path: of the page.
      key: of the file that says what the page's ids stand for.
      methods: names, as given.
      clips: names of the clips that all methods have.
      left_out: names of the clips that only some have.
      each: videos of a clip that a rater sees.
    """

    path: pathlib.Path
    key: pathlib.Path
    methods: tuple[str, ...]
    clips: tuple[str, ...]
    left_out: tuple[str, ...]
    each: int

    def __str__(self) -> str:
        lines = [f'user study: {len(self.clips)} clips by {len(self.methods)} methods ({", ".join(self.methods)}); a '
                 f'rater sees {len(self.clips) * self.each} videos']
        if self.left_out:
            lines.append(f'left out, since not every method has them: {", ".join(self.left_out)}')
        return '\n'.join([*lines, f'page for the raters: {self.path}', f'key, not for the raters: {self.key}'])


def write(path: str | os.PathLike, videos: Mapping[str, str | os.PathLike], *, title: str = 'Talking faces',
          seed: int = 0, per_clip: int | None = None, consent: str = markup.CONSENT) -> Study:
    """Write the page at `path` and key.json beside it, both atomically; the same arguments give the same files.

    Clips are matched by file name without suffix. Each rater sees rounds: a round has every clip once, and each
    method as often as any other (within one), as a Latin square has. The page draws an id for the rater, from which
    the order of the rounds and that within each follow; two videos of one clip never come one after the other, unless
    there is but one clip. The key of another study in the same folder is kept, as key-STUDY.json.

    Args:
      path: of the HTML file.
      videos: name of the method or condition -> folder of its videos, H.264 MP4 or WebM, with sound.
      title: of the page; raters see it.
      seed: of the ids and of the rounds.
      per_clip: how many videos of each clip one rater sees, drawn anew for every rater; by default all.
      consent: what raters agree to; the default says what to put there.

    Raises:
      UserError: a folder is missing, empty, given twice or holds other files than videos; no clip is in all
        folders; a video has no sound or no codec that browsers play; they are too large together; the folder cannot
        be written.
    """
    path = pathlib.Path(path)
    if not videos or not all(name.strip() for name in videos):
        raise UserError(f'--videos names the methods {list(videos)}; want one NAME=FOLDER or more, each with a name')
    each = len(videos) if per_clip is None else per_clip
    if not 1 <= each <= len(videos):
        raise UserError(f'--per_clip={each}: a rater is to see {each} videos of each clip; want 1 to {len(videos)}, '
                        'one a method')
    _check_folders(videos)
    table, left_out = _matched({name: _listed(name, folder) for name, folder in videos.items()})
    places = {(method, clip): file for clip, of in table.items() for method, file in of.items()}
    _check_size(places.values())
    study = 's' + _digest(title, seed, each, consent, *(f'{method}/{clip}/{_digest(_playable(file))}'
                                                        for (method, clip), file in places.items()))
    ids = {which: 'v' + _digest(seed, study, *which) for which in places}
    facts = {'study': study, 'columns': markup.COLUMNS, 'each': each,
             'rounds': _rounds(list(videos), list(table), ids, random.Random(f'{seed} {study}'))}
    page = ''.join([markup.body(title, consent),
                    f'<script type="application/json" id="facts">{json.dumps(facts)}</script>',
                    *(_embedded(ids[which], places[which]) for which in sorted(ids, key=ids.__getitem__)),
                    f'<script>{SCRIPT}</script>'])
    key = {'study': study, 'title': title, 'seed': seed, 'methods': list(videos), 'clips': list(table), 'each': each,
           'videos': {ids[which]: dict(zip(('method', 'clip'), which, strict=True)) for which in sorted(places)}}
    _keep_former(path.with_name(KEY), study)
    files.write_atomically(path.with_name(KEY), files.to_json(key))
    files.write_atomically(path, elements.document(title, page, markup.STYLE).encode())
    return Study(path, path.with_name(KEY), tuple(videos), tuple(table), left_out, each)


def _check_folders(videos: Mapping[str, str | os.PathLike]) -> None:
    """Two methods with one folder: nobody wants to know which of equal videos is better."""
    names: dict[str, str] = {}
    for name, folder in videos.items():
        other = names.setdefault(os.path.realpath(folder), name)
        if other != name:
            raise UserError(f'--videos={name}={folder} is the folder of {other}, too; want one folder a method')


def _keep_former(key: pathlib.Path, study: str) -> None:
    """Move another study's key aside: without it, answers to its page could never be read."""
    try:
        former = json.loads(key.read_text())['study']
    except (OSError, ValueError, KeyError, TypeError):
        return
    if former != study:
        os.replace(key, key.with_name(f'key-{former}.json'))


def _listed(name: str, folder: str | os.PathLike) -> dict[str, pathlib.Path]:
    """The videos of one method: clip -> file."""
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise UserError(f'--videos={name}={folder}: no such folder; want one of .mp4 or .webm files')
    found, files_there = {}, sorted(folder.iterdir())
    beside_truth = set(map(request.concat_path, files_there))  # they would tell all
    for file in files_there:
        if file.name.startswith('.') or file.suffix.lower() in _BESIDE or file in beside_truth:
            continue
        if file.suffix.lower() not in KINDS or not file.is_file():
            raise UserError(f'--videos={name}={folder} holds {file.name}; want .mp4 and .webm files')
        if file.stem in found:
            raise UserError(f'--videos={name}={folder} holds {found[file.stem].name} and {file.name}; want one video '
                            'a clip')
        found[file.stem] = file
    if not found:
        raise UserError(f'--videos={name}={folder} is empty; want .mp4 or .webm files')
    return found


def _matched(listed: Mapping[str, Mapping[str, pathlib.Path]]) -> tuple[Table, tuple[str, ...]]:
    """The clips that every method has, and the names of the others."""
    everywhere = sorted(set.intersection(*(set(of) for of in listed.values())))
    if not everywhere:
        some = '; '.join(f'{name}: {next(iter(of))}, ..' for name, of in listed.items())
        raise UserError(f'--videos: no clip is in all {len(listed)} folders ({some}); want files of the same name, '
                        'suffix aside, in each')
    left_out = sorted(set().union(*listed.values()) - set(everywhere))
    return {clip: {name: of[clip] for name, of in listed.items()} for clip in everywhere}, tuple(left_out)


def _check_size(found: Collection[pathlib.Path]) -> None:
    size = sum(file.stat().st_size for file in found)
    if size > LARGEST:
        raise UserError(f'--videos: {len(found)} videos have {size / 1e6:.0f} MB; want {LARGEST / 1e6:.0f} MB at '
                        'most, for the page holds them all: fewer or shorter clips, or a stronger compression')


def _playable(file: pathlib.Path) -> bytes:
    """The content of a video that browsers play with sound."""
    content = file.read_bytes()
    if not any(sign in content for sign in _PLAYABLE):
        raise UserError(f'{file} holds no video that browsers play (MPEG-4 Part 2 perhaps, as OpenCV writes it); '
                        'want H.264 in .mp4, or VP9 in .webm')
    if not any(sign in content for sign in _SOUND):
        raise UserError(f'{file} has no sound, so that nobody can say whether lips and speech go together; want a '
                        'video with its speech')
    return content


def _rounds(methods: list[str], clips: list[str], ids: Mapping[tuple[str, str], str],
            rng: random.Random) -> list[list[tuple[str, int]]]:
    """A Latin square: as many rounds as methods, each with every clip once; pairs of id and number of the clip."""
    methods, clips = rng.sample(methods, len(methods)), rng.sample(clips, len(clips))
    rounds = [[(ids[methods[(shift + number) % len(methods)], clip], number) for number, clip in enumerate(clips)]
              for shift in range(len(methods))]
    return [sorted(of) for of in rounds]  # by random id: the place in the list tells nothing


def _embedded(name: str, file: pathlib.Path) -> str:
    return (f'<script type="text/plain" id="{name}" data-type="{KINDS[file.suffix.lower()]}">'
            f'{base64.b64encode(file.read_bytes()).decode()}</script>')


def _digest(*of: object) -> str:
    """Ten hexadecimal digits that follow from `of`."""
    whole = hashlib.sha256()
    for part in of:
        whole.update(part if isinstance(part, bytes) else str(part).encode())
        whole.update(b'\0')
    return whole.hexdigest()[:10]
