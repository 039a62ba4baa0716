"""The unprojection network: PRNet's U-net from an image to a UV position map (Feng et al. 2018; paper, Sec. 4.1).

At 256 px, width 16 and 5 levels this is the published network: a 4 x 4 convolution, ten residual blocks in pairs
down to 8 x 8 x 512, seventeen transposed convolutions back, batch normalisation and ReLU after each, no biases, a
sigmoid at the end. Smaller images take fewer levels, so that the bottleneck stays 8 x 8.

Convolutions of stride 2 are computed as 2 x 2 convolutions on 2 x 2 blocks of pixels (space to depth, and its
adjoint): the same numbers, and no dilated convolution in the gradient, which CPUs are slow at.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry.face import CENTROID
from talkinghead_jax.nn.blocks import depth_to_space
from talkinghead_jax.ops.batch_parallel import mapped_axis

POSITION_RANGE = 1.1 * 256  # crop px: what the sigmoid's 0..1 stands for
DEPTH_OFFSET = -POSITION_RANGE / 2  # crop px: our z is centred on the head, so the sigmoid's middle is z = 0
_BOTTLENECK = 8  # px


def levels(size: int) -> int:
    """Number of halvings that take a `size` x `size` image to the 8 x 8 bottleneck.

    Raises:
      UserError: the size is not 8 times a power of two, or below 16.
    """
    count = (size // _BOTTLENECK).bit_length() - 1
    if count < 1 or size != _BOTTLENECK << count:
        raise UserError(f'image_size is {size}; the unprojection network wants 16, 32, 64, 128, 256 or 512')
    return count


def strided_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4 x 4 convolution of stride 2, one pixel of zeros around: (B, H, W, I), (4, 4, I, O) -> (B, H/2, W/2, O)."""
    _, _, inputs, outputs = kernel.shape
    blocks = _space_to_depth(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
    kernel = kernel.reshape(2, 2, 2, 2, inputs, outputs).transpose(0, 2, 1, 3, 4, 5)
    return _convolve(blocks, kernel.reshape(2, 2, 4 * inputs, outputs), 'VALID')


def transposed_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Adjoint of `strided_convolution`: (B, H, W, I), (4, 4, O, I) -> (B, 2H, 2W, O)."""
    _, _, outputs, inputs = kernel.shape
    kernel = kernel.reshape(2, 2, 2, 2, outputs, inputs).transpose(0, 2, 5, 1, 3, 4)
    kernel = kernel.reshape(2, 2, inputs, 4 * outputs)[::-1, ::-1]
    blocks = _convolve(x, kernel, ((1, 1), (1, 1)))
    return depth_to_space(blocks)[:, 1:-1, 1:-1]


def _convolve(x: jax.Array, kernel: jax.Array, padding: object) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _space_to_depth(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


class Convolution(nn.Module):
    """Kernel-4 convolution of stride 1 or 2, without bias."""

    features: int
    stride: int = 1
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, I) -> (B, H / stride, W / stride, features)."""
        kernel = self.param('kernel', nn.initializers.he_normal(), (4, 4, x.shape[-1], self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        return strided_convolution(x, kernel) if self.stride == 2 else _convolve(x, kernel, 'SAME')


class TransposedConvolution(nn.Module):
    """Kernel-4 transposed convolution of stride 1 or 2, without bias; the kernel is (4, 4, outputs, inputs)."""

    features: int
    stride: int = 1
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(B, H, W, I) -> (B, H * stride, W * stride, features)."""
        # A position of the output hears 16 / stride^2 kernel positions of each input channel.
        initializer = nn.initializers.variance_scaling(2.0 * self.stride ** 2, 'fan_in', 'normal', -1, -2)
        kernel = self.param('kernel', initializer, (4, 4, self.features, x.shape[-1]))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.stride == 2:
            return transposed_convolution(x, kernel)
        return _convolve(x, kernel[::-1, ::-1].swapaxes(2, 3), ((2, 1), (2, 1)))


def _batch_norm(momentum: float, train: bool, name: str) -> nn.BatchNorm:
    """Normalisation by the whole batch, also where `pmap` shows a device only its own examples."""
    return nn.BatchNorm(not train, momentum=momentum, epsilon=1e-3, dtype='float32', axis_name=mapped_axis(),
                        name=name)


class Activation(nn.Module):
    """Normalisation and ReLU: over the batch, or over groups of 4 channels of each image where `momentum` is 0."""

    momentum: float
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalise; running statistics instead of the batch's unless `train`."""
        if self.momentum:
            x = _batch_norm(self.momentum, train, 'norm')(x)
        else:
            x = nn.GroupNorm(None, math.gcd(4, x.shape[-1]), dtype='float32', name='norm')(x)
        return nn.relu(x).astype(self.dtype)


class ResidualBlock(nn.Module):
    """PRNet's block: 1 x 1 to half width, 4 x 4, 1 x 1 back; normalised after the addition."""

    features: int
    stride: int
    momentum: float
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(B, H, W, I) -> (B, H / stride, W / stride, features)."""
        def pointwise(features: int, name: str) -> nn.Conv:
            return nn.Conv(features, (1, 1), use_bias=False, dtype=self.dtype, name=name)

        def activation(name: str) -> Activation:
            return Activation(self.momentum, self.dtype, name=name)

        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = pointwise(self.features, 'shortcut')(x[:, ::self.stride, ::self.stride])
        x = activation('narrow_act')(pointwise(self.features // 2, 'narrow')(x), train)
        x = Convolution(self.features // 2, self.stride, self.dtype, name='middle')(x)
        x = pointwise(self.features, 'wide')(activation('middle_act')(x, train))
        return activation('act')(x + shortcut, train)


class Keypoints(nn.Module):
    """Expected position of each of `count` soft maxima: (B, H, W, C) -> (B, 2 count), the image spans [-1, 1]."""

    count: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Softmax over the image, then the mean position (Finn et al. 2016)."""
        heat = nn.Dense(self.count)(x.astype(jnp.float32))
        rows, columns = jax.nn.softmax(heat, (1, 2)).sum(2), jax.nn.softmax(heat, (1, 2)).sum(1)
        return jnp.concatenate([jnp.einsum('bsn,s->bn', part, jnp.linspace(-1, 1, part.shape[1]))
                                for part in (rows, columns)], axis=-1)


class GlobalPath(nn.Module):
    """Lets the whole bottleneck see the whole image, and reads the head's motion off it."""

    hidden: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: jax.Array, finer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Look at all places at once.

        Args:
          x: (B, 8, 8, C) the bottleneck.
          finer: (B, 16, 16, C') features one level above.

        Returns:
          x with what was seen added, and (B, 3, 4) an affine change, about zero at the start.
        """
        squeezed = nn.Dense(16, dtype=self.dtype)(x).astype(jnp.float32)
        # Scaled down, since so many inputs change together.
        seen = [Keypoints(32)(x), Keypoints(32)(finer), 0.2 * squeezed.reshape(x.shape[0], -1)]
        seen = nn.relu(nn.Dense(self.hidden, dtype=self.dtype)(jnp.concatenate(seen, axis=-1)))
        motion = nn.Dense(12, kernel_init=nn.initializers.normal(0.01))(seen.astype(jnp.float32))
        told = nn.Dense(x.shape[-1], dtype=self.dtype)(seen)[:, None, None]
        return x + told, motion.reshape(-1, 3, 4)


def _moved(positions: jax.Array, motion: jax.Array) -> jax.Array:
    """p + A (p - c) + b: (S, S, 3) crop px, (B, 3, 4) = [A, b / 64 px] -> (B, S, S, 3)."""
    centred = positions - jnp.broadcast_to(CENTROID.astype(jnp.float32), positions.shape)
    change = jnp.einsum('bij,hwj->bhwi', motion[..., :3], centred)
    return positions[None] + change + 64 * motion[:, None, None, :, 3]


class UnprojectionNet(nn.Module):
    """Image to position map.

    Attributes:
      width: channels at full resolution; 16 in PRNet.
      residual: instead of the sigmoid's position, predict an affine motion of the mean map and what to add to it,
        with a view of the whole image at the bottleneck and one transposed convolution a level: learns faster
        from little. Not PRNet's form.
      hidden: width of that view.
      momentum: of the running batch statistics; 0 normalises each image by itself, better for small batches.
      depth_offset: crop px, z at the sigmoid's 0.
      dtype: of convolutions.
    """

    width: int = 16
    residual: bool = False
    hidden: int = 128
    momentum: float = 0.999
    depth_offset: float = DEPTH_OFFSET
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, image: jax.Array, mean_map: jax.Array, train: bool = False) -> jax.Array:
        """Predict positions.

        Args:
          image: (B, S, S, 3) in [-1, 1].
          mean_map: (S, S, 3) crop px, the dataset's mean position map (read by the residual form only).
          train: normalise by the batch's statistics and update the running ones.

        Returns:
          (B, S, S, 3) float32, crop px.
        """
        depth = levels(image.shape[1])
        x = (image + 1) / 2  # PRNet's range
        x = Activation(self.momentum, self.dtype, name='enter_act')(
            Convolution(self.width, dtype=self.dtype, name='enter')(x), train)
        for level in range(1, depth + 1):
            finer = x
            for i, stride in enumerate((2, 1)):
                block = ResidualBlock(self.width << level, stride, self.momentum, self.dtype, name=f'down{level}_{i}')
                x = block(x, train)

        if self.residual:
            x, motion = GlobalPath(self.hidden, self.dtype, name='global')(x, finer)

        def up(x: jax.Array, features: int, stride: int, name: str) -> jax.Array:
            x = TransposedConvolution(features, stride, self.dtype, name=name)(x)
            return Activation(self.momentum, self.dtype, name=f'{name}_act')(x, train)

        x = up(x, self.width << depth, 1, 'bottom')
        for level in range(depth - 1, -1, -1):
            # PRNet follows the stride by two more in the deeper levels, by one in the two shallowest.
            count = 1 if self.residual else 3 if level > 1 else 2
            for i in range(count):
                x = up(x, self.width << level, 2 if i == 0 else 1, f'up{level}_{i}')
        if self.residual:
            details = TransposedConvolution(3, dtype=self.dtype, name='details')(x).astype(jnp.float32)
            return _moved(mean_map, motion) + details
        for i in range(2):
            x = up(x, 3, 1, f'out{i}')
        x = TransposedConvolution(3, dtype=self.dtype, name='out2')(x)
        if self.momentum:
            x = _batch_norm(self.momentum, train, 'out2_norm')(x)
        offset = jnp.array([0, 0, self.depth_offset], jnp.float32)
        return POSITION_RANGE * nn.sigmoid(x.astype(jnp.float32)) + offset[None, None, None]
