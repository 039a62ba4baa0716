"""The program of the rating page. It knows random ids only: no name of a method or of a file."""

SCRIPT = r"""
'use strict';
(() => {
const $ = id => document.getElementById(id);
const facts = JSON.parse($('facts').textContent);
const STORE = 'user-study-' + facts.study;
const video = $('video'), questions = [...document.querySelectorAll('fieldset')];
let state, order, shown, address, memory = null;

// ---- what is kept between loads ----
function fresh() {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  const rater = 'r' + [...bytes].map(byte => byte.toString(16).padStart(2, '0')).join('');
  return {rater, begun: false, downloaded: false, answers: []};
}
function kept() {
  try { return JSON.parse(localStorage.getItem(STORE)); } catch { return memory; }
}
function keep() {
  memory = state;
  try { localStorage.setItem(STORE, JSON.stringify(state)); } catch { $('forgetful').hidden = false; }
}

// ---- the order, which follows from the rater's id alone ----
function generator(text) {
  let word = 2166136261;
  for (const letter of text) word = Math.imul(word ^ letter.charCodeAt(0), 16777619);
  word = word || 1;
  return below => {
    word ^= word << 13; word ^= word >>> 17; word ^= word << 5;
    return Math.floor((word >>> 0) / 4294967296 * below);
  };
}
function shuffled(items, draw) {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = draw(i + 1);
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}
// Every round holds each speech once: two videos of one speech can only meet where two rounds do.
function ordered(rater) {
  const draw = generator(rater), result = [];
  for (const round of shuffled(facts.rounds, draw).slice(0, facts.each)) {
    const next = shuffled(round, draw), last = result.at(-1);
    if (last && next.length > 1 && last[1] === next[0][1]) {
      const other = 1 + draw(next.length - 1);
      [next[0], next[other]] = [next[other], next[0]];
    }
    result.push(...next);
  }
  return result.map(([id]) => id);
}

// ---- pages ----
function open(name) {
  for (const id of ['start', 'rate', 'end']) $(id).hidden = id !== name;
  document.querySelector('header').hidden = name === 'rate';  // room for the video and its questions
  window.scrollTo(0, 0);
}
function next() {
  if (!state.begun) { open('start'); return; }
  if (state.answers.length === order.length) { finish(); return; }
  open('rate');
  show(state.answers.length);
}
function show(position) {
  const source = $(order[position]), raw = atob(source.textContent), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const former = address;
  address = URL.createObjectURL(new Blob([bytes], {type: source.dataset.type}));
  video.src = address;
  if (former) URL.revokeObjectURL(former);
  const text = `${position + 1} of ${order.length}`;
  $('position').textContent = text;
  $('progress').max = order.length;
  $('progress').value = position;
  video.setAttribute('aria-label', 'Video ' + text);
  $('answers').reset();
  for (const question of questions) question.disabled = true;
  $('next').disabled = true;
  $('broken').hidden = true;
  $('early').hidden = position === 0;
  $('play').hidden = false;
  label('Play the video');
  say('Play the video to its end; then you can rate it.');
  shown = performance.now();
  $('play').focus();
}
function label(text) { $('play-label').textContent = text; }
function say(text) { $('status').textContent = text; }
function finish() {
  video.removeAttribute('src');
  $('total').textContent = state.answers.length;
  $('another').disabled = !state.downloaded;
  open('end');
  $('download').focus();
}

// ---- playing: a rating needs the whole video, once ----
function play() {
  if (!video.paused) return;
  video.play().catch(error => { if (error.name !== 'AbortError') broken(); });
}
function whole() {
  let seen = 0;
  for (let i = 0; i < video.played.length; i++) seen += video.played.end(i) - video.played.start(i);
  return !Number.isFinite(video.duration) || seen >= 0.9 * video.duration;
}
function broken() {
  if (!video.hasAttribute('src')) return;
  $('play').hidden = true;
  $('broken').hidden = false;
  say('');
}
video.addEventListener('playing', () => { label('Playing …'); say('Playing.'); });
video.addEventListener('pause', () => { if (!video.ended) { label('Go on playing'); say('Paused.'); } });
video.addEventListener('ended', () => {
  label('Play again');
  if (!whole()) { say('Please watch the whole video, from its start.'); return; }
  for (const question of questions) question.disabled = false;
  say('Played. Please answer both questions.');
});
video.addEventListener('error', broken);
video.addEventListener('click', play);
video.addEventListener('contextmenu', event => event.preventDefault());
$('play').addEventListener('click', play);

// ---- answering ----
function chosen(question) { return question.querySelector('input:checked'); }
function record(values) {
  state.answers.push({order: state.answers.length + 1, video: order[state.answers.length], ...values,
    seconds: ((performance.now() - shown) / 1000).toFixed(1), time: new Date().toISOString()});
  keep();
  next();
}
$('answers').addEventListener('change', () => { $('next').disabled = !questions.every(chosen); });
$('answers').addEventListener('submit', event => {
  event.preventDefault();
  if (!questions.every(chosen)) return;
  record(Object.fromEntries(questions.map(question => [question.name, chosen(question).value])));
});
$('skip').addEventListener('click', () => record({realism: '', synchronisation: ''}));
document.addEventListener('keydown', event => {
  if ($('rate').hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'p' || event.key === 'P') { play(); return; }
  if (!/^[1-5]$/.test(event.key) || questions[0].disabled) return;
  const question = questions.find(one => one.contains(document.activeElement))
    || questions.find(one => !chosen(one)) || questions.at(-1);
  question.querySelector(`input[value="${event.key}"]`).click();
  const open = questions.find(one => !chosen(one));
  (open ? open.querySelector('input') : $('next')).focus();
});

// ---- start and end ----
$('consent').addEventListener('change', () => { $('begin').disabled = !$('consent').checked; });
$('begin').addEventListener('click', () => { state.begun = true; keep(); next(); });
$('tone').addEventListener('click', () => {
  const context = new AudioContext(), source = context.createOscillator(), volume = context.createGain();
  volume.gain.value = 0.2;
  source.frequency.value = 440;
  source.connect(volume).connect(context.destination);
  source.onended = () => context.close();
  source.start();
  source.stop(context.currentTime + 0.7);
});
function table() {
  const lines = state.answers.map(answer => ({study: facts.study, rater: state.rater, ...answer}))
    .map(row => facts.columns.map(column => row[column]).join(','));
  return [facts.columns.join(','), ...lines, ''].join('\n');
}
function download() {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([table()], {type: 'text/csv'}));
  link.download = `answers-${facts.study}-${state.rater}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
$('early').addEventListener('click', download);
$('download').addEventListener('click', () => {
  download();
  state.downloaded = true;
  keep();
  $('another').disabled = false;
});
$('another').addEventListener('click', () => {
  $('consent').checked = false;
  $('begin').disabled = true;
  begin(fresh());
});

function begin(of) {
  state = of;
  order = ordered(state.rater);
  for (const place of document.querySelectorAll('.count')) place.textContent = order.length;
  keep();
  next();
}
begin(kept() || fresh());
$('consent').disabled = false;
$('begin').disabled = !$('consent').checked;
})();
"""
