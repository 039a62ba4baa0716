"""The tables of an evaluation of whole videos in every format, read back by independent readers."""

import csv
import json
import re

import numpy as np
import pytest
from protocol_results import CLIP_METRICS, FRAME_METRICS, MISSING, POOLED, make_results

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.intervals import bootstrap
from talkinghead_jax.protocols import published
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.report import catalogue, protocol_html, protocol_model, protocol_page, protocol_tables

HOSTILE = 'a_b & 50% {#1} \\x $y$ ~^ | <i> [z], "q" *s*'
PUBLISHED = published.published('audio_driven', 'voxceleb2')


@pytest.fixture(scope='module', name='results')
def _results():
    results = make_results()
    return make_results(labels={**results.labels, 'phi': HOSTILE})


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp('tables')
    (folder / 'printed.txt').write_text(protocol_tables.write(folder, results))
    return folder


def read_csv(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_csv_holds_every_number_its_interval_and_its_clips(folder, results):
    found = {(line['row'], line['metric']): line for line in read_csv(folder / 'table.csv')
             if line['kind'] in ('ours', 'baseline')}
    assert len(found) == 3 * 7 + 1
    for (row, metric), line in found.items():
        assert float(line['mean']) == pytest.approx(results.mean(row, metric), rel=1e-12)
        assert line['kind'] == ('baseline' if row in results.baselines else 'ours')
        if metric != POOLED:
            want = bootstrap(results.per_clip[row][metric], results.clips['speaker_id'])
            assert [float(line['low']), float(line['high'])] == [want.low, want.high]
    assert [found['phi', metric]['clips'] for metric in ('lmd@mean20-mediapipe', 'ssim@authors')] == ['5', '6']
    assert [found['phi', metric]['frames'] for metric in ('lmd@mean20-mediapipe', 'ssim@authors', POOLED)] == [
        '395', '455', '']
    assert found['reference', 'ssim@authors']['note'] == 'the key frame, repeated'
    assert found['true', POOLED]['low'] == ''
    assert found['phi', 'ssim@authors']['label'] == HOSTILE
    ahead = (*FRAME_METRICS, POOLED, 'rotation_deg@driving')
    assert {(line['row'], line['metric']) for line in found.values() if line['best'] == '1'} == {
        ('phi', 'beat_gain@driving'), *(('true', metric) for metric in ahead)}


def test_csv_marks_the_published_and_the_missing(folder):
    lines = read_csv(folder / 'table.csv')
    of_paper = [line for line in lines if line['kind'] == 'published']
    assert len(of_paper) == 4 * 4
    assert {(line['label'], line['metric']): float(line['mean']) for line in of_paper}[
        'Chen et al. 2020 (K = 1)', 'lmd@mean20-mediapipe'] == 3.37
    assert [line['mean'] + line['low'] + line['note'] for line in lines if line['kind'] == 'not computed'] == [
        'not computed: needs syncnet_v2.model']


def test_json_says_the_same_and_the_recipes(folder, results):
    found = json.loads((folder / 'table.json').read_text())
    rows = {row['row']: row for row in found['rows']}
    for line in read_csv(folder / 'table.csv'):
        if line['kind'] in ('ours', 'baseline'):
            cell = rows[line['row']]['values'][line['metric']]
            assert cell['mean'] == float(line['mean'])
            assert cell['low'] == (float(line['low']) if line['low'] else None)
    assert [row['columns'] for row in found['published']] == [values for _, values in PUBLISHED]
    assert {row['kind'] for row in found['published']} == {'published'}
    assert found['metrics']['csim_gt@mobilefacenet']['weights'] == results.recipes['csim_gt@mobilefacenet']['weights']
    assert not found['metrics'][MISSING]['computed']
    assert all(MISSING not in row['values'] for row in found['rows'])
    assert found['intervals'].startswith('95 % bootstrap intervals over 3 speakers, ')
    assert rows[TRUTH]['values'].keys() == {'beat_gain@driving'}


def test_markdown_has_whole_tables_and_the_published_below(folder, results):
    page = (folder / 'table.md').read_text()
    blocks = [block.split('\n') for block in page.strip().split('\n\n') if block.startswith('|')]
    for block in blocks:
        assert len({len(re.findall(r'(?<!\\)\|', line)) for line in block}) == 1
    labels = [re.split(r'(?<!\\)\|', line)[1].strip() for line in blocks[0][2:]]
    assert labels[0] == 'Ours (true pose)'
    assert labels[4:] == [f'{label} (published)' for label, _ in PUBLISHED]
    assert '| **60.0** |' in blocks[0][2]
    assert blocks[0][-1].endswith('| 3.37 | 0.42 | 0.74 | 47 |')
    assert '(5 of 6 clips, 395 of 455 frames)' in blocks[0][3]
    assert blocks[0][0] == ('|  | lmd@mean20-mediapipe (px) ↓ | csim_gt@iresnet100 ↑ | ssim@authors ↑ | '
                            'fid@pytorch-fid ↓ |')
    assert f'| {results.by_yaw["true"]["psnr@rgb"][:, 0, 0].sum() / 275:.1f} (275) |' in page


def test_notes_tell_recipes_hashes_and_what_is_missing(folder, results):
    digest = results.recipes['csim_gt@mobilefacenet']['weights']['mobilefacenet']
    for name in ('table.md', 'table.tex'):
        page = (folder / name).read_text().replace('\\_', '_').replace('{[}', '[')
        for words in (f'weights of mobilefacenet: {digest[:12]}.', 'size: 112 px', '(version 1)', 'over 3 speakers',
                      'lse_c@syncnet: not computed: needs syncnet_v2.model.', 'biased upwards: only 455 frames.',
                      "Published LMD cannot be compared with lmd@mean20-mediapipe: the paper's landmarks are dlib's",
                      'Published SSIM cannot be compared with ssim@authors: ',
                      'Published CSIM cannot be compared with csim_gt@iresnet100: the paper names ArcFace',
                      'Bold: the best of our methods, ',
                      'picture: prepared face crop (JPEG 95), 64 px; size: 256 x 256 px', 'Means over clips, ',
                      'they are rough, being over fewer than 5', 'runs/demo/generator at step 8000',
                      'Table 1 of Chen et al. 2020', 'Reference frame: the key frame, repeated.'):
            assert words in page, (name, words)
        assert digest[:13] not in page


def cells_of(row):
    """A row's cells: split at each & that is neither escaped nor in braces."""
    depth, cells, k = 0, [''], 0
    while k < len(row):
        piece = row[k:k + 2] if row[k] == '\\' else row[k]
        depth += (piece == '{') - (piece == '}')
        if piece == '&' and depth == 0:
            cells.append('')
        else:
            cells[-1] += piece
        k += len(piece)
    assert depth == 0
    return cells


def test_latex_is_balanced_and_every_row_has_its_columns(folder):
    source = (folder / 'table.tex').read_text()
    bare = re.sub(r'\\[\\{}$&%#_]', '', source)
    assert bare.count('{') == bare.count('}')
    assert bare.count('$') % 2 == 0
    opened = re.findall(r'\\begin\{(\w+)\}', source)
    assert sorted(opened) == sorted(re.findall(r'\\end\{(\w+)\}', source))
    for columns, body in re.findall(r'\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}', source, re.S):
        rows = [line for line in body.split('\n') if line and not re.fullmatch(r'\\\w+rule', line)]
        assert rows
        assert all(row.endswith(' \\\\') for row in rows)
        assert {len(cells_of(row[:-3])) for row in rows} == {len(columns)}
    assert '\\textbf{60.0}' in source
    assert ('a\\_b \\& 50\\% \\{\\#1\\} \\textbackslash{}x \\$y\\$ \\textasciitilde{}\\textasciicircum{} $|$ $<$i$>$ '
            '{[}z]') in source
    assert source.count('(published)') == 4
    assert source.isascii()
    unescaped = source.replace('\\shortstack[r]', '').replace('$^\\circ$', '')
    assert not re.search(r'(?<!\\)[#_^~]|(?<!\{)\[', unescaped)


def test_per_clip_rows_are_kept(folder, results):
    lines = read_csv(folder / 'per_clip.csv')
    assert len(lines) == 6 * 4
    assert list(lines[0])[5:] == [*FRAME_METRICS, *CLIP_METRICS]
    phi = [line for line in lines if line['row'] == 'phi']
    assert [line['clip_id'] for line in phi] == results.clips['clip_id'].tolist()
    assert [int(line['frames']) for line in phi] == results.clips['frames'].tolist()
    assert phi[1]['lmd@mean20-mediapipe'] == ''
    for metric in ('ssim@authors', 'rotation_deg@driving'):
        np.testing.assert_array_equal([float(line[metric]) for line in phi], results.per_clip['phi'][metric])


def test_yaw_bins_hold_means_and_frames(folder, results):
    lines = [line for line in read_csv(folder / 'yaw.csv')
             if (line['row'], line['metric']) == ('true', 'ssim@authors')]
    assert [(line['yaw_from_deg'], line['yaw_to_deg'], line['frames']) for line in lines] == [
        ('0.0', '15.0', '275'), ('15.0', '30.0', '120'), ('30.0', '45.0', '60'), ('45.0', '90.0', '0')]
    total = results.by_yaw['true']['ssim@authors'].sum(axis=0)
    np.testing.assert_allclose([float(line['mean']) for line in lines[:3]], total[:3, 0] / total[:3, 1])
    assert lines[3]['mean'] == ''
    kept = json.loads((folder / 'table.json').read_text())['yaw']
    assert {'row': 'true', 'metric': 'ssim@authors', 'from': 45.0, 'to': 90.0, 'mean': None, 'frames': 0} in kept


def test_the_printed_table_is_aligned(folder):
    printed = (folder / 'printed.txt').read_text()
    lines = [line for line in printed.split('\n\n')[0].split('\n') if 'not computed' not in line]
    assert len({len(line) for line in lines if line.endswith('lower')}) == 1
    end = lines[0].index('Ours (true pose)') + len('Ours (true pose)')
    for line in lines[1:]:
        assert line[end - 1] != ' ' or line[end - 2].isdigit() or line[end - 2] in ']–'
    assert re.search(r'lse_c@syncnet +not computed: needs syncnet_v2\.model\n', printed)
    assert re.search(r'fid@pytorch-fid +60\.0\* ', printed)
    assert re.search(r'\npublished, .*LMD +CSIM +SSIM +FID\n', printed)
    assert str(folder / 'table.md') in printed


def test_bounds_lie_within_what_a_metric_can_be_and_have_the_digits_of_the_mean():
    near = np.array([0.999, 1.0, 0.97, 1.0, 0.999, 0.98])
    results = make_results(per_clip={'true': {'ssim@authors': near, 'beat_gain@driving': near, 'x': near}})
    low, high = (getattr(bootstrap(near, results.clips['speaker_id']), end) for end in ('low', 'high'))
    assert high > 1
    cells = protocol_model.build(results).cells['true']
    assert {metric: (cell.interval.low, cell.interval.high) for metric, cell in cells.items()} == {
        'ssim@authors': (low, 1), 'beat_gain@driving': (low, 1), 'x': (low, high), POOLED: pytest.approx(
            (np.nan, np.nan), nan_ok=True)}
    assert catalogue.bounds(9.99, 9.4, 10.2) == ('9.40', '10.20')
    assert catalogue.bounds(0.0, -0.123, 0.0456) == ('-0.123', '0.046')
    assert catalogue.bounds(1.0, np.nan, np.nan) is None


@pytest.mark.parametrize(('chosen', 'words'), [
    ([0, 1, 2, 3, 4, 5], 'over 3 speakers, cut at what a metric can be; they are rough, being over fewer than 5'),
    ([2], 'no intervals, for there is only 1 clip'), ([0, 1], 'over 2 clips, cut at what')])
def test_every_format_says_what_the_intervals_are_worth(tmp_path, chosen, words):
    whole = make_results(by_yaw={}, pooled={}, notes={})
    results = make_results(
        clips={name: of[chosen] for name, of in whole.clips.items()}, by_yaw={}, pooled={}, counted={},
        per_clip={row: {name: of[chosen] for name, of in table.items()} for row, table in whole.per_clip.items()})
    shown = [protocol_tables.write(tmp_path, results), json.loads((tmp_path / 'table.json').read_text())['intervals']]
    shown += [(tmp_path / f'table.{suffix}').read_text().replace('\\', '') for suffix in ('md', 'tex')]
    shown += [protocol_page.write(tmp_path / 'p.html', {'x': results}, title='t', facts={}).read_text()]
    for text in shown:
        assert words in text
        assert '1 clips' not in text


def test_of_a_metric_whose_ideal_is_0_the_nearest_is_best():
    of = {row: {'background_flicker': np.full(6, value)} for row, value in
          {'true': 0.5, 'phi': -2.0, 'reference': 0.0}.items()}
    table = protocol_model.build(make_results(per_clip=of, pooled={}))
    assert {row: cells['background_flicker'].best for row, cells in table.cells.items() if cells} == {
        'true': True, 'phi': False, 'reference': False}  # the last is a baseline


def test_folders_may_stand_among_the_published_rows_of_a_table(tmp_path):
    results = make_results(protocol='folders', facts={'table': 'audio_driven'})
    protocol_tables.write(tmp_path, results)
    page = (tmp_path / 'table.md').read_text()
    assert 'Table 1 of Chen et al. 2020' in page
    assert page.count('(published)') == len(PUBLISHED)
    assert ', Table 1; not computed here' in protocol_html.headline(protocol_model.build(results))


def test_a_row_without_a_value_is_in_the_csv_for_its_note(tmp_path):
    protocol_tables.write(tmp_path, make_results(row_notes={TRUTH: 'no sound'}, per_clip={}, pooled={}, by_yaw={}))
    line = next(line for line in read_csv(tmp_path / 'table.csv') if line['row'] == TRUTH)
    assert (line['kind'], line['metric'], line['note']) == ('baseline', '', 'no sound')


@pytest.mark.parametrize(('speakers', 'names', 'kind'), [
    (['a', 'a', 'b'], ['a', 'a', 'b'], 'speakers'), (['a', '', 'b'], ['a', 'y', 'b'], 'speakers'),
    (['', '', ''], ['x', 'y', 'z'], 'clips'), (['a', 'a', 'a'], ['x', 'y', 'z'], 'clips')])
def test_intervals_are_over_speakers_where_they_are_known(speakers, names, kind):
    got = protocol_model.groups({'clip_id': np.array(['x', 'y', 'z']), 'speaker_id': np.array(speakers)})
    assert (got[0].tolist(), got[1]) == (names, kind)


def test_folders_of_videos_have_no_published_rows_and_one_method_is_not_best(tmp_path):
    results = make_results(protocol='folders', dataset='', baselines=('phi', 'reference', TRUTH))
    printed = protocol_tables.write(tmp_path, results)
    page = (tmp_path / 'table.md').read_text()
    for shown in (printed, page, (tmp_path / 'table.csv').read_text(), (tmp_path / 'table.tex').read_text()):
        assert 'published' not in shown.lower()
    assert '**' not in page
    assert page.startswith('# folders: 6 clips')


def test_a_column_of_the_paper_stays_where_our_metric_was_not_computed(tmp_path):
    results = make_results(notes={POOLED: 'not computed: needs inception.pth'})
    for of in results.pooled.values():
        of.clear()
    protocol_tables.write(tmp_path, results)
    page = (tmp_path / 'table.md').read_text()
    assert re.search(r'\| Ours \(true pose\) .*\| – \|\n', page)
    assert '| 0.74 | 47 |' in page
    assert '- fid@pytorch-fid: not computed: needs inception.pth.\n' in page


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=re.escape(str(tmp_path / 'file'))):
        protocol_tables.write(tmp_path / 'file' / 'folder', make_results())
