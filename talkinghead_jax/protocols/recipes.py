"""What each metric of a whole video is: a named, versioned recipe, for published numbers follow many.

The part before the `@` says what is measured, the part after it by whose recipe. Definitions and sources are in the
docstrings of `talkinghead_jax.metrics`.
"""

import dataclasses
from collections.abc import Mapping

VERSION = 1  # of all recipes: raised when a number of any of them changes

LOWER, HIGHER, NEAR_ONE, NEITHER = 'lower', 'higher', 'near 1', ''
FRAME, CLIP, POOL = 'frame', 'clip', 'pool'
DETECTOR = 'face_landmarker.task'

_OTHER_DETECTOR = "the paper's landmarks are dlib's, ours are MediaPipe's"
_OTHER_CROP = 'the paper states neither network, crop nor alignment'


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a metric is computed and read.

    Attributes:
      better: 'lower', 'higher', 'near 1', or '' where neither is.
      unit: '' where it has none.
      meaning: one line.
      level: 'frame', a value a frame, of which a clip has the mean; 'clip'; or 'pool', one of all frames together.
      size: what the pictures are brought to.
      crop: what part of them is looked at.
      needs: networks of `third_party`, and DETECTOR.
      column: the paper's column that stands beside it, or ''.
      incomparable: why published numbers cannot be compared with it, or ''.
    """

    better: str
    unit: str
    meaning: str
    level: str = FRAME
    size: str = '256 px at most'
    crop: str = 'whole picture'
    needs: tuple[str, ...] = ()
    column: str = ''
    incomparable: str = ''


def _identity(backend: str, network: str) -> dict[str, Recipe]:
    aligned = {'size': '112 px', 'crop': "5 points of MediaPipe on ArcFace's template",
               'needs': (network, DETECTOR)}
    return {
        f'csim_gt@{backend}': Recipe(HIGHER, '', 'cosine of identity embeddings of the generated and the true frame',
                                     column='CSIM', incomparable=_OTHER_CROP, **aligned),
        f'csim_ref@{backend}': Recipe(HIGHER, '', 'cosine of identity embeddings of the generated frame and the '
                                                  'reference', **aligned)}


def _lpips(backbone: str, network: str) -> dict[str, Recipe]:
    return {f'lpips@{backbone}': Recipe(LOWER, '', 'learned perceptual distance to the true frame, LPIPS 0.1',
                                        needs=(network, f'lpips_{backbone}'))}


_MEDIAPIPE = {'size': '256 px', 'needs': (DETECTOR,)}
_SYNCNET = {'level': CLIP, 'size': '224 px', 'crop': 'face box from landmarks, 1.4 times as large',
            'needs': ('syncnet', DETECTOR)}
_MOTION = {'level': CLIP, 'size': '-', 'crop': '-'}

RECIPES: Mapping[str, Recipe] = {
    'lmd@mean20-mediapipe': Recipe(LOWER, 'px', 'mean distance of the 20 mouth points about their own centroid',
                                   column='LMD', incomparable=_OTHER_DETECTOR, **_MEDIAPIPE),
    'lmd@sum20-mediapipe': Recipe(LOWER, 'px', 'the same, summed over the 20 points', **_MEDIAPIPE),
    'm_lmd@interocular-mediapipe': Recipe(LOWER, '%', 'the mean, in percent of the distance of the outer eye corners',
                                          **_MEDIAPIPE),
    'f_lmd@interocular-mediapipe': Recipe(LOWER, '%', 'as m_lmd, of all 68 points about their centroid',
                                          **_MEDIAPIPE),
    'detection_failure@mediapipe': Recipe(LOWER, '', 'share of the frames in which no face is found', **_MEDIAPIPE),
    **_identity('iresnet100', 'iresnet100'),
    **_identity('iresnet50', 'iresnet50'),
    **_identity('mobilefacenet', 'mobilefacenet'),
    'ssim@authors': Recipe(HIGHER, '', 'structural similarity, uniform 7 x 7 window, sample covariance, 8-bit RGB',
                           column='SSIM'),
    'ssim@wang': Recipe(HIGHER, '', 'structural similarity, Gaussian 11 x 11 window (Wang et al. 2004), 8-bit RGB'),
    'psnr@rgb': Recipe(HIGHER, 'dB', 'peak signal-to-noise ratio over the three channels'),
    'fid@pytorch-fid': Recipe(LOWER, '', 'Frechet distance of Inception-v3 features of all frames', level=POOL,
                              size='299 px', needs=('inception_v3_fid',), column='FID',
                              incomparable='it depends on the number of frames and on the crop, which the paper '
                                           'does not state'),
    **_lpips('alex', 'alexnet'),
    **_lpips('vgg', 'vgg16'),
    **_lpips('squeeze', 'squeezenet1_1'),
    'lse_c@syncnet': Recipe(HIGHER, '', "SyncNet's confidence: median minus least distance over the offsets",
                            **_SYNCNET),
    'lse_d@syncnet': Recipe(LOWER, '', "SyncNet's least distance over the offsets", **_SYNCNET),
    'lse_d0@syncnet': Recipe(LOWER, '', "SyncNet's distance at offset 0", **_SYNCNET),
    'lse_offset@syncnet': Recipe(NEITHER, 'frames', 'where the distance is least; positive: the sound is early',
                                 **_SYNCNET),
    'temporal_difference_error': Recipe(LOWER, '', 'mean |change of the generated - change of the true frame| from '
                                                   'frame to frame, 0 to 255'),
    'background_flicker': Recipe(LOWER, '', 'mean change from frame to frame outside the face, less that of the '
                                            'truth, 0 to 255'),
    'rotation_deg': Recipe(LOWER, '°', 'mean angle between generated and true head rotation', **_MOTION),
    'translation_px': Recipe(LOWER, 'px', 'mean distance between generated and true head position', **_MOTION),
    'amplitude_error': Recipe(LOWER, '', "how far the six axes' amplitudes are from the true ones; 1 is a still head",
                              **_MOTION),
    'velocity_distance': Recipe(LOWER, '', 'Wasserstein distance of the distributions of speed, in true mean speeds',
                                **_MOTION),
    'jerk_distance': Recipe(LOWER, '', 'Wasserstein distance of the distributions of jerk, in true mean jerks',
                            **_MOTION),
    'beat_gain': Recipe(HIGHER, '', "alignment of the head's turns with the speech's energy peaks; 0 is chance",
                        **_MOTION),
}
