"""slime's reward post-process hook: rewards by group, tokens selected, mask and carrier written."""

import inspect
import logging
import math
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from slime.rollout.on_policy_distillation import current_rollout, post_process_rewards, remember_rollout
from slime.utils.opd_versions import PATHS, first_module
from slime.utils.types import Sample
from ta_opd.carrier import unpack
from ta_opd.rollout_metrics import SAMPLE_METRICS, ratios

from . import rollouts
from .rollouts import arguments


def masked(**values):
    return arguments(**({"opd_budget_mask": "teachability", "opd_budget_ratio": 0.3} | values))


def carried(samples):
    return [unpack(s.teacher_log_probs, torch.ones(s.response_length) > 0) for s in samples]


def test_the_signature_is_the_one_slimes_contract_checks():
    assert list(inspect.signature(post_process_rewards).parameters) == ["args", "samples"]


def test_rewards_come_back_raw_and_normalised_by_group_in_the_samples_order():
    samples = rollouts.batch(1, [2, 3, 1, 2])
    for sample, (reward, group) in zip(samples, [(1.0, 5), (4.0, 9), (3.0, 5), (8.0, 9)], strict=True):
        sample.reward, sample.group_index = reward, group
    raw, rewards = post_process_rewards(arguments(), samples)
    assert raw == [1.0, 4.0, 3.0, 8.0]
    assert rewards == pytest.approx([-0.7071, -0.7071, 0.7071, 0.7071], abs=1e-3)
    assert all(isinstance(value, float) for value in [*raw, *rewards])


@pytest.mark.parametrize("target", ["opd", "loss"])
def test_each_sample_carries_its_own_rows_and_exactly_the_budget_is_kept(target):
    lengths = [5, 0, 7, 3]
    samples = rollouts.batch(2, lengths)
    post_process_rewards(masked(opd_mask_target=target), samples)
    rows = carried(samples)
    assert [len(r.weight) for r in rows] == lengths
    assert sum(int(r.kept.sum()) for r in rows) == math.ceil(0.3 * sum(lengths))
    for sample, r in zip(samples, rows, strict=True):
        assert np.array_equal(r.teacher_logprob.numpy(), sample.opd_teacher.logprobs)
        assert sample.loss_mask is None if target == "opd" else sample.loss_mask == r.kept.int().tolist()


@pytest.mark.parametrize("hook", [PATHS["custom_advantage_function_path"], None], ids=["packed", "plain"])
def test_a_samples_carrier_pickles_without_the_rest_of_the_batch(hook):
    samples = rollouts.batch(3, [4, 1000])
    post_process_rewards(masked(opd_mask_target="loss", custom_advantage_function_path=hook), samples)
    small = samples[0].teacher_log_probs
    assert small.is_contiguous() and small.dtype == torch.float32
    assert len(pickle.dumps(small)) < 1000


@pytest.mark.parametrize("normaliser", ["selected", "sample"])
def test_weights_undo_the_mean_slime_is_set_to_take(normaliser):
    lengths, weights = [5, 0, 7, 3], {}
    for per_token in (False, True):
        samples = rollouts.batch(2, lengths)
        post_process_rewards(masked(opd_normaliser=normaliser, calculate_per_token_loss=per_token), samples)
        weights[per_token] = torch.cat([r.weight for r in carried(samples)])
    kept = weights[True] > 0
    counted = sum(lengths) + (normaliser == "selected")
    assert weights[True][kept].tolist() == pytest.approx([counted / int(kept.sum())] * int(kept.sum()))
    assert not torch.allclose(weights[True], weights[False])


def test_the_random_selector_draws_by_rollout():
    def kept(rollout_id):
        samples = rollouts.batch(4, [20, 20])
        post_process_rewards(masked(opd_budget_mask="random", ta_opd_rollout=rollout_id), samples)
        return [r.kept.tolist() for r in carried(samples)]

    assert kept(3) == kept(3) != kept(4)


@pytest.mark.parametrize("reward", [None, 1.0])
def test_an_aborted_sample_is_out_of_the_loss_and_out_of_its_groups_statistics(reward):
    samples = rollouts.batch(5, [4, 4, 4, 4])
    for sample, value in zip(samples, [1.0, 3.0, reward, 7.0], strict=True):
        sample.reward = value
    samples[2].status = Sample.Status.ABORTED
    raw, rewards = post_process_rewards(arguments(), samples)
    assert samples[2].remove_sample is (reward is None)
    assert raw == [1.0, 3.0, reward or 0.0, 7.0]
    if reward is None:
        assert rewards[2] == rewards[3] == 0.0 and not carried(samples)[2].valid.any()


