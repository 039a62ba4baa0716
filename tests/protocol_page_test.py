"""The report of whole videos: what its tables, players and charts say, and that odd results are shown, too."""

import dataclasses
import html.parser
import re

import numpy as np
import pytest
from protocol_results import PICTURE, make_results, recipe

from talkinghead_jax.metrics.intervals import bootstrap
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.report import figures, protocol_charts, protocol_clips, protocol_html, protocol_page
from talkinghead_jax.report.protocol_model import build
from tests.user_study import chromium

NAME = 'audio driven'  # of the results, and of the folder beside the page that holds their videos
LMD, SSIM, OFFSET = 'lmd@mean20-mediapipe', 'ssim@authors', 'lse_offset@syncnet'


class Reader(html.parser.HTMLParser):
    """Tables of a page as rows of cells of text, '*' around what is bold; and all attributes of its elements."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.classes, self.attributes, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.attributes.append((tag, attributes))
        if tag not in ('meta', 'wbr', 'br', 'img', 'source'):
            self.open.append(tag)
        if tag == 'table':
            self.tables.append([])
            self.classes.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
            self.classes[-1].append(attributes.get('class', ''))
        elif tag in ('td', 'th'):
            self.tables[-1][-1].append('')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {'td', 'th'} & set(self.open):
            mark = '*' if self.open[-1] == 'b' else ' ' if self.open[-1] == 'div' else ''
            self.tables[-1][-1][-1] += mark + data + mark.strip()


def read(path):
    reader = Reader(path.read_text())
    assert not reader.open
    return reader


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where a page is to lie; its videos of 'true': that of the best clip is large, that of the worst is missing."""
    folder = tmp_path_factory.mktemp('page')
    results = make_results()
    order = np.argsort(results.per_clip['true'][LMD])
    for row in ('true', TRUTH):
        for number, (clip, path) in enumerate(results.videos[row].items()):
            file = folder / NAME / path
            file.parent.mkdir(parents=True, exist_ok=True)
            size = protocol_clips.LARGEST_VIDEO + 1 if row == 'true' and number == order[0] else 20
            if row == TRUTH or number != order[-1]:
                file.write_bytes(clip.encode().ljust(size))
    return folder


@pytest.fixture(scope='module')
def page(folder):
    (folder / 'grid.png').write_bytes(b'png')
    return read(protocol_page.write(
        folder / 'index.html', {NAME: make_results(labels={**make_results().labels, 'phi': 'Φ <&>'})},
        title='whole <videos>', facts={'config': 'a&b'}, grids={NAME: folder / 'grid.png'}))


def row_of(table, name):
    return next(row for row in table if row[0].startswith(name))


