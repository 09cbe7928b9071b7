import dataclasses
import math

import numpy as np
import pytest
import torch
from ta_opd import Supports, TopK, select_tokens, token_scores
from ta_opd.token_bank.bank import SUMMARY_COLUMNS, write_rollout
from ta_opd.token_bank.columns import Rollout, Text, token_columns

from .. import reference
from ..rollouts import joined, options, read, scored, table

RELEASED = """
schema_version pair_id teacher_name student_name seed rollout_id sample_index group_index sample_ordinal tok_pos
pos_norm prompt_len resp_len total_len truncated token_id student_logp_sampled teacher_logp_sampled sampled_reverse_kl
sampled_teacher_adv loss_mask_original student_top1_id teacher_top1_id student_top1_prob teacher_top1_prob
student_topk_mass teacher_topk_mass Hs_topk Ht_topk Hs_topk_norm Ht_topk_norm KLf_union KLr_union Cmass Cmass_topk
Cmass_true Cmass_exact Coverlap CBC reach_t1 target_in_student_topk target_in_teacher_topk target_student_rank
target_teacher_rank student_top_ids student_top_logps teacher_top_ids teacher_top_logps Cprefix_ema budget_method
budget_ratio budget_score budget_keep H_norm D_norm C_norm DC_norm Dlearn Dincompat tip_score ca_softor_score
split_ca_score quadrant
"""
RELEASED_COLUMNS = RELEASED.split()
RELEASED_SUMMARY = (
    "rollout_id num_tokens num_valid_tokens num_kept_tokens keep_ratio mean_H_norm mean_D_norm mean_C_norm "
    "mean_tip_score mean_ca_softor_score mean_reach_t1 q3_tokens budget_method budget_ratio"
)
LISTS = {"student_top_ids", "student_top_logps", "teacher_top_ids", "teacher_top_logps"}


def test_every_released_column_is_there_under_its_name_and_in_its_order():
    columns, _ = table(options())
    assert [name for name in columns if name in set(RELEASED_COLUMNS)] == RELEASED_COLUMNS
    bare, _ = table(options(token_bank_raw_topk=False))
    assert set(columns) - set(bare) == LISTS
    assert " ".join(SUMMARY_COLUMNS) == RELEASED_SUMMARY


def test_positions_lengths_and_sampled_numbers_follow_from_the_rollout(tmp_path):
    columns, selection = table(options())
    rows = read(write_rollout(tmp_path, 4, [columns], options()))
    assert [row["tok_pos"] for row in rows] == [0, 1, 2, 0, 1, 2, 3, 4]
    assert [row["pos_norm"] for row in rows] == pytest.approx([0, 0.5, 1, 0, 0.25, 0.5, 0.75, 1])
    assert [row["sample_ordinal"] for row in rows] == [0] * 3 + [2] * 5
    assert [(r["sample_index"], r["group_index"], r["prompt_len"], r["resp_len"], r["truncated"]) for r in rows] == (
        [(100, 0, 7, 3, 0)] * 3 + [(102, 1, 9, 5, 1)] * 5
    )
    assert all(row["total_len"] == row["prompt_len"] + row["resp_len"] for row in rows)
    assert [row["budget_keep"] for row in rows] == selection.keep.int().tolist()
    for row in rows:
        assert (row["rollout_id"], row["seed"], row["pair_id"], row["budget_ratio"]) == (4, 11, "Ω-pair, one", 0.3)
        assert row["budget_method"] == "dlearn_high"
        if row["teacher_logp_sampled"] is not None:
            assert row["sampled_teacher_adv"] == -row["sampled_reverse_kl"]
            difference = row["student_logp_sampled"] - row["teacher_logp_sampled"]
            assert row["sampled_reverse_kl"] == pytest.approx(difference, abs=1e-6)
        assert row["target_student_rank"] in (1, None)


