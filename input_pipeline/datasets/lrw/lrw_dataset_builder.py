"""TFDS builder of LRW: single words of BBC programmes, each with its surroundings in 29 frames."""

import pathlib
from collections.abc import Iterator

from input_pipeline.datasets import trees
from input_pipeline.datasets.media_builder import MediaBuilder, Source

PARTS = {'train': 'train', 'val': 'validation', 'test': 'test'}  # the publisher's -> ours


class Builder(MediaBuilder):
    """Lip Reading in the Wild (Chung and Zisserman, ACCV 2016); see the README for its tree."""

    MIN_FRAMES = 25  # of 29
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
        LRW as unpacked from the archives of the page Lip Reading Datasets of Oxford's Visual Geometry Group:
        lipread_mp4/ABOUT/train/ABOUT_00001.mp4, and val and test likewise
    """

    @classmethod
    def sources(cls, root: pathlib.Path) -> list[Source]:
        """Every clip, in the published splits; `root` may be lipread_mp4 itself.

        Raises:
          UserError: there is none.
        """
        inside = root / 'lipread_mp4'
        found = list(_clips(str(inside if inside.is_dir() else root)))
        return trees.checked(found, root, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)


def _clips(folder: str) -> Iterator[Source]:
    for word in trees.listing(folder)[0]:
        for part, split in PARTS.items():
            for name in trees.listing(f'{folder}/{word}/{part}')[1]:
                stem, _, suffix = name.rpartition('.')
                label, _, number = stem.rpartition('_')
                if suffix == 'mp4' and label == word and number.isdecimal():
                    # The publisher does not say who speaks: each clip counts as a speaker of its own.
                    clip_id = f'{word}/{part}/{stem}'
                    yield Source(f'{folder}/{clip_id}.mp4', split, clip_id, clip_id, '', word)