class TestNumbers:
    def test_our_rows_have_the_mean_and_its_interval_and_the_best_is_bold(self, page):
        results = make_results()
        found = bootstrap(results.per_clip['true'][LMD], results.clips['speaker_id'])
        table = page.tables[0]
        assert [cell.split()[0] for cell in table[0][1:]] == [LMD, 'csim_gt@iresnet100', SSIM, 'fid@pytorch-fid']
        assert row_of(table, 'Ours (true pose)')[1:] == [
            f'*{found.mean:.2f}* {found.low:.2f} to {found.high:.2f}',
            '–', *(f'*{results.mean("true", name):.3f}* {low:.3f} to {high:.3f}' for name in [SSIM]
                   for low, high in [bounds(results, 'true', name)]), '*60.0*']
        assert row_of(table, 'Φ <&>')[4] == '80.0'
        assert '*' not in ''.join(row_of(table, 'Φ <&>') + row_of(table, 'True video'))

    def test_published_rows_come_last_and_are_marked(self, page):
        table, classes = page.tables[0], page.classes[0]
        first = [name.startswith('published') for name in classes].index(True)
        assert all('published' in name for name in classes[first:])
        assert table[first][0].strip().startswith('Published by Chen et al. 2020, Table 1')
        assert row_of(table, 'Chen et al. 2020 (K = 1) published')[1:] == ['3.37', '0.42', '0.74', '47']

    def test_why_published_numbers_do_not_compare_and_what_to_beware_of(self, folder):
        text = re.sub(r'<[^>]*>', '', (folder / 'index.html').read_text())
        assert 'LMD: the paper&#x27;s landmarks are dlib&#x27;s' in text
        assert 'CSIM: the paper names ArcFace' in text
        assert 'SSIM: the paper&#x27;s test clips and crop are others' in text
        assert 'Bold: the best of our methods, baselines aside.' in text
        assert 'fid@pytorch-fid: biased upwards: only 455 frames' in text

    def test_a_published_column_without_a_metric_of_ours_is_not_lost(self):
        results = make_results()
        only = {row: {LMD: of[LMD]} for row, of in results.per_clip.items() if LMD in of}
        page = protocol_html.headline(build(dataclasses.replace(results, per_clip=only, pooled={})))
        table = Reader(page).tables[0]
        assert row_of(table, 'Chung et al. 2017')[1:] == ['5.4', '0.29', '0.79', '159']
        assert row_of(table, 'Ours (true pose)')[2:] == ['–'] * 3

    def test_all_metrics_with_those_that_were_not_computed_last(self, page):
        table = page.tables[1]
        assert [row[0].split()[0] for row in table[1:]] == [*make_results().metrics(), 'lse_c@syncnet']
        assert table[-1][1].strip() == 'not computed: needs syncnet_v2.model'
        assert row_of(table, LMD)[2].endswith(' 5 of 6 clips 395 of 455 frames')  # one clip of phi has none
        assert row_of(table, LMD)[4] == '–'

    def test_recipes_say_version_crop_and_hash_of_the_weights(self, page):
        found = recipe('csim_gt@mobilefacenet')
        row = row_of(page.tables[2], 'csim_gt@mobilefacenet')
        assert row[1:6] == ['1', 'frames, then clips', PICTURE, '112 px', found['crop']]
        assert found['weights']['mobilefacenet'][:12] in row[6]
        assert row_of(page.tables[2], 'fid')[2] == 'all 455 frames'

    def test_the_main_metrics_come_first_or_some_of_those_that_are_there(self):
        assert protocol_html.main(['x', SSIM, 'csim_gt@any', 'ssim@wang']) == [SSIM, 'csim_gt@any']
        assert protocol_html.main([*'abcdefgh']) == [*'abcdef']


def bounds(results, row, metric):
    found = bootstrap(results.per_clip[row][metric], results.clips['speaker_id'])
    return found.low, found.high


class TestClips:
    def test_all_clips_are_in_a_table_of_each_row(self, page):
        tables = page.tables[3:]
        assert [len(table) for table in tables] == [7] * 4
        results = make_results()
        assert [row[0] for row in tables[0][1:]] == results.clips['clip_id'].tolist()
        assert [row[3] for row in tables[0][1:]] == [f'{value:.2f}' for value in results.per_clip['true'][LMD]]
        assert tables[1][2][3] == '–'

    def test_large_videos_are_linked_small_ones_inside_missing_ones_named(self, folder, page):
        results = make_results()
        order = np.argsort(results.per_clip['true'][LMD])
        best, worst = results.clips['clip_id'][order[0]], results.clips['clip_id'][order[-1]]
        sources = [of['src'] for tag, of in page.attributes if tag == 'video']
        assert sources[0] == f'{NAME}/videos/true/{best}.mp4'
        assert sources[1].startswith('data:video/mp4;base64,')
        assert f'generated: videos/true/{worst}.mp4 is missing' in (folder / 'index.html').read_text()
        # 3 best and 3 worst of two methods beside their truth; of 'phi', of which 5 clips have a value, 2 and 2.
        # The missing ones: all of 'phi' and one of 'true'.
        assert len(sources) == 5 + 6 + 4

    def test_best_come_first_with_their_value(self, page, folder):
        text = (folder / 'index.html').read_text()
        values = np.sort(make_results().per_clip['true'][LMD])
        cards = re.findall(r'<span class="tag (best|worst)">\1</span> <b>([\d.]+)</b> px', text)[:6]
        assert cards == [*(('best', f'{value:.2f}') for value in values[:3]),
                         *(('worst', f'{value:.2f}') for value in values[:2:-1])]

    def test_no_more_is_embedded_than_there_is_room_for(self):
        room = protocol_clips.Room(50)
        assert [room.take(size) for size in (30, 30, 20, 1)] == [True, False, True, False]
        assert not protocol_clips.Room().take(protocol_clips.LARGEST_VIDEO + 1)

    def test_links_lead_from_the_page_to_where_the_results_lie(self, folder, tmp_path):
        cards = protocol_clips.best_and_worst(make_results(), 'true', folder / NAME, tmp_path, protocol_clips.Room(0))
        sources = [of['src'] for tag, of in Reader(cards).attributes if tag == 'video']
        assert len(sources) == 11
        assert all((tmp_path / source).is_file() for source in sources)


