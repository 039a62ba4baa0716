"""What a rater sees: the start, the rating of one video, the end; its style beside that of all pages."""

import html

# What is asked of each video: name of the column, question, and what 1 and 5 mean.
QUESTIONS = (
    ('realism', 'Does the talking face look real?', 'not at all', 'completely'),
    ('synchronisation', 'Do lips and speech go together?', 'not at all', 'perfectly'),
)
LOWEST, HIGHEST = 1, 5
COLUMNS = ('study', 'rater', 'order', 'video', 'realism', 'synchronisation', 'seconds', 'time')

CONSENT = (
    'Taking part is voluntary, and you may stop at any time by closing this page. Your ratings, how long each took '
    'and when it was given are kept under a random number; nothing else about you is recorded, and nothing leaves '
    'this computer until you send the file of your answers.\n\n[Those who run the study: put here who you are, what '
    'the answers are for, how long they are kept, and whom to ask.]')

STYLE = """
:root { --on-accent: #fff; --soft: #eef3fb; }
@media (prefers-color-scheme: dark) { :root { --on-accent: #0f141a; --soft: #1e2936; } }
[hidden] { display: none !important; }
body { max-width: 780px; padding-bottom: 1.5rem; }
main section { padding: 1.3rem clamp(1rem, 4vw, 1.8rem) 1.6rem; }
section p, section ol { margin: .6rem 0; max-width: 40rem; }
li { margin: .25rem 0; }
.consent { background: var(--soft); border-radius: 8px; padding: .8rem 1rem; margin: 1rem 0; white-space: pre-line; }
.agree { display: flex; gap: .6rem; align-items: center; margin: 1rem 0; }
.agree input { width: 1.15rem; height: 1.15rem; accent-color: var(--accent); flex: none; }
button { font: inherit; font-weight: 600; min-height: 2.75rem; padding: .5rem 1.3rem; border-radius: 8px;
  border: 1px solid var(--accent); background: var(--accent); color: var(--on-accent); cursor: pointer; }
button.plain { border: 0; padding: 0; min-height: 0; font-weight: 400; font-size: .86rem; background: transparent;
  color: var(--accent); text-decoration: underline; margin-top: .9rem; }
button.quiet { background: transparent; color: var(--accent); }
button:disabled { border-color: var(--line); background: var(--line); color: var(--muted); cursor: default; }
button:focus-visible, input:focus-visible + span { outline: 3px solid var(--accent); outline-offset: 2px; }
.buttons { display: flex; flex-wrap: wrap; gap: .7rem; margin-top: 1.2rem; }
.progress { display: flex; align-items: center; gap: .9rem; color: var(--muted); font-variant-numeric: tabular-nums; }
progress { appearance: none; flex: 1; height: .45rem; border: 0; border-radius: 9px; overflow: hidden;
  background: var(--line); }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--accent); }
progress::-moz-progress-bar { background: var(--accent); }
#video { width: 100%; height: clamp(200px, 40vh, 420px); max-height: none; object-fit: contain; margin: .9rem 0;
  cursor: pointer; }
.player { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem 1rem; }
.player button { min-width: 10.5rem; }
#status { color: var(--muted); margin: 0; }
fieldset { border: 0; padding: 0; margin: 1.2rem 0 0; min-width: 0; }
fieldset:disabled { opacity: .5; }
legend { font-weight: 600; padding: 0; margin-bottom: .45rem; }
.scale { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .5rem; max-width: 30rem; }
.scale label { position: relative; cursor: pointer; text-align: center; color: var(--muted); font-size: .82rem;
  line-height: 1.2; }
.scale input { position: absolute; inset: 0; opacity: 0; margin: 0; width: 100%; cursor: inherit; }
.scale b { display: block; padding: .6rem 0; margin-bottom: .3rem; border: 1px solid var(--muted); border-radius: 8px;
  color: var(--text); font-size: 1rem; font-variant-numeric: tabular-nums; }
.scale span { display: block; border-radius: 8px; }
.scale small { display: flex; justify-content: center; white-space: nowrap; font-size: inherit; }
.scale input:checked + span b { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.scale label:hover input:enabled:not(:checked) + span b { border-color: var(--accent); background: var(--soft); }
fieldset:disabled label { cursor: default; }
kbd { font: 600 .85em ui-monospace, monospace; border: 1px solid var(--line); border-radius: 4px;
  padding: .05rem .35rem; }
.keys { color: var(--muted); font-size: .86rem; }
.warning { border-left: 3px solid var(--accent); padding-left: .8rem; }
@media (hover: none) { .keys { display: none; } }
@media (max-width: 520px) {
  body { padding-top: 1rem; }
  h1 { font-size: 1.4rem; }
  .player button, .buttons button { width: 100%; }
  #video { height: 34vh; }
  .scale label:first-child small { justify-content: start; }
  .scale label:last-child small { justify-content: end; }
}
"""


