"""TFDS builder of CREMA-D: 91 actors who say twelve sentences in six emotions."""

import pathlib
import re

from input_pipeline.datasets import trees
from input_pipeline.datasets.media_builder import MediaBuilder, Source

# The original took the first 80 % of the list of clips for training: of 91 actors these are 73, and no one's clips
# are divided. Women and men are in every split.
LAST_ACTOR = {'train': 1073, 'validation': 1082, 'test': 1091}
VIDEOS = ('mp4', 'flv')  # the preferred first
SENTENCES = {  # Cao et al. 2014
    'IEO': "It's eleven o'clock.",
    'TIE': 'That is exactly what happened.',
    'IOM': "I'm on my way to the meeting.",
    'IWW': 'I wonder what this is about.',
    'TAI': 'The airplane is almost full.',
    'MTI': 'Maybe tomorrow it will be cold.',
    'IWL': 'I would like a new alarm clock.',
    'ITH': "I think I have a doctor's appointment.",
    'DFA': "Don't forget a jacket.",
    'ITS': "I think I've seen this before.",
    'TSI': 'The surface is slick.',
    'WSI': "We'll stop in a couple of minutes.",
}
_NAME = re.compile(r'10(0[1-9]|[1-8]\d|9[01])_(' + '|'.join(SENTENCES)
                   + r')_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX|X(?=$))')


class Builder(MediaBuilder):
    """CREMA-D (Cao et al., IEEE Transactions on Affective Computing 2014); see the README for its tree."""

    MIN_FRAMES = 25  # the shortest whole clips take 1.3 s; a few published ones are damaged
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
        CREMA-D as its authors' repository has it, fetched with Git LFS: VideoFlash/1001_DFA_ANG_XX.flv (or
        .mp4 in any folder, which are preferred) and AudioWAV/1001_DFA_ANG_XX.wav
    """

    @classmethod
    def sources(cls, root: pathlib.Path) -> list[Source]:
        """Every clip once; its sound is the .wav of its name where there is one.

        Raises:
          UserError: there is none.
        """
        videos, sounds = {}, {}
        for folder, parts, names in trees.walk(root):
            for name in names:
                stem, _, suffix = name.rpartition('.')
                # One published name, 1040_ITH_SAD_X, lacks its last letter in some of the folders.
                clip = stem + 'X' if stem.endswith('_X') else stem
                suffix = suffix.lower()
                if suffix not in (*VIDEOS, 'wav') or not _NAME.fullmatch(stem):
                    continue
                kind = sounds if suffix == 'wav' else videos
                file = (VIDEOS.index(suffix) if suffix in VIDEOS else 0, len(parts), f'{folder}/{name}')
                kind[clip] = min(file, kind.get(clip, file))
        found = [_source(clip, path, sounds[clip][-1] if clip in sounds else '')
                 for clip, (*_, path) in videos.items()]
        return trees.checked(found, root, cls.MANUAL_DOWNLOAD_INSTRUCTIONS)


def _source(clip: str, path: str, sound: str) -> Source:
    actor, sentence = clip.split('_')[:2]
    split = next(split for split, last in LAST_ACTOR.items() if int(actor) <= last)
    return Source(path, split, clip, actor, sound, SENTENCES[sentence])
