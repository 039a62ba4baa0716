import datetime
import os
import platform

import jax
import pytest

from benchmarks import report
from talkinghead_jax.errors import UserError


def test_head_says_machine_versions_day_and_how_to_run(tmp_path):
    path = tmp_path / 'docs' / 'performance.md'
    report.write_section('One', 'text', path)
    head = path.read_text().split('## One')[0]
    assert head.startswith('# Performance\n')
    for fact in ('`make bench`', f'Python {platform.python_version()}', f'jax {jax.__version__}', 'jaxlib ', 'torch ',
                 'numba ', platform.system(), datetime.date.today().isoformat(), 'GiB',
                 f'{len(os.sched_getaffinity(0))} cores'):
        assert fact in head


def test_a_section_is_replaced_in_its_place_and_the_others_stay(tmp_path):
    path = tmp_path / 'performance.md'
    report.write_section('One', '### Part\n\n| a |\n|---|\n| 1 |', path)
    report.write_section('Two', 'second', path)
    before = path.read_text()
    report.write_section('One', 'anew', path)
    after = path.read_text()
    assert '| 1 |' in before
    assert '| 1 |' not in after
    assert after.index('## One') < after.index('anew') < after.index('## Two') < after.index('second')
    assert after.count('## One') == after.count('# Performance') == 1


def test_writing_the_same_section_twice_changes_nothing(tmp_path):
    path = tmp_path / 'performance.md'
    report.write_section('One', 'text', path)
    report.write_section('Two', 'text', path)
    once = path.read_bytes()
    report.write_section('One', 'text', path)
    assert path.read_bytes() == once


def test_a_folder_that_cannot_be_made_is_a_users_mistake(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot write'):
        report.write_section('One', 'text', tmp_path / 'file' / 'performance.md')