def body(title: str, consent: str) -> str:
    """The three pages, of which the script shows one at a time."""
    return (f'<header><h1>{html.escape(title)}</h1></header>'
            '<noscript><p class="warning">This page needs JavaScript, which your browser has switched off.</p>'
            '</noscript>'
            '<p id="forgetful" class="warning" hidden>This browser does not let the page keep your answers: do not '
            'close or reload it before you have downloaded them.</p>'
            f'<main>{_start(consent)}{_rate()}{_end()}</main>')


def _start(consent: str) -> str:
    questions = ''.join(f'<li>{html.escape(text)} (1: {low}, 5: {high})</li>' for _, text, low, high in QUESTIONS)
    return ('<section id="start"><h2>Rating of talking faces</h2>'
            '<p>You will see <span class="count">several</span> short videos of people who speak. Some or all of '
            f'them may be made by a computer. After each we ask two questions:</p><ul>{questions}</ul>'
            '<ol><li>Be somewhere quiet, with loudspeakers or headphones switched on: every video has sound.</li>'
            '<li>Watch each video once to its end; you may play it again.</li>'
            '<li>Answer as you feel, there is no right or wrong. Judge each video for itself.</li>'
            '<li>You may take a break: in this browser the page goes on where you left it. At the end, download your '
            'answers and send the file to those who asked you.</li></ol>'
            '<p><button type="button" class="quiet" id="tone">Play a test sound</button></p>'
            f'<div class="consent">{html.escape(consent)}</div>'
            '<label class="agree"><input type="checkbox" id="consent" disabled autocomplete="off"> I have read this '
            'and I agree to take part.</label><button type="button" id="begin" disabled>Begin</button></section>')


def _rate() -> str:
    return ('<section id="rate" hidden><h2 class="progress"><span id="position" aria-live="polite"></span>'
            '<progress id="progress" aria-label="videos rated"></progress></h2>'
            '<video id="video" playsinline preload="auto" disablepictureinpicture disableremoteplayback></video>'
            '<div class="player"><button type="button" id="play"><span id="play-label">Play the video</span></button>'
            '<p id="status" role="status"></p></div>'
            '<div id="broken" class="warning" role="alert" hidden><p>This browser cannot play this video.</p>'
            '<button type="button" class="quiet" id="skip">Leave it out and go on</button></div>'
            f'<form id="answers" autocomplete="off">{"".join(_question(*question) for question in QUESTIONS)}'
            '<div class="buttons"><button id="next" disabled>Next</button></div></form>'
            '<p class="keys">Keys: <kbd>P</kbd> plays, <kbd>1</kbd> to <kbd>5</kbd> answer, <kbd>Enter</kbd> goes on.'
            '</p><button type="button" class="plain" id="early" hidden>Download my answers so far'
            '</button></section>')


def _question(name: str, text: str, low: str, high: str) -> str:
    ends = {LOWEST: f'<small>{low}</small>', HIGHEST: f'<small>{high}</small>'}
    labels = ''.join(
        f'<label><input type="radio" name="{name}-value" value="{value}" required><span><b>{value}</b>'
        f'{ends.get(value, "")}</span></label>' for value in range(LOWEST, HIGHEST + 1))
    return (f'<fieldset name="{name}" disabled><legend>{html.escape(text)}</legend>'
            f'<div class="scale">{labels}</div></fieldset>')


def _end() -> str:
    return ('<section id="end" hidden><h2>Thank you!</h2><p>That was the last of <span id="total"></span> videos. '
            'Please download your answers and send the file to those who asked you to take part.</p>'
            '<div class="buttons"><button type="button" id="download">Download answers (CSV)</button>'
            '<button type="button" class="quiet" id="another" disabled>Begin anew as another person</button></div>'
            '<p class="meaning">Your answers stay in this browser until somebody else begins.</p></section>')
