"""`python -m bench --against REV`: the arithmetic of pairs, what is refused, what is cleaned up, and one tiny run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import revisions
from bench.figures import Better, Value
from bench.pairs import Figure, paired
from bench.revisions import Refused, Revision, checked_out, git, refuse_changes
from tests.support.repository import ROOT

from_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the tree is no git checkout")


def run_bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def test_ratio_is_taken_within_each_pair():
    rounds = [
        ({"p50": Value(theirs, "ms")}, {"p50": Value(ours, "ms")}) for theirs, ours in ((10, 5), (20, 30), (40, 32))
    ]
    [figure] = paired(rounds)
    assert (figure.revision, figure.tree) == ([10, 20, 40], [5, 30, 32])
    assert figure.ratios == [0.5, 1.5, 0.8]
    # The ratio of the medians would be 1.5.
    assert figure.ratio == (0.8, 0.5, 1.5)


@pytest.mark.parametrize(("better", "won"), [(Better.LOWER, 2), (Better.HIGHER, 1), (Better.CONTROL, None)])
def test_better_pairs_follow_the_direction_of_the_figure(better: Better, won: int | None):
    assert Figure("", "", better, [10, 20, 40, 7], [5, 30, 32, 7]).better_pairs == won


def test_pair_whose_revision_measured_zero_has_no_ratio():
    assert Figure("", "", Better.LOWER, [0, 2], [1, 1]).ratio == (0.5, 0.5, 0.5)
    assert Figure("", "", Better.LOWER, [0], [1]).ratio is None


@from_git
def test_unknown_revision_is_refused_in_one_line_with_the_remedy():
    done = run_bench("--against", "no-such-commit")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith('error: no commit "no-such-commit" here: choose one that')
    assert done.stderr.count("\n") == 1


def test_uncommitted_change_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(revisions, "ROOT", tmp_path)
    git("init", "--quiet")
    (tmp_path / "notes.md").touch()
    refuse_changes()
    (tmp_path / "dispatcher").touch()
    with pytest.raises(Refused, match=r"1 uncommitted change\(s\), such as dispatcher: commit or stash"):
        refuse_changes()


async def test_revision_without_the_package_is_refused(tmp_path: Path):
    with pytest.raises(Refused, match="abc1234 has no package dispatcher: choose a later commit"):
        await Revision("abc1234", "", tmp_path).install("postgresql://127.0.0.1/nothing")


async def test_failing_install_of_a_revision_is_refused_with_its_last_line(tmp_path: Path):
    (tmp_path / "dispatcher").mkdir()
    (tmp_path / "dispatcher" / "__init__.py").touch()
    (tmp_path / "dispatcher" / "__main__.py").write_text("import sys; print('connecting'); sys.exit('no such option')")
    with pytest.raises(Refused, match=r"abc1234 failed \(exit code 1\): no such option; choose another commit"):
        await Revision("abc1234", "", tmp_path).install("postgresql://127.0.0.1/nothing")


@from_git
def test_interrupted_run_leaves_no_worktree():
    seen: list[Path] = []

    def interrupted() -> None:
        with checked_out("HEAD", "HEAD") as folders:
            assert all((folder / "dispatcher" / "__init__.py").is_file() for folder in folders)
            seen.extend(folders)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(seen) == 2
    for folder in seen:
        assert not folder.exists()
        assert str(folder) not in git("worktree", "list")


@from_git
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_tiny_run_yields_ratios_of_pairs_in_changing_order():
    done = run_bench("--against", "HEAD", "--quick", "--json", "--rounds", "2", "--only", "latency,stream50")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    figures = record["figures"]
    assert {"latency p50", "latency p99", "stream of 50/s, SENT p50", "stream of 50/s, SENT p99"} <= set(figures)
    for name, figure in figures.items():
        if figure["better"] == "control":
            continue
        assert len(figure["ratios"]) == 2, name
        assert figure["ratio"]["least"] <= figure["ratio"]["median"] <= figure["ratio"]["most"], name
    theirs = record["revision"][:7]
    first, second = [theirs, "working tree"], ["working tree", theirs]
    assert [block["contestant"] for block in record["ledger"]] == [*first, *first, *second, *second]
    assert all(block["accepted"] == block["effects"] == block["written"] for block in record["ledger"])
