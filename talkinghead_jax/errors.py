"""The exceptions that mean: the user can mend this, or this clip is of no use."""


class UserError(Exception):
    """A user's mistake, told in one sentence.

    The sentence names the file, flag or field, the value found and the value wanted. `launch.py` prints it
    without a traceback and exits with code 2.
    """


class Unusable(UserError):  # noqa: N818 (it is no mistake of a program)
    """A clip or a picture that preparation cannot use, today or tomorrow: it goes to the quarantine table.

    Attributes:
      reason: one of `REASONS`.
    """

    def __init__(self, reason: str, sentence: str):
        super().__init__(reason, sentence)
        self.reason = reason

    def __str__(self) -> str:
        return self.args[1]


REASONS = {
    'unreadable': 'no video, picture or file of parameters can be read',
    'no_face': 'no face in too many frames',
    'two_people': 'the face that is followed becomes another one',
    'no_sound': 'no sound, or digital silence',
    'length': 'sound and picture differ in length by more than is plausible',
    'too_short': 'fewer frames than the dataset asks for',
    'failed': 'an unexpected error, or the death of its process; it is tried again the next time',
}
