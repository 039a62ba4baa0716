"""Psi, the facial expression learner: speech and a reference expression to PCA coefficients (paper, Sec. 3.2).

The paper encodes the window of 7 chunks around each frame on its own. Here the encoders are stacks of unpadded
convolutions over the whole stretch of speech, whose strides multiply to one video frame: output t depends on
window t only, as if each window were encoded alone, but shared samples are processed once.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.errors import UserError
from talkinghead_jax.models import audio as audio_model

# (kernel, stride) of each convolution. Strides multiply to 640 samples, or to 4 spectrogram hops of 10 ms, and the
# last kernel reduces a window (4480 samples; 26 spectrogram frames) to one output.
_RAW = ((10, 5), (8, 4), (8, 4), (8, 4), (4, 2), (5, 1))
_LOG_MEL = ((3, 1), (4, 2), (3, 2), (5, 1))
_MEL_START = 40  # samples: centres the 26 spectrogram frames in the window
ENCODERS = ('log_mel', 'raw')


class SpeechEncoder(nn.Module):
    """(B, T + 6, 640) int16 chunks -> (B, T, 4 * width) features of each frame's window."""

    kind: str
    width: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, chunks: jax.Array) -> jax.Array:
        """Encode every window of 7 chunks."""
        samples = audio_model.waveform(chunks)
        if self.kind == 'log_mel':
            # Dropping 40 samples on either side keeps the length a multiple of 80.
            x = audio_model.normalised(audio_model.log_mel(samples[:, _MEL_START:-_MEL_START]))
            layers, widths = _LOG_MEL, (1, 1, 2, 4)
        else:
            x, layers, widths = 10 * samples[..., None], _RAW, (1, 1, 2, 2, 4, 4)
        for i, ((kernel, stride), factor) in enumerate(zip(layers, widths, strict=True)):
            x = nn.Conv(factor * self.width, (kernel,), stride, 'VALID', dtype=self.dtype, name=f'conv{i}')(x)
            if i:  # the first layer keeps loudness: silence is not turned up
                x = nn.LayerNorm(dtype='float32', name=f'norm{i}')(x)
            x = nn.leaky_relu(x, 0.2)
        return x


class ExpressionNet(nn.Module):
    """Psi.

    Attributes:
      encoder: 'log_mel' or 'raw'.
      width: channels of the first convolution; features have 4 * width.
      components: P, the number of PCA coefficients.
      dtype: of convolutions and matrix products.
    """

    encoder: str
    width: int
    components: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, chunks: jax.Array, reference: jax.Array) -> jax.Array:
        """Predict expressions.

        Args:
          chunks: (B, T + 6, 640) int16; frame t is heard through chunks t .. t + 6.
          reference: (B, P) coefficients of the reference expression, in units of their deviation.

        Returns:
          (B, T, P) float32 coefficients in units of their deviation.
        """
        if self.encoder not in ENCODERS:
            raise UserError(f'expression.model.encoder is {self.encoder!r}; want one of {", ".join(ENCODERS)}')
        speech = SpeechEncoder(self.encoder, self.width, self.dtype, name='speech')(chunks)
        # Components with hardly any deviation are noise: none may drown the others.
        face = jnp.clip(reference, -5, 5)
        face = nn.leaky_relu(nn.Dense(self.width, dtype=self.dtype, name='reference')(face), 0.2)
        face = jnp.broadcast_to(face[:, None], (*speech.shape[:2], self.width))
        x = jnp.concatenate([speech.astype(face.dtype), face], axis=-1)
        x = nn.leaky_relu(nn.Dense(4 * self.width, dtype=self.dtype, name='fusion')(x), 0.2)
        return nn.Dense(self.components, dtype=self.dtype, name='coefficients')(x).astype(jnp.float32)
