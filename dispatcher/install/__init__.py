"""The installer: runs the files of sql/, and compares the objects of a database with those that sql/ creates."""

from dispatcher.config.table_names import CHANNEL
from dispatcher.install.adoption import Identity, adopt, release, renew
from dispatcher.install.after_restore import mark_restored
from dispatcher.install.devschema import create_dev_schema
from dispatcher.install.grants import render_grants
from dispatcher.install.installer import inspect, install, is_ledger_newer, plan
from dispatcher.install.ledger_size import read_sizes
from dispatcher.install.options import Difference, Options, Report
from dispatcher.install.probe import verify_notify
from dispatcher.install.removal import uninstall
from dispatcher.install.rendering import render
from dispatcher.install.session import wait_until_ready

__all__ = [
    "CHANNEL",
    "Difference",
    "Identity",
    "Options",
    "Report",
    "adopt",
    "create_dev_schema",
    "inspect",
    "install",
    "is_ledger_newer",
    "mark_restored",
    "plan",
    "read_sizes",
    "release",
    "render",
    "render_grants",
    "renew",
    "uninstall",
    "verify_notify",
    "wait_until_ready",
]
