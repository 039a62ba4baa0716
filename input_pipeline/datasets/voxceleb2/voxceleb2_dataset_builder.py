"""TFDS builder of VoxCeleb2: clips of celebrities' interviews, by speaker and video."""

import pathlib
from collections.abc import Iterator

from input_pipeline.datasets import trees
from input_pipeline.datasets.media_builder import MediaBuilder, Source
from input_pipeline.media import SOUND_SUFFIXES
from talkinghead_jax.errors import UserError

TEST_SPEAKERS = 118  # in the published test set


class Builder(MediaBuilder):
    """VoxCeleb2 (Chung, Nagrani and Zisserman, Interspeech 2018); see the README for its tree."""

    MIN_FRAMES = 25  # the publisher's shortest clips take 3 s, so only a damaged one has fewer
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
        VoxCeleb2 as unpacked from the archives of the VoxCeleb page of Oxford's Visual Geometry Group:
        dev/mp4/id00012/VIDEO/00001.mp4 and test/mp4/id00017/VIDEO/00001.mp4, with or without the sound apart in
        dev/aac/id00012/VIDEO/00001.m4a and test/aac/
    """

    @classmethod
    def sources(cls, root: pathlib.Path) -> list[Source]:
        """Every clip; `dev` is training data, `test` is test data, and no speaker is in both.

        Raises:
          UserError: there is none, or mp4/ directly in `root`, where the test archive unpacks, is not the test set.
        """
        found = [*_split(f'{root}/dev', 'train'), *_split(f'{root}/test', 'test')]
        speakers = _speakers(f'{root}/mp4')
        if len(speakers) > TEST_SPEAKERS:
            raise UserError(f'{root}/mp4 holds {len(speakers)} speakers, more than the {TEST_SPEAKERS} of the test '
                            f'set; want the development set in {root}/dev/mp4')
        found += _clips(f'{root}/mp4', f'{root}/aac', 'test')
        return trees.checked(found, root, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)


def _split(folder: str, split: str) -> Iterator[Source]:
    """Clips in mp4/ and aac/ of a folder, or those of speakers directly in it."""
    yield from _clips(f'{folder}/mp4', f'{folder}/aac', split)
    yield from _clips(folder, f'{folder}/aac', split)


def _speakers(folder: str) -> list[str]:
    return [name for name in trees.listing(folder)[0] if name.startswith('id') and name[2:].isdecimal()]


def _clips(videos: str, sounds: str, split: str) -> Iterator[Source]:
    # The numbered files only: other programs leave theirs, such as 00001_aligned.mp4, beside them.
    apart = bool(trees.listing(sounds)[0])
    for speaker in _speakers(videos):
        for video in trees.listing(f'{videos}/{speaker}')[0]:
            inside = f'{speaker}/{video}'
            heard = set(trees.listing(f'{sounds}/{inside}')[1]) if apart else ()
            for name in trees.listing(f'{videos}/{inside}')[1]:
                stem, _, suffix = name.rpartition('.')
                if suffix == 'mp4' and stem.isdecimal():
                    sound = next((stem + ending for ending in SOUND_SUFFIXES if stem + ending in heard), '')
                    yield Source(f'{videos}/{inside}/{name}', split, f'{inside}/{stem}', speaker,
                                 f'{sounds}/{inside}/{sound}' if sound else '')
