"""NAME=DIR in flags: what is a name, what a folder, and what is neither."""

import pathlib

import pytest

from talkinghead_jax import command_line
from talkinghead_jax.errors import UserError


@pytest.mark.parametrize(('argument', 'name', 'folder'), [
    ('Ours=out/a', 'Ours', 'out/a'),
    ('audio + Phi=/data/b', 'audio + Phi', '/data/b'),
    ('v1.2_x-y=/data/run=2/out', 'v1.2_x-y', '/data/run=2/out'),
    ('/data/run=1/out', 'out', '/data/run=1/out'),
    ('./run=1', 'run=1', './run=1'),
    ('..=x', '..=x', '..=x'),
    ('out/b/', 'b', 'out/b'),
    ('out/b/..', 'out', 'out/b/..'),
])
def test_names_and_folders_are_told_apart(argument, name, folder):
    assert command_line.folders([argument], 'videos') == {name: pathlib.Path(folder).absolute()}


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['=out'], r'--videos==out: the name is empty; want NAME=DIR$'),
    ([' =out'], r'--videos= =out: the name is empty; want'),
    (['/'], r'--videos=/: the name is empty; want'),
    (['Ours='], r'--videos=Ours=: the folder is empty; want NAME=DIR$'),
    ([''], r'--videos=: the folder is empty; want'),
    (['/a/out', '/b/out'], r"--videos=/b/out: the name 'out' is taken by /a/out; want NAME=DIR with another name$"),
])
def test_what_is_neither_is_told_of(arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        command_line.folders(arguments, 'videos')