class TestPage:
    def test_nothing_is_loaded_from_elsewhere_and_every_link_has_its_target(self, page, folder):
        ids = [of['id'] for _, of in page.attributes if 'id' in of]
        assert len(ids) == len(set(ids))
        for tag, of in page.attributes:
            link = of.get('href') or of.get('src') or of.get('srcset')
            if link and link.startswith('#'):
                assert link[1:] in ids
            elif link:
                assert link.startswith('data:') or (folder / link).is_file(), (tag, link)
        text = (folder / 'index.html').read_text()
        assert '<h1>whole &lt;videos&gt;</h1>' in text
        assert 'Φ &lt;&amp;&gt;' in text
        assert 'Φ <&>' not in text

    @pytest.mark.parametrize(('speakers', 'text'), [('aabbcc', '6 of 3 speakers'), ('aaaaaa', '6 of 1 speaker'),
                                                    ([''] * 6, '6')])
    def test_how_much_was_evaluated(self, tmp_path, speakers, text):
        results = make_results(per_clip={}, pooled={}, by_yaw={}, notes={})
        results.clips['speaker_id'] = np.array([*speakers])
        path = protocol_page.write(tmp_path / 'p.html', {'x': results}, title='t', facts={})
        assert f'<dt>clips</dt><dd>{text}</dd>' in path.read_text()

    def test_charts_are_there_for_light_and_dark(self, page):
        charts = [of for tag, of in page.attributes if tag == 'source']
        assert len(charts) == 3  # clips, one folded away, and yaw
        assert all(of['media'] == '(prefers-color-scheme: dark)' for of in charts)

    @pytest.mark.parametrize('odd', ['nothing', 'one row', 'all NaN', 'one clip'])
    def test_odd_results_are_shown(self, tmp_path, odd):
        whole = make_results(videos={}, notes={}, facts={}, by_yaw={}, protocol='folders', dataset='')
        lmd, one = whole.per_clip['true'][LMD], {name: of[:1] for name, of in whole.clips.items()}
        changes = {'nothing': {'per_clip': {}, 'pooled': {}},
                   'one row': {'labels': {'true': 'A'}, 'per_clip': {'true': {LMD: lmd}}, 'pooled': {}},
                   'all NaN': {'per_clip': {'true': {LMD: lmd * np.nan}},
                               'pooled': {'true': {'fid@pytorch-fid': np.nan}}},
                   'one clip': {'clips': one, 'per_clip': {'true': {LMD: lmd[:1]}}}}[odd]
        page = read(protocol_page.write(tmp_path / 'p.html', {'x': dataclasses.replace(whole, **changes)}, title='t',
                                        facts={}))
        assert not any('published' in name for classes in page.classes for name in classes)
        assert 'nan' not in ' '.join(cell for table in page.tables for row in table for cell in row).lower()
        text = (tmp_path / 'p.html').read_text()
        assert ('no video was kept' in text) == (odd in ('one row', 'one clip'))
        assert ('No metric has a value' in text) == (odd == 'nothing')


