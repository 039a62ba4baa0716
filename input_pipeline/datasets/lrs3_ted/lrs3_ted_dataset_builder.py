"""TFDS builder of LRS3-TED: tracked faces of TED and TEDx talks, with what is said."""

import pathlib
from collections.abc import Iterator

from input_pipeline.datasets import trees
from input_pipeline.datasets.media_builder import MediaBuilder, Source

PARTS = {'pretrain': 'train', 'trainval': 'train', 'test': 'test'}  # the publisher's -> ours


class Builder(MediaBuilder):
    """LRS3-TED (Afouras, Chung and Zisserman, 2018); see the README for its tree."""

    MIN_FRAMES = 25  # a second
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
        LRS3-TED as unpacked from the archives of the page Lip Reading Datasets of Oxford's Visual Geometry Group:
        pretrain/TALK/00001.mp4, trainval/TALK/50001.mp4 and test/TALK/00001.mp4, each with a .txt of its words
    """

    @classmethod
    def sources(cls, root: pathlib.Path) -> list[Source]:
        """Every clip; pretrain and trainval are training data and overlap, test shares nothing with them.

        Raises:
          UserError: there is none.
        """
        found = [source for part, split in PARTS.items() for source in _clips(f'{root}/{part}', part, split)]
        return trees.checked(found, root, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)


def _clips(folder: str, part: str, split: str) -> Iterator[Source]:
    for talk in trees.listing(folder)[0]:
        names = trees.listing(f'{folder}/{talk}')[1]
        texts = {name for name in names if name.endswith('.txt')}
        for name in names:
            # The numbered files only: other programs leave theirs, such as 00001_crop.mp4, beside them.
            stem, _, suffix = name.rpartition('.')
            if suffix == 'mp4' and stem.isdecimal():
                transcript = read_transcript(f'{folder}/{talk}/{stem}.txt') if f'{stem}.txt' in texts else ''
                yield Source(f'{folder}/{talk}/{name}', split, f'{part}/{talk}/{stem}', talk, '', transcript)


def read_transcript(path: str) -> str:
    """The words of a text file of LRS3: its line `Text:  ...`, which comes first; '' where there is none."""
    for line in trees.lines(path):
        head, colon, words = line.partition(':')
        if head.strip() == 'Text' and colon:
            return ' '.join(words.split())
    return ''
