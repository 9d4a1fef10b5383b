"""A pid file, or its folder, that belongs to another user. Only root can make one."""

import os
from pathlib import Path

import pytest

from dispatcher.models.errors import ConfigurationError
from tests.support.pid_files import locked_file

NOBODY = 65_534


@pytest.mark.parametrize("owned", ["file", "folder"])
def test_f230_pid_file_that_another_user_can_replace_is_refused(tmp_path: Path, owned: str):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    with locked_file(folder / "worker.pid") as file:
        assert file.pid() == 4711
        os.chown(file.path if owned == "file" else folder, NOBODY, NOBODY)
        with pytest.raises(ConfigurationError, match="is not trusted"):
            file.pid()
