"""Runs sql/ and compares the live catalogue with what it should be."""

from dispatcher.install.devschema import create_dev_schema
from dispatcher.install.installer import inspect, install
from dispatcher.install.names import CHANNEL
from dispatcher.install.options import Difference, Options, Report
from dispatcher.install.session import wait

__all__ = ["CHANNEL", "Difference", "Options", "Report", "create_dev_schema", "inspect", "install", "wait"]