def test_a_servers_answer_as_a_reward_is_refused():
    (sample,) = rollouts.batch(5, [4])
    sample.reward = {"meta_info": {"input_token_logprobs": []}}
    with pytest.raises(ValueError, match="sample 0 has a reward of meta_info"):
        post_process_rewards(arguments(), [sample])


@pytest.mark.parametrize("off", [{"use_opd": False}, {"opd_type": "megatron"}])
def test_without_a_server_for_a_teacher_only_rewards_are_processed(off):
    samples = rollouts.batch(6, [3, 3])
    post_process_rewards(arguments(**off), samples)
    assert all(s.teacher_log_probs is None and s.rollout_routed_experts is None for s in samples)


def test_no_samples_and_responses_without_tokens_are_no_error(tracked):
    assert post_process_rewards(arguments(use_wandb=True), []) == ([], []) and not tracked
    samples = rollouts.batch(7, [0, 0])
    post_process_rewards(masked(opd_max_missing=0.0), samples)
    assert [s.teacher_log_probs.shape for s in samples] == [(0, 2), (0, 2)]


def failed_batch():
    samples = rollouts.batch(8, [6, 4, 10])
    samples[0].loss_mask = [1, 1, 1, 1, 0, 0]
    rollouts.absent(samples[0], "timeout")
    samples[1].opd_teacher.logprobs[0] = np.nan
    return samples


def test_missing_tokens_up_to_the_limit_leave_opd_and_keep_their_loss():
    samples = failed_batch()
    post_process_rewards(arguments(opd_max_missing=5 / 18), samples)
    rows = carried(samples)
    assert not rows[0].kept.any() and rows[0].valid.tolist() == [True] * 4 + [False] * 2
    assert rows[1].kept.tolist() == [False, True, True, True] and rows[2].kept.all()
    assert samples[0].loss_mask == [1, 1, 1, 1, 0, 0] and not samples[0].remove_sample


def test_missing_tokens_above_the_limit_stop_the_run_and_say_why():
    message = r"27\.8% of the rollout's valid tokens have no teacher; --opd-max-missing allows 27\.0%.*timeout 1"
    with pytest.raises(RuntimeError, match=message):
        post_process_rewards(arguments(opd_max_missing=0.27), failed_batch())


def test_single_missing_tokens_above_the_limit_are_named_as_such():
    samples = rollouts.batch(8, [2])
    samples[0].opd_teacher.logprobs[0] = -np.inf
    with pytest.raises(RuntimeError, match=r"50\.0% of .* single tokens"):
        post_process_rewards(arguments(opd_max_missing=0.0), samples)


def test_samples_carry_their_statistics_to_the_trainer():
    samples = rollouts.batch(9, [5, 0, 6])
    post_process_rewards(masked(), samples)
    parts = [torch.as_tensor(s.rollout_routed_experts) for s in samples]
    assert all(p.shape == (len(SAMPLE_METRICS), 2) and p.dtype == torch.float64 for p in parts)
    whole = ratios(SAMPLE_METRICS, torch.stack(parts).sum(0))
    assert whole["keep_ratio"] == 4 / 11 and whole["missing_share"] == 0
    for sample, part, rows in zip(samples, parts, carried(samples), strict=True):
        assert part[0].tolist() == [int(rows.kept.sum()), sample.response_length]


@pytest.mark.parametrize(
    "values",
    [
        {"use_rollout_routing_replay": True},
        {"custom_advantage_function_path": None, "opd_mask_target": "loss"},
        {"custom_advantage_function_path": "mine.hook", "opd_mask_target": "loss"},
    ],
    ids=["routing replay", "no advantage hook", "somebody else's hook"],
)
def test_where_the_trainer_cannot_take_statistics_they_are_logged_here(values, tracked):
    samples = rollouts.batch(9, [5, 0, 6])
    for sample in samples:
        sample.rollout_routed_experts = "replayed"
    post_process_rewards(masked(use_wandb=True, **values), samples)
    assert all(s.rollout_routed_experts == "replayed" for s in samples)
    (metrics, _) = tracked[0]
    assert metrics["rollout/opd/keep_ratio"] == 4 / 11 and "rollout/opd/entropy_selected" in metrics


