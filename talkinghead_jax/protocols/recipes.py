"""What each metric of a whole video is: a named, versioned recipe, for published numbers follow many.

The part before the `@` says what is measured, the part after it by whose recipe, or of what. Definitions and sources
are in the docstrings of `talkinghead_jax.metrics`.
"""

import dataclasses
from collections.abc import Mapping

LOWER, HIGHER, NEAR_ONE, NEAR_ZERO, NEITHER = 'lower', 'higher', 'near 1', 'near 0', ''
FRAME, CLIP, POOL = 'frame', 'clip', 'pool'
DETECTOR = 'face_landmarker.task'

Bounds = tuple[float | None, float | None]
_ANY: Bounds = (None, None)
_POSITIVE: Bounds = (0.0, None)
_COSINE: Bounds = (-1.0, 1.0)

_OTHER_DETECTOR = "the paper's landmarks are dlib's, ours are MediaPipe's"
_OTHER_CROP = ('the paper names ArcFace (Deng et al. 2019), but which of its models, on which faces trained, it does '
               'not say, nor crop and alignment')
_OTHER_PICTURES = ("the paper's test clips and crop are others; and it says that its SSIM suffers because it does "
                   'not crop to an alignment, as others do')
_OTHER_FRAMES = 'it depends on the number of frames and on the crop, which the paper does not state'


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a metric is computed and read.

    Attributes:
      better: 'lower', 'higher', 'near 1', 'near 0', or '' where none of them is.
      unit: '' where it has none.
      meaning: one line, that is understood without the other recipes.
      level: 'frame', a value a frame, of which a clip has the mean; 'clip'; or 'pool', one of all frames together.
      size: what the pictures are brought to.
      crop: what part of them is looked at.
      needs: networks of `third_party`, and DETECTOR.
      column: the paper's column that stands beside it, or ''.
      incomparable: why published numbers cannot be compared with it, or ''.
      possible: least and largest value that it can have; None where it is open.
      multiple_of: another metric of which this is a fixed multiple, so that it tells nothing new; or ''.
      version: raised when a number of it changes.
    """

    better: str
    unit: str
    meaning: str
    level: str = FRAME
    size: str = '256 px at most, by area averages'
    crop: str = 'whole picture'
    needs: tuple[str, ...] = ()
    column: str = ''
    incomparable: str = ''
    possible: Bounds = _ANY
    multiple_of: str = ''
    version: int = 1


def _landmarks() -> dict[str, Recipe]:
    of = {'size': '256 px, smaller pictures enlarged bicubically', 'needs': (DETECTOR,), 'possible': _POSITIVE}
    points = 'of the 20 mouth points in generated and true frame, each mouth about its own centroid'
    corners = "in percent of the distance of the true face's outer eye corners in the picture plane"
    mean = 'lmd@mean20-mediapipe'
    return {
        mean: Recipe(LOWER, 'px', f'mean distance {points}', column='LMD', incomparable=_OTHER_DETECTOR, **of),
        'lmd@sum20-mediapipe': Recipe(LOWER, 'px', f'sum of the distances {points}', multiple_of=mean, **of),
        'm_lmd@interocular-mediapipe': Recipe(LOWER, '%', f'mean distance {points}, {corners}', **of),
        'f_lmd@interocular-mediapipe': Recipe(
            LOWER, '%', f'mean distance of all 68 points, each face about its own centroid, {corners}', **of),
        'detection_failure@mediapipe': Recipe(
            LOWER, '', 'share of all frames in which no face is found', **{**of, 'possible': (0.0, 1.0)}),
    }


def _identity(backend: str, column: str, network: str) -> dict[str, Recipe]:
    """`network`: what it is, for readers; the published column stands under the paper's kind of network only."""
    of = {'size': '112 px', 'crop': "5 points of MediaPipe on ArcFace's template, bilinear",
          'needs': (backend, DETECTOR), 'possible': _COSINE}
    cosine = f'cosine of the embeddings that {network} makes of the generated frame and of the'
    return {
        f'csim_gt@{backend}': Recipe(HIGHER, '', f'{cosine} true frame', column=column,
                                     incomparable=_OTHER_CROP if column else '', **of),
        f'csim_ref@{backend}': Recipe(HIGHER, '', f'{cosine} reference', **of)}


def _images() -> dict[str, Recipe]:
    return {
        'ssim@authors': Recipe(
            HIGHER, '', "structural similarity as in the authors' code: uniform 7 x 7 window, sample covariance, "
            '8-bit RGB', size='256 x 256 px, as OpenCV does by INTER_AREA, smaller pictures enlarged', column='SSIM',
            incomparable=_OTHER_PICTURES, possible=_COSINE),
        'ssim@wang': Recipe(
            HIGHER, '', 'structural similarity of Wang et al. 2004: Gaussian 11 x 11 window, 8-bit RGB',
            possible=_COSINE),
        'psnr@rgb': Recipe(HIGHER, 'dB', 'peak signal-to-noise ratio over the three channels, at most 100 dB',
                           possible=(0.0, 100.0)),
        'fid@pytorch-fid': Recipe(
            LOWER, '', 'Frechet distance of Inception-v3 features of all generated and all true frames', level=POOL,
            size='299 px, bilinear without antialiasing', needs=('inception_v3_fid',), column='FID',
            incomparable=_OTHER_FRAMES, possible=_POSITIVE)}


