"""Every built-in fault and every crash point of tests/faults still finds the functions that it replaces."""

import subprocess
import sys

import pytest

from tests.support.replace_attribute import replace_attribute


@pytest.mark.parametrize(
    "program",
    [
        "from tests.faults.run_with_fault import FAULTS\nfor fault in FAULTS.values(): fault(1.0)",
        "from tests.faults.run_and_crash import POINTS\nfor point in POINTS.values(): point(lambda: None)",
    ],
    ids=["run_with_fault", "run_and_crash"],
)
def test_built_in_faults_replace_existing_attributes(program: str):
    """A process of its own, because the functions stay replaced in it."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_replace_attribute_refuses_an_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute renamed"):
        replace_attribute(subprocess, "renamed", None)
