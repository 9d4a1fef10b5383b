"""A pid file, or its folder, that belongs to another user. Only root can make one."""

import fcntl
import os
from pathlib import Path

import pytest

from dispatcher.cli.pidfile import PidFile
from dispatcher.models.errors import ConfigurationError

NOBODY = 65_534


@pytest.mark.parametrize("owned", ["file", "folder"])
def test_f230_pid_file_that_another_user_can_replace_is_refused(tmp_path: Path, owned: str):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    path = folder / "worker.pid"
    path.write_text("4711\n")
    path.chmod(0o600)
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert PidFile(path).pid() == 4711
        os.chown(path if owned == "file" else folder, NOBODY, NOBODY)
        with pytest.raises(ConfigurationError, match="is not trusted"):
            PidFile(path).pid()
