"""The model's methods fit the signatures of `OutboxStore`."""

import inspect

import pytest

from tests.model.ledger import Ledger
from tests.model.model_outbox import ModelOutbox
from tests.model.model_vs_postgres import TwinOutbox
from tests.model.step_control import SteppedOutbox
from tests.model.store_methods import SIGNATURES

ANSWERED_BY_THE_LEDGER = sorted((SIGNATURES.keys() & vars(Ledger).keys()) - {"claim"})
"""A claim is answered by `ModelOutbox.claim`: which due rows it takes is the model's choice."""


@pytest.mark.parametrize("name", ANSWERED_BY_THE_LEDGER)
def test_ledger_method_has_only_parameters_of_the_store(name: str):
    parameters = inspect.signature(vars(Ledger)[name]).parameters.keys()
    assert parameters <= SIGNATURES[name].parameters.keys() | {"node"}


@pytest.mark.parametrize("double", [ModelOutbox, TwinOutbox, SteppedOutbox])
def test_double_defines_only_methods_of_the_store(double: type):
    own = {name for name, value in vars(double).items() if inspect.isfunction(value) and not name.startswith("_")}
    assert own <= SIGNATURES.keys()


def test_ledger_answers_the_statements_of_a_run():
    needed = {"acquire", "record_calls", "settle", "release", "release_unstarted", "rescue", "renew_leases"}
    assert needed <= set(ANSWERED_BY_THE_LEDGER)
