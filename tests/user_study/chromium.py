"""A headless Chromium, driven over its DevTools pipe with the standard library alone."""

import contextlib
import itertools
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
# Chromium reads its commands from descriptor 3 and answers on 4; a child of this process cannot choose its numbers.
_LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


def program() -> str | None:
    """Where Chromium is, None where it is not."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One tab; commands wait for their answer, and every answer that is an error raises AssertionError."""

    def __init__(self, folder: pathlib.Path, log: int):
        to_child, self._writer = os.pipe()
        self._reader, from_child = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, '-S', '-E', '-c', _LAUNCH, str(to_child), str(from_child), program(), '--headless',
             '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-extensions', '--mute-audio',
             '--no-first-run', f'--user-data-dir={folder}', '--remote-debugging-pipe', 'about:blank'],
            pass_fds=(to_child, from_child), stdout=log, stderr=log)
        os.close(to_child)
        os.close(from_child)
        self._numbers, self._pending, self._session = itertools.count(1), b'', None
        self.errors, self.requests, self._loads = [], [], 0  # exceptions of pages, and addresses that they asked for
        target = self.command('Target.createTarget', url='about:blank')['targetId']
        self._session = self.command('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Network'):
            self.command(f'{domain}.enable')

    def load(self, method: str, **parameters: object) -> None:
        """A command that loads a page, as 'Page.navigate' and 'Page.reload'; waits until it is whole."""
        before = self._loads
        self.command(method, **parameters)
        while self._loads == before:
            self._receive()

    def command(self, method: str, **parameters: object) -> dict:
        """Send one command of the DevTools protocol; its result."""
        number = next(self._numbers)
        message = {'id': number, 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._writer, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == number:
                assert 'error' not in answer, (method, answer)
                return answer['result']

    def _receive(self, seconds: float = 30) -> dict:
        while b'\0' not in self._pending:
            assert select.select([self._reader], [], [], seconds)[0], 'Chromium does not answer'
            read = os.read(self._reader, 1 << 20)
            assert read, 'Chromium has died'
            self._pending += read
        message, self._pending = self._pending.split(b'\0', 1)
        message = json.loads(message)
        if message.get('method') == 'Runtime.exceptionThrown':
            self.errors.append(message['params']['exceptionDetails'])
        elif message.get('method') == 'Network.requestWillBeSent':
            self.requests.append(message['params']['request']['url'])
        elif message.get('method') == 'Page.loadEventFired':
            self._loads += 1
        return message

    def evaluate(self, expression: str) -> object:
        """The JSON value of a JavaScript expression."""
        result = self.command('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in result, result
        return result['result'].get('value')

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, f'{condition}: never; {self.errors}'
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click the middle of an element, as a mouse does."""
        x, y = self.evaluate('(element => {element.scrollIntoView({block: "center"}); '
                             'const box = element.getBoundingClientRect(); '
                             'return [box.x + box.width / 2, box.y + box.height / 2]})'
                             f'(document.querySelector({json.dumps(selector)}))')
        for kind in ('mousePressed', 'mouseReleased'):
            self.command('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def key(self, key: str) -> None:
        """Press and release a key: one character, or 'Enter'."""
        text = '\r' if key == 'Enter' else key
        code = 13 if key == 'Enter' else ord(key.upper())
        self.command('Input.dispatchKeyEvent', type='keyDown', key=key, text=text, windowsVirtualKeyCode=code)
        self.command('Input.dispatchKeyEvent', type='keyUp', key=key, windowsVirtualKeyCode=code)

    def close(self) -> None:
        """End the browser, by force where it does not obey."""
        with contextlib.suppress(AssertionError, OSError):
            self._session = None
            self.command('Browser.close')
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._reader)
        os.close(self._writer)


@contextlib.contextmanager
def browser(folder: pathlib.Path) -> Iterator[Browser]:
    """A browser whose profile lies in `folder`."""
    with open(folder.with_suffix('.log'), 'wb') as log:
        opened = Browser(folder, log.fileno())
        try:
            yield opened
        finally:
            opened.close()
