"""The errors that a caller acts on.

DispatcherError            one sentence with the remedy; `exit_code` for the shell
├── ConfigurationError     2  usage or configuration is wrong and can never work
├── Unreachable            3  a server does not answer; worth another try
└── CheckFailed            1  a check found a difference
"""


class DispatcherError(Exception):
    """An error to show to the user: one sentence that names the remedy."""

    exit_code = 1


class ConfigurationError(DispatcherError):
    """Usage or configuration is wrong: trying again cannot help."""

    exit_code = 2


class Unreachable(DispatcherError):
    """A server does not answer: trying again may help."""

    exit_code = 3


class CheckFailed(DispatcherError):
    """A check found a difference between the expected and the actual state."""

    exit_code = 1
