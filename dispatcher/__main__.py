"""The `dispatcher` command: runs the command line and turns every known error into one line and an exit code.

Leaves through `os._exit` once everything is flushed: interpreter teardown after a Temporal client ran can abort the
process (temporalio/sdk-python#300).
"""

import os
import sys


def main() -> None:
    """Run the command line; never returns."""
    from dispatcher.cli import app
    from dispatcher.models.errors import DispatcherError
    from dispatcher.telemetry.redaction import escaped, hide_values

    code: object = 0
    try:
        app(prog_name="dispatcher")
    except SystemExit as exit_:
        code = exit_.code
    except DispatcherError as error:
        print(f"dispatcher: {escaped(hide_values(str(error)))}", file=sys.stderr)  # noqa: T201  (the one place where errors are told)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001  (a bug: told as Python would have, and then we leave as always)
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    finish(code if isinstance(code, int) else int(code is not None))


def finish(code: int) -> None:
    """Flush what was written and leave with `code`, without interpreter teardown."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # the reader is gone, or there never was one; the exit code still tells
    os._exit(code)


if __name__ == "__main__":
    main()
