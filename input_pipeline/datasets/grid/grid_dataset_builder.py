"""TFDS builder of GRID: 33 people who say a thousand command sentences each, 3 s long."""

import pathlib
import re
from typing import NamedTuple

from input_pipeline.datasets import trees
from input_pipeline.datasets.media_builder import MediaBuilder, Source

TEST_SPEAKERS = ('s1', 's2', 's20', 's22')  # LipNet's unseen speakers (Assael et al. 2016)
VIDEOS = ('mpg', 'mp4')  # the preferred first
HIGH_QUALITY = 'mpg_6000'  # the publisher's folder of the 720 x 576 films; the others have 360 x 288
SILENCES = ('sil', 'sp')  # in the files of alignments
# A name such as bbaf2n spells the sentence, one letter a word (Cooke et al. 2006, Table I).
WORDS = (
    {'b': 'bin', 'l': 'lay', 'p': 'place', 's': 'set'},
    {'b': 'blue', 'g': 'green', 'r': 'red', 'w': 'white'},
    {'a': 'at', 'b': 'by', 'i': 'in', 'w': 'with'},
    {letter: letter for letter in 'abcdefghijklmnopqrstuvxyz'},  # no w: it alone has more than one syllable
    dict(zip('z123456789', ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'),
             strict=True)),
    {'a': 'again', 'n': 'now', 'p': 'please', 's': 'soon'},
)
_SPEAKER = re.compile(r's([1-9]|[12]\d|3[0-4])(?=(_50khz)?$)', re.IGNORECASE)


class Builder(MediaBuilder):
    """The GRID audiovisual sentence corpus (Cooke et al., JASA 2006); see the README for its tree."""

    MIN_FRAMES = 25  # of 75; a second is enough to learn from
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
        GRID as unpacked from the archives of the University of Sheffield's page of the GRID corpus, a folder a
        speaker: s1/video/mpg_6000/bbaf2n.mpg or s1/bbaf2n.mpg up to s34, with or without alignments
        s1/align/bbaf2n.align
    """

    @classmethod
    def sources(cls, root: pathlib.Path) -> list[Source]:
        """Every clip once, of its best film; four speakers are test data, the others training data.

        The sound is the film's, or that of the 50 kHz recordings where the path of a .wav says 50k. The 25 kHz ones
        are left alone: they are shorter than the films.

        Raises:
          UserError: there is none.
        """
        films, sounds, alignments = _find(root)
        found = []
        for (speaker, name), film in films.items():
            words = read_alignment(alignments[speaker, name].path) if (speaker, name) in alignments else ''
            sound = sounds[speaker, name].path if (speaker, name) in sounds else ''
            split = 'test' if speaker in TEST_SPEAKERS else 'train'
            found.append(Source(film.path, split, f'{speaker}/{name}', speaker, sound, words or spell(name)))
        return trees.checked(found, root, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)


class _File(NamedTuple):
    """A file, in the order of preference: the least is the best."""

    rank: tuple
    path: str


def _find(root: pathlib.Path) -> tuple[dict[tuple[str, str], _File], ...]:
    """By speaker and sentence the best film, the 50 kHz sound and the alignment."""
    films, sounds, alignments = {}, {}, {}
    for folder, parts, names in trees.walk(root):
        speaker = next((match[0].lower() for part in reversed(parts) if (match := _SPEAKER.match(part))), '')
        for name in names if speaker else ():
            stem, _, suffix = name.rpartition('.')
            if not spell(stem):
                continue
            suffix, path = suffix.lower(), f'{folder}/{name}'
            if suffix in VIDEOS:
                file = _File((HIGH_QUALITY not in parts, VIDEOS.index(suffix), len(parts)), path)
                kind = films
            elif suffix == 'align' or (suffix == 'wav' and any('50k' in part.lower() for part in parts)):
                file = _File((len(parts),), path)
                kind = alignments if suffix == 'align' else sounds
            else:
                continue
            kind[speaker, stem] = min(file, kind.get((speaker, stem), file))
    return films, sounds, alignments


def spell(name: str) -> str:
    """The sentence of a name, 'bbaf2n' -> 'bin blue at f two now'; '' if it is not one."""
    if len(name) != len(WORDS):
        return ''
    words = [meanings.get(letter, '') for meanings, letter in zip(WORDS, name, strict=True)]
    return ' '.join(words) if all(words) else ''


def read_alignment(path: str) -> str:
    """The words of a file with a line `START END WORD` a word, without the silences."""
    lines = [line.split() for line in trees.lines(path)]
    return ' '.join(line[2] for line in lines if len(line) == 3 and line[2] not in SILENCES)