def test_masked_tokens_are_listed_without_normalised_scores():
    columns, _ = table(options(compat_proxy="prefix_ema"), unmasked=[1, 1, 0, 1, 1, 1, 0, 1])
    for name in ("H_norm", "D_norm", "C_norm", "DC_norm", "tip_score", "Cprefix_ema", "budget_score"):
        assert np.isnan(columns[name][[2, 6]]).all() and np.isfinite(columns[name][[0, 3]]).all(), name
    assert columns["budget_keep"][[2, 6]].tolist() == [0, 0] and columns["loss_mask_original"].tolist()[2] == 0
    assert [columns["quadrant"].tolist()[i] for i in (2, 6)] == ["", ""]
    assert np.isfinite(columns["KLf_union"][2])


def own_list(row, side):
    pairs = zip(row[f"{side}_top_ids"], row[f"{side}_top_logps"], strict=True)
    return {token: math.exp(logprob) for token, logprob in pairs if token is not None}


@pytest.mark.parametrize("seed", range(8))
def test_every_number_of_a_row_follows_from_its_two_lists(tmp_path, seed):
    for row in read(write_rollout(tmp_path, 4, [table(options(), seed=seed)[0]], options())):
        lists = {"s": own_list(row, "student"), "t": own_list(row, "teacher")}
        for side, name in (("s", "student"), ("t", "teacher")):
            if own := lists[side]:
                best = max(own, key=own.get)
                entropy = reference.entropy(reference.renormalise(own).values())
                assert row[f"{name}_top1_id"] == best
                assert row[f"{name}_top1_prob"] == pytest.approx(own[best], rel=1e-5)
                assert row[f"{name}_topk_mass"] == pytest.approx(sum(own.values()), rel=1e-5)
                assert row[f"H{side}_topk"] == pytest.approx(entropy, abs=1e-5)
                assert row[f"H{side}_topk_norm"] == pytest.approx(entropy / math.log(len(own)), abs=1e-5)
                assert row[f"target_in_{name}_topk"] == (row["token_id"] in own)
                order = sorted(own, key=own.get, reverse=True)
                rank = order.index(row["token_id"]) + 1 if row["token_id"] in own else None
                assert row[f"target_{name}_rank"] == rank
        if not (lists["s"] and lists["t"]):
            continue
        expected = reference.scores(lists["s"], lists["t"])
        for column, name in (
            ("KLf_union", "disagreement"),
            ("KLr_union", "reverse_disagreement"),
            ("Cmass", "compatibility"),
            ("Cmass_topk", "compatibility_bound"),
            ("Coverlap", "overlap"),
            ("Cjaccard", "jaccard"),
            ("CBC", "bhattacharyya"),
        ):
            assert row[column] == pytest.approx(expected[name], rel=1e-3, abs=1e-4), column
        exact = lists["s"].keys() <= lists["t"].keys()
        assert row["Cmass_exact"] == exact and row["Cmass_true"] == (row["Cmass"] if exact else None)
        assert row["reach_t1"] == (row["teacher_top1_id"] in lists["s"])
        assert row["Hs"] == pytest.approx(reference.bucketed_entropy(lists["s"]), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_every_score_of_a_row_follows_from_its_normalised_axes(tmp_path, variant):
    o = options(score_variant=variant, budget_mask="ca_softor")
    for row in read(write_rollout(tmp_path, 4, [table(o)[0]], o)):
        if None in (h := row["H_norm"], d := row["D_norm"], c := row["C_norm"]) or row["budget_score"] is None:
            continue
        q = row["DC_norm"] if variant == "released" else d * c
        assert row["Dlearn"] == pytest.approx(d * c, abs=1e-6)
        assert row["Dincompat"] == pytest.approx(d * (1 - c), abs=1e-6)
        assert row["tip_score"] == pytest.approx(reference.soft_or(h, d), abs=1e-6)
        assert row["ca_softor_score"] == pytest.approx(reference.soft_or(h, q), abs=1e-6)
        assert row["split_ca_score"] == pytest.approx((1 - h) * q, abs=1e-6)
        assert row["budget_score"] == pytest.approx(row["ca_softor_score"], abs=1e-6)


def test_a_teachers_first_choice_is_reached_from_any_entry_of_the_students_list():
    reached, first = [], []
    for seed in range(8):
        columns, _ = table(options(), seed=seed)
        reached += [columns["reach_t1"][i] for i in (0, 2, 3, 5, 7)]
        first += [columns["student_top1_id"][i] == columns["teacher_top1_id"][i] for i in (0, 2, 3, 5, 7)]
    assert 0 < sum(first) < sum(reached) < len(reached)


def test_known_entropies_and_divergences_take_their_columns():
    columns, _ = table(options())
    z = torch.randn(8, 9, generator=torch.Generator().manual_seed(3))
    supports = Supports.from_logits(z, z.flip(1), 3)
    scores = token_scores(supports, token_ids=z.argmax(1))
    mask, lengths = torch.ones(8), torch.tensor([3, 0, 5])
    zeros = torch.zeros(3, dtype=torch.long)
    rollout = Rollout(0, 0, supports, z.argmax(1), z[:, 0], z[:, 1], mask, lengths, zeros, zeros, zeros, zeros == 1)
    exact = joined(token_columns(rollout, scores, select_tokens(scores, mask, lengths, options()), options()))
    assert list(exact) == list(columns)
    assert torch.equal(torch.from_numpy(exact["Ht"]), supports.teacher_entropy)
    assert torch.equal(torch.from_numpy(exact["KLr"]), supports.reverse_kl)
    assert exact["Cmass_exact"].tolist() == [1] * 8
    np.testing.assert_array_equal(exact["Cmass_topk"], scores.compatibility_bound.numpy())
    assert (exact["Cmass_topk"] < exact["Cmass"]).any()
    np.testing.assert_array_equal(exact["Cmass_true"], exact["Cmass"])
    shifted, scores = dataclasses.replace(rollout, token_ids=z.argmin(1)), token_scores(supports, token_ids=z.argmin(1))
    absent = joined(token_columns(shifted, scores, select_tokens(scores, mask, lengths, options()), options()))
    assert absent["target_in_student_topk"].tolist() == [0] * 8 and absent["target_student_rank"].mask.all()


@pytest.mark.parametrize("cut", [(8,), (3, 5), (1, 0, 4, 3), (1,) * 8])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_neither_blocks_nor_samples_of_their_own_change_a_column(cut, block):
    o = options(compat_proxy="prefix_ema")
    rollout, scores, selection = scored(o, unmasked=[1, 1, 0, 1, 1, 1, 0, 1])
    whole = joined(token_columns(rollout, scores, selection, o))
    ends = np.cumsum(cut).tolist()
    parts = [rollout.supports.rows(slice(end - count, end)) for end, count in zip(ends, cut, strict=True)]
    blocks = list(token_columns(dataclasses.replace(rollout, supports=parts), scores, selection, o, block))
    assert [len(columns["tok_pos"]) for columns in blocks[:-1]] == [block] * (len(blocks) - 1)
    for name, values in joined(blocks).items():
        if isinstance(values, Text):
            assert values.tolist() == whole[name].tolist(), name
        else:
            assert values.dtype == whole[name].dtype, name
            np.testing.assert_array_equal(np.ma.getmaskarray(values), np.ma.getmaskarray(whole[name]), name)
            np.testing.assert_allclose(values, whole[name], rtol=1e-6, err_msg=name)


def test_axes_are_the_same_whether_the_selection_built_them_or_not():
    rollout, scores, selection = scored(options())
    without = joined(token_columns(rollout, scores, dataclasses.replace(selection, axes=None), options()))
    for name, values in joined(token_columns(rollout, scores, selection, options())).items():
        assert str(without[name]) == str(values), name


@pytest.mark.parametrize("supports", [(), [Supports(TopK.missing(0, 3), TopK.missing(0, 4))] * 2])
def test_a_batch_without_tokens_has_one_block_without_rows(supports):
    rollout, scores, selection = scored(options(), lengths=(0, 0))
    (columns,) = token_columns(dataclasses.replace(rollout, supports=supports), scores, selection, options())
    assert {len(values) for values in columns.values()} == {0} and columns["student_top_ids"].shape == (0, 3)
