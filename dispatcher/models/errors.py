"""The errors a caller acts on.

DispatcherError            one sentence for a person, with the remedy; `exit_code` for the shell
├── ConfigurationError     2  usage or configuration is wrong and can never work
├── Unreachable            3  something outside does not answer; worth another try
└── CheckFailed            1  a check found a difference
"""


class DispatcherError(Exception):
    """Something a person has to know, in one sentence with the remedy."""

    exit_code = 1


class ConfigurationError(DispatcherError):
    """Usage or configuration is wrong: trying again cannot help."""

    exit_code = 2


class Unreachable(DispatcherError):
    """Something outside does not answer: trying again may help."""

    exit_code = 3


class CheckFailed(DispatcherError):
    """A check found a difference between what is and what should be."""

    exit_code = 1
