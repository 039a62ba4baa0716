"""LSE-D and LSE-C: how well lips and speech fit, by SyncNet (Chung and Zisserman 2016; Prajwal et al., ACM MM 2020).

After the published code (github.com/joonson/syncnet_python): films of 25 frames and sound of 16,000 samples a second.
Each of the N - 5 windows of five frames is compared with the 0.2 s of sound that begin with it, and with those up to
15 frames earlier and later. What differs from that code: crops come from landmarks (`face_crops`), and frames are not
compressed to JPEG on the way. Published numbers follow two habits, crops of tracked faces as here, and whole frames
squeezed to 224 px, which are not comparable.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from third_party.syncnet.mfcc import RATE, mfcc
from third_party.syncnet.network import COEFFICIENTS, FRAMES, SIDE, STEPS, Stream

NETWORK = 'syncnet'
FPS = 25
REACH = 15  # frames that the sound is shifted either way
FEWEST = 20  # embeddings: with fewer, most offsets compare with padding only, and there is no score
FOREHEAD = 0.3  # of the height from the brows to the chin: what a face detector's box holds above the brows
_SCALE = 0.4  # the published crop_scale
AROUND = 6  # frames either way, over which a box is the median, as published
_GREY = 110  # outside the picture, as published
_EPSILON = 1e-6  # added to each difference by PyTorch's pairwise_distance
_SAMPLES, _STEPS = RATE // FPS, 4  # of sound and of MFCC, to a frame
_WINDOWS = 16  # of film at a time: 0.1 GB
_PIECES = 64  # of sound at a time, always: one compilation


class Sync(NamedTuple):
    """What SyncNet says of a clip; all NaN where it has fewer than `FEWEST` embeddings.

    Attributes:
      offset: frames at which the mean distance is least, a whole number; positive: the sound is early, and frame i
        fits the sound of frame i - offset; negative: it comes late. That is the published code's sign, whose own
        example has 3.
      confidence: LSE-C, median of the mean distances over the offsets less the least.
      distance: LSE-D, the least.
      distance_at_0: the mean distance as the clip is.
    """

    offset: float
    confidence: float
    distance: float
    distance_at_0: float


def face_crops(images: jax.Array, landmarks: jax.Array) -> jax.Array:
    """What SyncNet looks at: square crops around a face, 224 px.

    The published crops follow a track of S3FD's boxes: half a box is max(height, width) / 2, the median of 13 frames;
    the crop reaches from the centre half a box up, 1.8 down and 1.4 to either side, and is resized bilinearly. The
    box here is an approximation: that of the landmarks, and 0.3 of its height above it, because iBUG-68 ends at the
    brows. (YuNet's box, trained on S3FD's data set, has 0.28, 0.35 and 0.30 of it there, in the median of three clips
    of VoxCeleb2, and half sides of 0.64, 0.66 and 0.64, where 0.65 is taken.) At a film's ends the median repeats the
    first and the last box; the published one takes zeros for what is beyond.

    Args:
      images: (N,H,W,3) uint8 RGB, a film at 25 frames a second.
      landmarks: (N,68,2 or 3) px of `images`; finite.

    Returns:
      (N,224,224,3) uint8 RGB; grey (110) outside the picture.
    """
    low, high = landmarks[..., :2].min(1), landmarks[..., :2].max(1)
    low = low.at[:, 1].add(-FOREHEAD * (high - low)[:, 1])
    box = jnp.concatenate([(low + high) / 2, (high - low).max(-1, keepdims=True) / 2], axis=-1)
    around = jnp.clip(np.arange(len(box))[:, None] + np.arange(-AROUND, AROUND + 1)[None], 0, len(box) - 1)
    return jax.lax.map(_crop, (images, jnp.median(box[around], axis=1)))


def _crop(frame: tuple[jax.Array, jax.Array]) -> jax.Array:
    image, (x, y, half) = frame
    down = _interpolation(y - half, y + half * (1 + 2 * _SCALE), image.shape[0])
    across = _interpolation(x - half * (1 + _SCALE), x + half * (1 + _SCALE), image.shape[1])
    crop = jnp.einsum('yh,hwc,xw->yxc', down, image.astype(jnp.float32), across, precision='highest')
    inside = down.sum(1)[:, None, None] * across.sum(1)[None, :, None]
    return jnp.round(jnp.clip(crop + _GREY * (1 - inside), 0, 255)).astype(jnp.uint8)


def _interpolation(start: jax.Array, stop: jax.Array, side: int) -> jax.Array:
    """(224, side) weights of the pixels of a row, from pixel floor(start) to before floor(stop), bilinearly."""
    start, stop = jnp.floor(start), jnp.floor(stop)
    size = jnp.maximum(stop - start, 1)
    places = start + jnp.clip((jnp.arange(SIDE) + 0.5) * size / SIDE - 0.5, 0, size - 1)
    return jnp.maximum(0, 1 - jnp.abs(places[:, None] - jnp.arange(side)[None]))


def video_embeddings(params: Mapping[str, Any], crops: jax.Array) -> jax.Array:
    """Embed every window of five frames.

    Args:
      params: of `NETWORK`, as `third_party.assets.load` returns them.
      crops: (N,224,224,3) RGB, 0 to 255, uint8 or floats; of `face_crops`.

    Returns:
      (max(N - 4, 0), 1024) float32; row i is of the frames i to i + 4, so that a film may be padded with further
      frames, to spare compilations, and the rows beyond N - 4 left out.
    """
    network, count = Stream.of('lip', params['lip']), max(len(crops) - FRAMES + 1, 0)
    if not count:
        return jnp.zeros((0, network.widths[-1]))
    size = min(_WINDOWS, count)
    starts = np.minimum(np.arange(-(-count // size) * size), count - 1).reshape(-1, size)

    def embed(start: jax.Array) -> jax.Array:
        windows = jnp.asarray(crops)[start[:, None] + np.arange(FRAMES)[None]].astype(jnp.float32)
        return network.apply({'params': params['lip']}, windows[..., ::-1])  # BGR

    return jax.lax.map(embed, starts).reshape(-1, network.widths[-1])[:count]


def audio_embeddings(params: Mapping[str, Any], audio: np.ndarray, frames: int) -> np.ndarray:
    """Embed the 0.2 s of sound that begin with each frame; not to be traced, for MFCC are made on the host.

    Args:
      params: as for `video_embeddings`.
      audio: (A,) int16, mono, 16 kHz, from the film's first frame on.
      frames: of the film, N.

    Returns:
      (max(min(N, A // 640) - 5, 0), 1024) float32. That is one row less than of the film, as published: N frames of
      sound hold 4 N - 1 windows of MFCC, too few for the last.

    Raises:
      ValueError: the samples are not int16.
    """
    if np.asarray(audio).dtype != np.int16:
        raise ValueError(f'samples of {np.asarray(audio).dtype}; SyncNet wants int16')
    count = max(min(frames, len(audio) // _SAMPLES) - FRAMES, 0)
    if not count:
        return np.zeros((0, params['aud']['fc2']['bias'].shape[0]), np.float32)
    steps = np.lib.stride_tricks.sliding_window_view(mfcc(audio), STEPS, axis=0)[::_STEPS][:count]  # (count,13,20)
    pieces = np.zeros((-(-count // _PIECES) * _PIECES, COEFFICIENTS, STEPS), np.float32)
    pieces[:count] = steps
    return np.concatenate([_embed_sound(params['aud'], piece)
                           for piece in pieces.reshape(-1, _PIECES, *pieces.shape[1:])])[:count]


@jax.jit
def _embed_sound(params: Mapping[str, Any], pieces: jax.Array) -> jax.Array:
    return Stream.of('aud', params).apply({'params': params}, pieces)


def scores(video: np.ndarray, audio: np.ndarray, reach: int = REACH) -> Sync:
    """LSE-D, LSE-C and the offset, in float64 on the host.

    The mean over time of the Euclidean distance (with PyTorch's 1e-6 in each difference) between film and shifted
    sound, for every shift up to `reach`; sound beyond its ends is zeros, which count, as published.

    Args:
      video: (N,D) embeddings.
      audio: (M,D) embeddings; of the longer one, the end is left out.
      reach: frames either way.

    Returns:
      All NaN with fewer than `FEWEST` embeddings of either: such a clip has no score.
    """
    count = min(len(video), len(audio))
    if count < FEWEST:
        return Sync(*[float('nan')] * 4)
    video, audio = (np.asarray(x, np.float64)[:count] for x in (video, audio))
    audio = np.pad(audio, ((reach, reach), (0, 0)))
    distances = np.array([np.linalg.norm(video - audio[shift:shift + count] + _EPSILON, axis=1).mean()
                          for shift in range(2 * reach + 1)])
    least = int(distances.argmin())
    return Sync(float(reach - least), float(np.median(distances) - distances[least]), float(distances[least]),
                float(distances[reach]))
