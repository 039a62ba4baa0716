"""A rater in headless Chromium: consents, plays, rates, reloads half-way, downloads; and the answers are read."""

import itertools
import json
import re

import pytest

from talkinghead_jax.user_study import answers, chart, page
from tests.user_study import chromium, tiny_videos

METHODS, CLIPS = ('landmarks', 'audio + still'), ('anna', 'bob')
PLAYED = '!document.querySelector("fieldset").disabled'

pytestmark = pytest.mark.skipif(chromium.program() is None, reason='no Chromium here (chromium, google-chrome)')


@pytest.fixture(scope='module', name='study')
def _study(tmp_path_factory):
    root = tmp_path_factory.mktemp('rated')
    for method, clip in itertools.product(METHODS, CLIPS):
        tiny_videos.write(root / method / f'{clip}.mp4', shade=50 * CLIPS.index(clip))
    return page.write(root / 'out' / 'index.html', {method: root / method for method in METHODS})


def text(browser):
    """What the rater reads now."""
    return browser.evaluate('document.body.innerText')


def rate(browser, position, realism, synchronisation, by_keys):
    browser.wait(f'document.querySelector("#position").textContent == "{position} of 4"')
    assert browser.evaluate('document.querySelectorAll("fieldset:disabled").length') == 2
    browser.key('5')  # too early: nothing may be chosen before the video was played
    assert browser.evaluate('document.querySelectorAll("input[type=radio]:checked").length') == 0
    if by_keys:
        browser.key('p')
        browser.wait(PLAYED)
        for key in (str(realism), str(synchronisation), 'Enter'):
            browser.key(key)
    else:
        browser.click('#play')
        browser.wait(PLAYED)
        browser.click(f'fieldset[name=realism] input[value="{realism}"] + span b')
        assert browser.evaluate('document.querySelector("#next").disabled')
        browser.click(f'fieldset[name=synchronisation] input[value="{synchronisation}"] + span b')
        browser.click('#next')


def names(browser):
    """Of methods and clips, anywhere in the page's elements."""
    shown = browser.evaluate('document.documentElement.outerHTML')
    return [name for name in (*METHODS, *CLIPS, '.mp4', 'still') if name in shown]


def test_a_rater_rates_everything(study, tmp_path):
    with chromium.browser(tmp_path / 'profile') as browser:
        browser.command('Browser.setDownloadBehavior', behavior='allow', downloadPath=str(tmp_path))
        browser.load('Page.navigate', url=study.path.as_uri())
        assert 'You will see 4 short videos' in text(browser)
        assert browser.evaluate('document.querySelector("#begin").disabled')
        browser.click('#consent')
        browser.click('#begin')
        rate(browser, 1, 5, 4, by_keys=False)
        rate(browser, 2, 2, 1, by_keys=True)
        browser.wait('document.querySelector("#position").textContent == "3 of 4"')
        browser.load('Page.reload')
        browser.click('#early')
        _downloaded(browser, tmp_path, 2).unlink()
        rate(browser, 3, 3, 3, by_keys=True)
        assert names(browser) == []
        # A leap to the end is no playing.
        browser.wait('video.readyState == 4')
        browser.evaluate('video.currentTime = 0.35, video.play()')
        browser.wait('video.ended')
        browser.wait('document.querySelector("#status").textContent.includes("whole video")')
        rate(browser, 4, 1, 2, by_keys=False)
        browser.wait('!document.querySelector("#end").hidden')
        assert 'last of 4 videos' in text(browser)
        assert names(browser) == []
        browser.click('#download')
        file = _downloaded(browser, tmp_path, 4)
        kept = browser.evaluate('JSON.stringify(Object.entries(localStorage))')
        assert not [name for name in METHODS if name in kept]
        browser.click('#another')
        assert 'You will see 4 short videos' in text(browser)
        assert browser.evaluate('document.querySelector("#begin").disabled')
        assert json.loads(browser.evaluate('Object.values(localStorage)[0]'))['rater'] not in kept
        assert browser.errors == []
        assert {address.split(':')[0] for address in browser.requests} <= {'file', 'blob'}
    _check(study, file)
    found = answers.read([file], study.key)
    printed = chart.write(tmp_path / 'ratings', found)
    assert '1 raters, 2 methods, 2 clips, 4 ratings' in printed
    assert all((tmp_path / 'ratings' / name).stat().st_size > 100 for name in chart.FILES)


