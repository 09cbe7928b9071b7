"""slime's contract tests for plugins, pointed at OPD functions by the environment variables they read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .checkouts import Checkout
from .own_tests import Outcomes, run_tests

INSIDE = Path(__file__).parent / "inside"
FOLDER = "tests/plugin_contracts"
UPSTREAM = "slime.rollout.on_policy_distillation"


@dataclass(frozen=True)
class Contract:
    """test: the part of a test's name by which the contract is found in its file. upstream: what slime itself ships in
    the place of `ours`, or None. plugin: a pytest plugin of inside/ that the contract needs to run `ours`."""

    name: str
    file: str
    test: str
    variable: str
    ours: str
    upstream: str | None
    variables: dict[str, str] = field(default_factory=dict)
    plugin: str | None = None

    def run(self, checkout: Checkout, path: str) -> tuple[Outcomes, str]:
        """The outcomes of the contract's own tests, and what the whole file printed."""
        variables = {f"SLIME_CONTRACT_{self.variable}_PATH": path, **self.variables}
        folders = []
        if self.plugin:
            variables["PYTEST_ADDOPTS"] = f"-p {self.plugin}"
            folders.append(INSIDE)
        outcomes, text = run_tests(checkout, [f"{FOLDER}/{self.file}"], *folders, **variables)
        return {test: outcome for test, outcome in outcomes.items() if self.test in test}, text


CONTRACTS = (
    Contract(
        "reward post-process",
        file="test_plugin_runtime_hook_contracts.py",
        test="path_aligns_with_expected_format[custom_reward_post_process]",
        variable="CUSTOM_REWARD_POST_PROCESS",
        ours="slime.rollout.on_policy_distillation.post_process_rewards",
        upstream=f"{UPSTREAM}.post_process_rewards",
    ),
    Contract(
        "reward",
        file="test_plugin_path_loading_contracts.py",
        test="test_custom_rm_path_aligns_with_expected_format",
        variable="CUSTOM_RM",
        ours="slime.rollout.on_policy_distillation.reward_func",
        upstream=f"{UPSTREAM}.reward_func",
    ),
    Contract(
        "reward of a group",
        file="test_plugin_path_loading_contracts.py",
        test="test_custom_rm_path_aligns_with_expected_format",
        variable="CUSTOM_RM",
        ours="slime.rollout.on_policy_distillation.batched_reward_func",
        upstream=f"{UPSTREAM}.reward_func",
        variables={"SLIME_CONTRACT_GROUP_RM": "1"},
    ),
    Contract(
        "generate",
        file="test_plugin_generate_contracts.py",
        test="test_custom_generate_function_path_supports_user_override",
        variable="CUSTOM_GENERATE_FUNCTION",
        ours="slime.rollout.opd_generate.generate",
        upstream=None,
        plugin="answering_generate",
    ),
)
