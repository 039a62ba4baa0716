"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A user's mistake, told in one sentence.

    The sentence names the file, flag or field, the value found and the value wanted. `launch.py` prints it
    without a traceback and exits with code 2.
    """