def test_counts_and_failures_are_logged_under_their_own_names_with_slimes_step(tracked, caplog):
    with caplog.at_level(logging.INFO):
        post_process_rewards(masked(use_tensorboard=True, ta_opd_rollout=7), failed_batch())
    ((metrics, step_key),) = tracked
    assert step_key == "rollout/step" and metrics.pop("rollout/step") == 70
    assert metrics["rollout/opd/tokens_valid"] == 18 and metrics["rollout/opd/tokens_kept"] == 6
    assert metrics["rollout/opd/teacher_failed/timeout"] == 1
    assert metrics["rollout/opd/tokens_not_scored"] == 5 and "rollout/opd/kept_by_tie_break" in metrics
    assert all(name.startswith("rollout/opd/") for name in metrics) and "rollout 7" in caplog.text


def test_without_a_tracker_the_log_alone_is_written(tracked, caplog):
    with caplog.at_level(logging.INFO):
        post_process_rewards(masked(), failed_batch())
    assert not tracked and "tokens_kept" in caplog.text


def test_the_token_bank_has_a_row_for_every_response_token(tmp_path):
    samples = rollouts.batch(10, [3, 0, 4])
    samples[2].status, samples[2].group_index, samples[2].index = Sample.Status.TRUNCATED, None, None
    samples[0].loss_mask = [1, 0, 1]
    args = masked(opd_token_bank_dir=str(tmp_path), ta_opd_rollout=2, rollout_seed=5)
    post_process_rewards(args, samples)
    (path,) = tmp_path.rglob("*.parquet")
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == 7
    tokens = [t for s in samples for t in s.tokens[len(rollouts.PROMPT) :]]
    assert [row["token_id"] for row in rows] == tokens
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert columns["sample_index"] == [0] * 3 + [2] * 4 and columns["group_index"] == [0] * 3 + [-1] * 4
    assert columns["truncated"] == [0] * 3 + [1] * 4 and columns["loss_mask_original"] == [1, 0, 1, 1, 1, 1, 1]
    assert set(columns["prompt_len"]) == {3} and set(columns["seed"]) == {5} and set(columns["rollout_id"]) == {2}
    kept = torch.cat([rows.kept for rows in carried(samples)]).tolist()
    assert columns["budget_keep"] == [int(k) for k in kept]
    sampled = [x for s in samples for x in s.rollout_log_probs]
    assert columns["student_logp_sampled"] == pytest.approx(sampled)


def test_the_rollouts_number_is_remembered_and_logging_left_to_slime():
    args = arguments()
    assert remember_rollout(12, args, [], None, 0.0) is False
    assert current_rollout(args) == 12 == current_rollout(args)
    assert list(inspect.signature(remember_rollout).parameters)[:2] == ["rollout_id", "args"]


def test_without_the_log_hook_rollouts_are_counted_and_a_resumed_run_is_warned_once(caplog):
    args = arguments()
    del args.ta_opd_rollout
    with caplog.at_level(logging.WARNING):
        assert [current_rollout(args) for _ in range(3)] == [0, 1, 2]
    assert caplog.text.count("counting rollouts from 0") == 1


def test_the_first_of_a_modules_places_is_taken():
    assert first_module("slime.nowhere.misc", "slime.utils.misc").__name__ == "slime.utils.misc"
    assert first_module("slime.utils.misc", "slime.utils.types").__name__ == "slime.utils.misc"
    with pytest.raises(ImportError, match=r"none of slime\.nowhere\.misc, slime\.utils\.nothing"):
        first_module("slime.nowhere.misc", "slime.utils.nothing")


def test_a_selector_that_cannot_score_stops_the_run_and_says_what_records_the_lists():
    samples = [rollouts.sample(seed, 4) for seed in range(2)]
    for sample in samples:
        del sample.opd_student
    args = arguments(opd_budget_mask="teachability", opd_budget_ratio=0.5, opd_max_missing=0.4)
    with pytest.raises(RuntimeError, match=r"100\.0% .* no score for teachability.*record_student_topk"):
        post_process_rewards(args, samples)
    post_process_rewards(arguments(opd_budget_mask="random", opd_budget_ratio=0.5, opd_max_missing=0.4), samples)


def test_settings_are_checked_even_if_another_entry_started_the_run():
    with pytest.raises(ValueError, match=r"--rollout-temperature 0\.7"):
        post_process_rewards(arguments(rollout_temperature=0.7), [rollouts.sample(1, 3)])
