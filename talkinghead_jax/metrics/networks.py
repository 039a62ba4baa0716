"""The published networks that metrics need: found, or named."""

import dataclasses
from typing import Any

from talkinghead_jax.errors import UserError
from third_party import assets, convert


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A converted network: its parameters, and the SHA-256 of the published file that they come from."""

    params: dict[str, Any]
    source_sha256: str


def load(name: str) -> Loaded | None:
    """The network `name` of `third_party.convert.NETWORKS`, or None where its weights are not on this machine.

    Raises:
      UserError: its file is damaged.
    """
    try:
        return Loaded(assets.load(name), assets.source_sha256(name))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f'{error}; {convert.instructions(name)}') from error


def file_of(name: str) -> str:
    """The published file of the network `name`: what is missing where `load` finds nothing."""
    return convert.published(name).file
