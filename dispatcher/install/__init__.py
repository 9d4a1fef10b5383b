"""Runs sql/ and compares the live catalogue with what it should be."""

from dispatcher.config.table_names import CHANNEL
from dispatcher.install.devschema import create_dev_schema
from dispatcher.install.grants import render_grants
from dispatcher.install.installer import inspect, install, plan
from dispatcher.install.options import Difference, Options, Report
from dispatcher.install.probe import doorbell
from dispatcher.install.removal import uninstall
from dispatcher.install.rendering import render
from dispatcher.install.session import wait

__all__ = [
    "CHANNEL",
    "Difference",
    "Options",
    "Report",
    "create_dev_schema",
    "doorbell",
    "inspect",
    "install",
    "plan",
    "render",
    "render_grants",
    "uninstall",
    "wait",
]
