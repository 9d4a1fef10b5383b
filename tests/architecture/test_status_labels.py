"""The labels of the outbox's status column are written in one place: `Status` in models/notification.py."""

from pathlib import Path

from dispatcher.models.notification import Status
from tests.support.source_strings import strings_in, trees

HOME = Path("dispatcher/models/notification.py")


def test_status_labels_are_written_only_in_the_enum():
    labels = {status.value for status in Status}
    assert labels == {"PENDING", "PROCESSING", "SENT", "PARTIAL", "FAILED", "RETRACTED"}
    written = {str(path): labels & set(strings_in(tree)) for path, tree in trees().items() if path != HOME}
    assert {path: sorted(found) for path, found in written.items() if found} == {}
