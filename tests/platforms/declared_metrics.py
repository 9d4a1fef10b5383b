"""The metrics that the code declares: those of the process and those of the database."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from dispatcher.telemetry import metrics
from dispatcher.web import backlog_metrics

OF_THE_DATABASE: dict[str, Any] = dict.fromkeys(backlog_metrics.GAUGES, 1) | {"rows": {"SENT": 1}, "nodes": []}


class Declared(NamedTuple):
    """A metric: its kind as Prometheus calls it, and the names of its labels."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str


def declared() -> list[Declared]:
    """Return every metric, in the order of the code."""
    return [*of_the_process(), *of_the_database()]


def of_the_process() -> Iterator[Declared]:
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            labels = getattr(metric, "_labelnames")  # noqa: B009  (there is no public function)
            yield Declared(family.name, family.type, tuple(labels), family.documentation)


def of_the_database() -> Iterator[Declared]:
    told = backlog_metrics.BacklogMetrics()
    told.known = OF_THE_DATABASE
    for family in told.collect():
        if family.samples:
            yield Declared(family.name, family.type, tuple(family.samples[0].labels), family.documentation)