class TestCharts:
    def test_yaw(self):
        results = make_results()
        axes = protocol_charts.yaw(results, [SSIM])(figures.LIGHT).axes[0]
        for row, line in zip(('true', 'phi', 'reference'), axes.lines, strict=True):
            means, counts = results.yaw_means(row, SSIM)
            np.testing.assert_array_equal(line.get_ydata(), means)
        assert [label.get_text() for label in axes.get_xticklabels()] == [
            f'{bin}°\nn = {count}' for bin, count in zip(('0–15', '15–30', '30–45', '45–90'), counts, strict=True)]

    def test_distributions_have_a_dot_a_clip_and_the_median(self):
        results = make_results()
        axes = protocol_charts.distributions(results, [LMD])(figures.LIGHT).axes[0]
        dots, median = axes.lines[2:4]  # of phi, of which a clip has no value
        known = results.per_clip['phi'][LMD]
        known = known[~np.isnan(known)]
        np.testing.assert_array_equal(dots.get_xdata(), np.sort(known))
        assert median.get_xdata()[0] == np.median(known)

    def test_references(self):
        labels = {'true': 'Ours (K = 32)', 'phi': 'Ours (K = 1)', 'reference': 'Repeated', TRUTH: 'True video'}
        results = make_results(labels=labels)
        assert protocol_charts.number_of_references(results) == {'true': 32, 'phi': 1}
        table = build(results)
        axes, pooled = protocol_charts.by_references(table, [LMD, 'fid@pytorch-fid'])(figures.LIGHT).axes
        line, _, (bars,) = axes.containers[0]
        np.testing.assert_allclose(line.get_ydata(), [results.mean('phi', LMD), results.mean('true', LMD)])
        for row, segment in zip(('phi', 'true'), bars.get_segments(), strict=True):
            found = table.cells[row][LMD].interval
            np.testing.assert_allclose(segment[:, 1], [found.low, found.high])
        assert axes.containers[0].get_label() == 'Ours'
        assert axes.lines[-1].get_label() == 'Repeated'
        bars = pooled.containers[0][2][0]  # there is no interval
        np.testing.assert_allclose(bars.get_segments()[0][:, 1], results.mean('phi', 'fid@pytorch-fid'))

    def test_offsets_are_counted(self):
        results = make_results(per_clip={'true': {OFFSET: np.array([0, 0, -3, 15, 99, np.nan])}})
        figure = protocol_charts.offsets(results)(figures.LIGHT)
        axes, words = figure.axes[0], figure.get_supxlabel()
        assert words.startswith('frames; offset at which ')
        assert words.endswith('positive: the sound is early')  # as `metrics.sync.Sync` has it
        heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
        assert {offset: height for offset, height in heights.items() if height} == {0: 2, -3: 1, 15: 2}
        assert axes.get_title(loc='left') == 'Ours (true pose), 40% at 0'

    def test_every_row_has_its_own_look(self):
        labels = {f'{kind}{i}': '' for kind in 'mb' for i in range(4)} | {TRUTH: ''}
        results = make_results(labels=labels, baselines=('b0', 'b1', 'b2', 'b3', TRUTH))
        looks = protocol_charts.styles(results, figures.DARK)
        assert len({(look['color'], str(look['linestyle']), look['marker']) for look in looks.values()}) == 9


@pytest.mark.skipif(chromium.program() is None, reason='no Chromium here')
def test_in_a_browser_a_click_sorts_and_nothing_is_wider_than_a_phone(folder, page, tmp_path):
    del page  # it is written
    expected = np.sort(make_results().per_clip['phi'][LMD])[:5]  # one has none: it comes last, either way
    with chromium.browser(tmp_path / 'profile') as browser:
        browser.command('Emulation.setDeviceMetricsOverride', width=390, height=800, deviceScaleFactor=1, mobile=True)
        browser.load('Page.navigate', url=(folder / 'index.html').as_uri())
        assert browser.evaluate('document.documentElement.scrollWidth') <= 390
        browser.evaluate('for (const of of document.querySelectorAll("details")) of.open = true')
        assert browser.evaluate('document.documentElement.scrollWidth') <= 390
        column = ('[...document.querySelectorAll("table.sortable")[1].tBodies[0].rows]'
                  '.map(row => row.cells[3].textContent)')
        for order in (expected, expected[::-1]):
            browser.evaluate('document.querySelectorAll("table.sortable")[1].tHead.rows[0].cells[3].click()')
            assert browser.evaluate(column) == [*(f'{value:.2f}' for value in order), '–']
        assert not browser.errors
        assert not [url for url in browser.requests if not url.startswith(('file:', 'data:'))]