def _downloaded(browser, folder, answered):
    for _ in range(200):
        found = list(folder.glob('answers-*.csv'))
        if found and found[0].read_text().count('\n') == answered + 1:
            return found[0]
        browser.evaluate('new Promise(done => setTimeout(done, 50))')
    raise AssertionError(list(folder.iterdir()))


def _check(study, file):
    found, key = answers.read([file], study.key), json.loads(study.key.read_text())
    assert re.fullmatch(rf'answers-{key["study"]}-r[0-9a-f]{{12}}\.csv', file.name)
    assert [rating.order for rating in found.ratings] == [1, 2, 3, 4]
    assert [tuple(rating.scores.values()) for rating in found.ratings] == [(5, 4), (2, 1), (3, 3), (1, 2)]
    assert {(rating.method, rating.clip) for rating in found.ratings} == set(itertools.product(METHODS, CLIPS))
    clips = [rating.clip for rating in found.ratings]
    assert all(first != second for first, second in itertools.pairwise(clips))
    assert all(0.3 < rating.seconds < 60 for rating in found.ratings)  # each video lasts 0.4 s


def test_orders_differ_between_raters_and_keep_speeches_apart(tmp_path):
    """Many raters of one page of 3 methods and 4 clips, who play nothing: one leaves out what does not play."""
    for method, clip in itertools.product('xyz', 'abcd'):
        (tmp_path / method).mkdir(exist_ok=True)
        (tmp_path / method / f'{clip}.mp4').write_bytes(b'avc1soun' + f'{method}{clip}'.encode())
    study = page.write(tmp_path / 'index.html', {method: tmp_path / method for method in 'xyz'}, per_clip=2)
    key = json.loads(study.key.read_text())
    # The page's functions are its own affair: their order is seen through another page with the same program.
    program = study.path.read_text().replace('begin(kept() || fresh());', 'window.ordered = ordered; begin(fresh());')
    (tmp_path / 'open.html').write_text(program)
    with chromium.browser(tmp_path / 'profile') as browser:
        browser.load('Page.navigate', url=(tmp_path / 'open.html').as_uri())
        orders = browser.evaluate('Array.from({length: 300}, (_, i) => ordered("r" + i))')
        assert browser.evaluate('ordered("r7")') == orders[7]
        browser.click('#consent')
        browser.click('#begin')
        browser.wait('!document.querySelector("#broken").hidden')  # these videos are none
        browser.click('#skip')
        browser.wait('document.querySelector("#position").textContent == "2 of 8"')
        left_out = json.loads(browser.evaluate('Object.values(localStorage)[0]'))['answers']
    assert [(of['order'], of['realism'], of['synchronisation']) for of in left_out] == [(1, '', '')]
    # Of 6 x 24 x 18 orders 300 raters draw some twice: 300^2 / (2 x 2592) = 17 pairs, were all as likely.
    assert len({tuple(order) for order in orders}) > 260
    firsts = {method: 0 for method in 'xyz'}
    for order in orders:
        videos = [key['videos'][name] for name in order]
        assert len(set(order)) == 8  # 2 of the 3 videos of each of 4 clips
        clips = [video['clip'] for video in videos]
        assert sorted(clips[:4]) == sorted(clips[4:]) == list('abcd')
        assert all(first != second for first, second in itertools.pairwise(clips))
        firsts[videos[0]['method']] += 1
    # Each method opens about a third of the orders: 100 of 300, whose deviation is 8.
    assert all(70 < count < 130 for count in firsts.values())
