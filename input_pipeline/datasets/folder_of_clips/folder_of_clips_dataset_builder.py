"""TFDS builder of your own clips: every video below a folder."""

import os
import pathlib

from input_pipeline.datasets import trees
from input_pipeline.datasets.builder import SPLITS
from input_pipeline.datasets.media_builder import MediaBuilder, Source
from input_pipeline.media import VIDEO_SUFFIXES


class Builder(MediaBuilder):
    """Videos of speaking faces below one folder; see the README for its layout."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
        a folder of videos, FOLDER/[train|validation|test/]SPEAKER/any/folders/CLIP.mp4
    """

    @classmethod
    def sources(cls, root: pathlib.Path) -> list[Source]:
        """Every video; without a folder of its split it is training data, directly in `root` its own speaker.

        Raises:
          UserError: there is none, two would be one clip, or a folder cannot be read.
        """
        found = []
        for folder, parts, names in trees.walk(root):
            apart = bool(parts) and parts[0] in SPLITS
            for stem, suffix in map(os.path.splitext, names):
                if suffix.lower() in VIDEO_SUFFIXES:
                    named = (*parts[apart:], stem)
                    found.append(Source(f'{folder}/{stem}{suffix}', parts[0] if apart else 'train', '/'.join(named),
                                        named[0]))
        return trees.checked(found, root, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)
