"""`dispatcher doctor`: checks every part from this machine, and prints a measurement and a remedy for each."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dispatcher.cli.filter_options import AsJson
from dispatcher.cli.options import EnvFile, load_settings

if TYPE_CHECKING:
    from dispatcher.doctor.runner import Finding


def doctor(env_file: EnvFile = Path(".env"), as_json: AsJson = False) -> None:
    """Check settings, PostgreSQL, Temporal and Novu, and print a remedy for each problem.

    Changes nothing and sends nothing. Exit code 1 if a check failed, 2 if the configuration cannot be read, 3 if the
    only failures are services that do not answer.
    """
    import anyio

    from dispatcher import doctor
    from dispatcher.doctor.runner import exit_code, failed, passed, skipped
    from dispatcher.models.errors import ConfigurationError

    report = FindingPrinter(as_json=as_json)
    try:
        settings = load_settings(env_file)
    except ConfigurationError as error:
        report.add("configuration", failed(str(error), "dispatcher config env-example shows every setting"))
        for name in doctor.check_names():
            report.add(name, skipped("because configuration failed"))
        code = error.exit_code
    else:
        found = settings.origins.found.values()
        places = sorted({each.source for each in found})
        report.add("configuration", passed(f"{len(found)} settings, from {' and '.join(places)}"))
        anyio.run(doctor.run_checks, settings, report.add)
        code = exit_code(report.findings.values())
    report.end()
    raise typer.Exit(code)


class FindingPrinter:
    """Prints a line for each check as soon as it is done, or JSON at the end. Secrets are masked."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.findings: dict[str, Finding] = {}

    def add(self, name: str, finding: "Finding") -> None:
        """Keep the next finding, and print it unless JSON is wanted."""
        self.findings[name] = finding
        if not self._as_json:
            verdict = finding.status.upper() if finding.status == "fail" else finding.status
            typer.echo(f"{verdict:<9}{name:<15}{one_clean_line(finding.value)}")
            if finding.remedy:
                typer.echo(f"{'':<9}  -> {one_clean_line(finding.remedy)}")

    def end(self) -> None:
        """Print all findings if JSON is wanted."""
        from dispatcher.cli.output import print_json

        if self._as_json:
            print_json(
                [
                    {
                        "check": name,
                        "verdict": finding.status,
                        "value": one_clean_line(finding.value),
                        "remedy": finding.remedy and one_clean_line(finding.remedy),
                    }
                    for name, finding in self.findings.items()
                ]
            )


def one_clean_line(text: str) -> str:
    """Return text from another program as one line without secrets and control characters."""
    from dispatcher.telemetry.redaction import escaped, redact_text

    return escaped(redact_text(text))