def _lpips(backbone: str, network: str, name: str) -> dict[str, Recipe]:
    return {f'lpips@{backbone}': Recipe(
        LOWER, '', f'learned perceptual distance to the true frame, LPIPS 0.1 of {name}',
        size='as they come: nothing is resized', needs=(network, f'lpips_{backbone}'), possible=_POSITIVE)}


def _sync() -> dict[str, Recipe]:
    of = {'level': CLIP, 'size': '224 px, bilinear, not compressed to JPEG', 'needs': ('syncnet', DETECTOR),
          'crop': "1.4 times the face's box, which is made from MediaPipe's landmarks"}
    heard = "of the film and the true video's sound"
    offsets = 'over offsets of -15 to 15 frames'
    return {
        'lse_c@syncnet': Recipe(HIGHER, '', f"SyncNet's confidence: median less least distance {heard}, {offsets}",
                                possible=_POSITIVE, **of),
        'lse_d@syncnet': Recipe(LOWER, '', f"SyncNet's least distance {heard}, {offsets}", possible=_POSITIVE, **of),
        'lse_d0@syncnet': Recipe(LOWER, '', f"SyncNet's distance {heard} as they are, at offset 0",
                                 possible=_POSITIVE, **of),
        'lse_offset@syncnet': Recipe(
            NEITHER, 'frames', f"offset at which SyncNet's distance {heard} is least; positive: the sound is early",
            possible=(-15.0, 15.0), **of)}


def _temporal() -> dict[str, Recipe]:
    return {
        'temporal_difference_error': Recipe(
            LOWER, '', 'mean |change of the generated - change of the true picture| from frame to frame, 0 to 510',
            possible=(0.0, 510.0)),
        'background_flicker': Recipe(
            NEAR_ZERO, '', 'mean |change| from frame to frame less that of the true video, -255 to 255; negative: '
            'stiller than the truth', crop='outside the head region, which is made from the true landmarks',
            possible=(-255.0, 255.0))}


def _motion(of: str) -> dict[str, Recipe]:
    """`of`: 'driving' or 'mediapipe': whose poses are compared."""
    found = of == 'mediapipe'
    shared = {'level': CLIP, 'size': '256 px, smaller pictures enlarged bicubically' if found else '-',
              'crop': 'poses that MediaPipe finds in generated and true frames' if found
              else 'poses that drive the generator, and the true ones', 'needs': (DETECTOR,) if found else ()}
    axes = 'the six axes in units of 0.1 rad and 5 px'
    distance = 'Wasserstein distance of the distributions of'
    gain = f"alignment of the head's turns with the speech's energy peaks, 0 is chance, 1 every peak; {axes}"
    warned = ("; noise of the detector has turns, too, and can score where the head is still: read it beside the "
              "truth's")
    return {
        f'rotation_deg@{of}': Recipe(LOWER, '°', 'mean angle between generated and true head rotation',
                                     possible=(0.0, 180.0), **shared),
        f'translation_px@{of}': Recipe(
            LOWER, 'px', 'mean distance between generated and true head position, px of a picture of 256 px',
            possible=_POSITIVE, **shared),
        f'amplitude_error@{of}': Recipe(
            LOWER, '', "how far the axes' deviations over time are from the true ones, as a share of these; "
            f'{axes}; 1 is a still head', possible=_POSITIVE, **shared),
        f'velocity_distance@{of}': Recipe(
            LOWER, '', f'{distance} speed, in true mean speeds; {axes}; 1 is a still head',
            possible=_POSITIVE, **shared),
        f'jerk_distance@{of}': Recipe(LOWER, '', f'{distance} jerk, in true mean jerks; {axes}; 1 is a still head',
                                      possible=_POSITIVE, **shared),
        f'beat_gain@{of}': Recipe(NEITHER if found else HIGHER, '', gain + (warned if found else ''),
                                  possible=(None, 1.0), **shared)}


RECIPES: Mapping[str, Recipe] = {
    **_landmarks(),
    **_identity('iresnet100', 'CSIM', 'ArcFace (IResNet-100)'),
    **_identity('iresnet50', 'CSIM', 'ArcFace (IResNet-50)'),
    **_identity('mobilefacenet', '', 'MobileFaceNet (a smaller network, trained on other faces)'),
    **_images(),
    **_lpips('alex', 'alexnet', 'AlexNet'),
    **_lpips('vgg', 'vgg16', 'VGG16'),
    **_lpips('squeeze', 'squeezenet1_1', 'SqueezeNet 1.1'),
    **_sync(),
    **_temporal(),
    **_motion('driving'),
    **_motion('mediapipe'),
}
