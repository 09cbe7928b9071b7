"""Our reward, post-process and generate functions keep slime's contracts for plugins; its own OPD functions do not."""

import pytest

from .contracts import CONTRACTS

SHIPPED = [contract for contract in CONTRACTS if contract.upstream]


def name(contract):
    return contract.name


@pytest.mark.parametrize("contract", CONTRACTS, ids=name)
def test_ours_keeps_the_contract(contract, patched, record):
    outcomes, text = contract.run(patched, contract.ours)
    assert list(outcomes.values()) == ["passed"], text[-5000:]
    record("contract tests, ours", "pass", contract.name)


@pytest.mark.parametrize("contract", SHIPPED, ids=name)
def test_upstreams_function_breaks_the_contract(contract, pristine, record):
    outcomes, text = contract.run(pristine, contract.upstream)
    assert list(outcomes.values()) == ["failed"], text[-5000:]
    record("contract tests, upstream's", "fail", contract.name)
