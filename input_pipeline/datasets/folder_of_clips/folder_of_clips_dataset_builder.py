"""TFDS builder of your own clips: every video below a folder."""

import pathlib

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
        """Every video; without a folder of its split it is training data, directly in `root` its own speaker."""
        found = []
        for path in sorted(path for path in root.rglob('[!.]*') if path.suffix.lower() in VIDEO_SUFFIXES):
            parts = path.relative_to(root).with_suffix('').parts
            split = parts[0] if parts[0] in SPLITS else 'train'
            named = parts[1:] if parts[0] in SPLITS and len(parts) > 1 else parts
            found.append(Source(str(path), split, '/'.join(named), named[0]))
        return found
