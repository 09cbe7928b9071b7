"""Replayed masks are the masks of training: bit by bit, for every selector, from files and merged."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fixed_context.replay.bank_reader import bank_files, bank_options, metrics_rollout, read_rollouts
from fixed_context.replay.mask_replay import (
    Entry,
    jaccard_rows,
    parse_entries,
    position_rows,
    replay_bank,
    selector_rows,
)
from fixed_context.replay.selector_replay import all_masks
from fixed_context.schema import write_parquet
from ta_opd import Options, Supports, TopK, select_tokens, token_scores
from ta_opd.token_bank.bank import write_rollout
from ta_opd.token_bank.columns import Rollout, token_columns

from ..statistics.planted import planted_frame

TOOLS = Path(__file__).resolve().parents[3] / "tools"


def make_bank(directory, options, rollouts=2, seed=0, lengths=(30, 0, 45, 1, 60)):
    """A token bank of random lists with masked tokens and tokens without a teacher; returns its masks."""
    generator, masks = torch.Generator().manual_seed(seed), []
    for rollout_id in range(rollouts):
        n, k = sum(lengths), 6
        lists = []
        for _ in range(2):
            ids = torch.stack([torch.randperm(12, generator=generator)[:k] for _ in range(n)]).int()
            lists.append(
                TopK(
                    ids,
                    torch.randn(n, k, generator=generator).mul(2).sub(1).log_softmax(1).sort(descending=True).values
                    - 0.05,
                )
            )
        teacher = torch.randn(n, generator=generator) - 2
        teacher[::17] = torch.nan
        loss_mask = (torch.rand(n, generator=generator) > 0.15).int()
        ids = torch.randint(0, 12, (n,), generator=generator)
        scores = token_scores(Supports(*lists), options.score_variant, ids)
        sizes = torch.tensor(lengths)
        selection = select_tokens(scores, loss_mask, sizes, options, rollout_id, teacher.isfinite())
        b = len(lengths)
        rollout = Rollout(
            rollout_id, 0, Supports(*lists), ids, teacher - 1, teacher, loss_mask, sizes, torch.full((b,), 9),
            torch.arange(b), torch.arange(b) // 2, torch.zeros(b, dtype=torch.bool),
        )  # fmt: skip
        write_rollout(directory, rollout_id, token_columns(rollout, scores, selection, options, block=50), options)
        masks.append(selection.keep.numpy())
    return masks


def own_settings(rollout):
    told = bank_options(rollout.source)
    return told.get("") or told.get(rollout.run)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("mask", all_masks())
def test_the_banks_own_mask_is_made_again_exactly_for_every_selector(tmp_path, mask, variant):
    options = Options(topk_metrics_k=6, budget_mask=mask, budget_ratio=0.13, score_variant=variant, budget_mask_seed=7)
    masks = make_bank(tmp_path / "token_bank", options)
    rollouts = [r for file in bank_files([tmp_path / "token_bank"]) for r in read_rollouts(file)]
    entry = Entry(mask, options.budget_ratio)
    result = replay_bank(rollouts, [entry], Options(topk_metrics_k=1), own_settings)
    assert [row["exact"] for row in result.checks] == [True, True]
    assert result.kept.tolist() == [sum(int(m.sum()) for m in masks)]


@pytest.mark.parametrize(
    "changes",
    [
        {"budget_scope": "sample"},
        {"budget_min_keep_per_sample": 3},
        {"compat_proxy": "jaccard"},
        {"compat_proxy": "prefix_ema"},
        {"metric_normalization": "batch_minmax"},
    ],
)
def test_settings_that_the_bank_tells_are_used(tmp_path, changes):
    options = Options(topk_metrics_k=6, budget_mask="teachability", budget_ratio=0.2, **changes)
    make_bank(tmp_path, options)
    rollouts = [r for file in bank_files([tmp_path]) for r in read_rollouts(file)]
    told = replay_bank(rollouts, [Entry("entropy", 0.1)], Options(topk_metrics_k=1), own_settings)
    assert all(row["exact"] for row in told.checks)
    assert {row["settings"] for row in told.checks} == {"of the bank"}


def test_a_bank_that_does_not_tell_its_settings_is_checked_with_the_flags_and_the_check_can_fail(tmp_path):
    make_bank(tmp_path, Options(topk_metrics_k=6, budget_mask="random", budget_ratio=0.2, budget_mask_seed=5))
    (tmp_path / "config.json").unlink()
    rollouts = [r for file in bank_files([tmp_path]) for r in read_rollouts(file)]
    for seed, exact in ((5, True), (6, False)):
        base = Options(topk_metrics_k=1, budget_mask_seed=seed)
        checks = replay_bank(rollouts, [Entry("entropy", 0.1)], base, own_settings).checks
        assert {row["exact"] for row in checks} == {exact}
        assert all("not known" in row["note"] for row in checks if not exact)


def test_counts_and_jaccard_agree_with_sets(tmp_path):
    make_bank(tmp_path, Options(topk_metrics_k=6, budget_mask="entropy", budget_ratio=0.2))
    rollouts = [r for file in bank_files([tmp_path]) for r in read_rollouts(file)]
    entries = parse_entries("teachability:0.2, divergence:0.2 random:0.05 pure_opd")
    result = replay_bank(rollouts, entries, Options(topk_metrics_k=1), own_settings)
    kept = []
    for entry in entries:
        options = Options(topk_metrics_k=1, budget_mask=entry.mask, budget_ratio=entry.ratio)
        kept.append({(r.rollout_id, int(i)) for r in rollouts for i in np.flatnonzero(replayed(r, options))})
    rows = jaccard_rows(result)
    for i, entry in enumerate(entries):
        for j, other in enumerate(entries):
            assert rows[i][other.label] == pytest.approx(len(kept[i] & kept[j]) / len(kept[i] | kept[j]))
        mine = selector_rows(result)[i]
        assert (
            mine["kept"] == len(kept[i]) == sum(r["kept"] for r in position_rows(result) if r["entry"] == entry.label)
        )
        covered = {(r.rollout_id, int(r.group[t])) for r in rollouts for q, t in kept[i] if q == r.rollout_id}
        assert mine["prompts_covered"] == len(covered)


def replayed(rollout, options):
    from fixed_context.replay.selector_replay import replay

    return replay(rollout.tokens, options)


def test_a_merged_bank_of_two_runs_replays_as_its_files_do(tmp_path):
    settings = [
        Options(topk_metrics_k=6, budget_mask=m, budget_ratio=0.2, budget_mask_seed=s)
        for m, s in (("random", 3), ("teachability", 4))
    ]
    for i, options in enumerate(settings):
        make_bank(tmp_path / f"run{i}" / "token_bank", options, seed=i)
    merged = tmp_path / "merged.parquet"
    command = [sys.executable, TOOLS / "merge_token_bank.py", tmp_path / "run0", tmp_path / "run1", "--output", merged]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rollouts = list(read_rollouts(merged))
    assert [(r.run, r.rollout_id) for r in rollouts] == [("run0", 0), ("run0", 1), ("run1", 0), ("run1", 1)]
    result = replay_bank(rollouts, [Entry("entropy", 0.1)], Options(topk_metrics_k=1), own_settings)
    assert all(row["exact"] and row["settings"] == "of the bank" for row in result.checks)


def test_a_metrics_file_is_replayed_as_one_rollout_without_a_check(tmp_path):
    frame = planted_frame("learnable", 10, 8, ks=())
    write_parquet(tmp_path / "m.parquet", frame.sample(fraction=1, shuffle=True, seed=1).to_arrow(), {"topk": 16})
    rollout = metrics_rollout(tmp_path / "m.parquet")
    result = replay_bank(
        [rollout], parse_entries("teachability:0.1 entropy:0.1"), Options(topk_metrics_k=1), lambda r: None
    )
    assert result.checks == [] and result.kept.tolist() == [8, 8] and result.all_prompts == 10
    with pytest.raises(ValueError, match="no number in base_Cmass_exact"):
        short = frame.drop("base_Cmass_exact")
        write_parquet(tmp_path / "s.parquet", short.to_arrow(), {"topk": 16})
        replay_bank(
            [metrics_rollout(tmp_path / "s.parquet")],
            parse_entries("compatibility:0.1"),
            Options(topk_metrics_k=1),
            lambda r: None,
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teachability", "method:ratio"),
        ("nobody:0.1", "--methods 'nobody:0.1': unknown method"),
        ("tip:2", "--methods 'tip:2': the ratio is outside"),
        ("tip:0.1 tip:0.1", "twice"),
        (" ", "no method"),
    ],
)
def test_entries_that_cannot_be_replayed_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_entries(text)


def test_a_score_after_training_never_stands_in_for_the_one_before(tmp_path):
    frame = planted_frame("learnable", 10, 8, ks=()).rename({"base_Hs": "Hs"})
    write_parquet(tmp_path / "m.parquet", frame.to_arrow(), {"topk": 16})
    rollouts = [metrics_rollout(tmp_path / "m.parquet")]
    with pytest.raises(ValueError, match=r"no number in base_Hs, which entropy:0\.1 reads"):
        replay_bank(rollouts, parse_entries("entropy:0.1"), Options(topk_metrics_k=1), lambda r: None)
    write_parquet(tmp_path / "m.parquet", frame.rename({"base_KLf_union": "KLf_union"}).to_arrow(), {"topk": 16})
    with pytest.raises(ValueError, match="missing column base_KLf_union"):
        metrics_rollout(tmp_path / "m.parquet")


def test_a_bank_whose_numbers_are_none_or_whose_pages_changed_is_named(tmp_path):
    make_bank(tmp_path, Options(topk_metrics_k=6, budget_mask="entropy", budget_ratio=0.2), rollouts=1)
    table, place = pq.read_table(bank_files([tmp_path])[0]), tmp_path / "other.parquet"
    index = table.schema.names.index("group_index")
    for column, message in (
        (pa.array([None, *[1] * (len(table) - 1)]), "rollout 0: column group_index is empty at 1 rows"),
        (pa.array(["a"] * len(table)), "column group_index is string, not a number"),
    ):
        pq.write_table(table.set_column(index, "group_index", column), place)
        with pytest.raises(ValueError, match=f"other.parquet: {message}"):
            next(read_rollouts(place))
    pq.write_table(table, place, write_page_checksum=True, compression="none", use_dictionary=False)
    chunk = pq.read_metadata(place).row_group(0).column(table.schema.names.index("Hs"))
    content = bytearray(place.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    place.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.parquet: broken .*CRC checksum"):
        list(read_rollouts(place))


def test_a_config_or_manifest_that_is_none_of_a_bank_is_named(tmp_path):
    make_bank(tmp_path, Options(topk_metrics_k=6, budget_mask="entropy", budget_ratio=0.2), rollouts=1)
    file = bank_files([tmp_path])[0]
    for text, message in (("{", "config.json: no JSON"), ("{}", "config.json: no options")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            bank_options(file)
    file.with_name(f"{file.name}.manifest.json").write_text('{"contexts": 3}')
    assert bank_options(file) == {}


def test_banks_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no rollout_\*"):
        bank_files([tmp_path])
    options = Options(topk_metrics_k=6, budget_mask="entropy", budget_ratio=0.2)
    make_bank(tmp_path, options, rollouts=1)
    file = bank_files([tmp_path])[0]
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["Cmass", "budget_keep"]), tmp_path / "short.parquet")
    with pytest.raises(ValueError, match="missing columns budget_keep, Cmass"):
        next(read_rollouts(tmp_path / "short.parquet"))
    (tmp_path / "cut.parquet").write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match="not a whole Parquet"):
        next(read_rollouts(tmp_path / "cut.parquet"))
    apart = table.take(np.r_[np.arange(10), np.arange(20)])
    other = apart.set_column(apart.schema.get_field_index("rollout_id"), "rollout_id", [np.repeat([0, 1, 0], 10)])
    pq.write_table(other, tmp_path / "apart.parquet")
    with pytest.raises(ValueError, match="do not lie together"):
        list(read_rollouts(tmp_path / "apart.parquet"))


def test_the_engines_own_masks_are_made_again_from_a_real_run(tmp_path):
    command = [
        sys.executable, "-m", "local_engine", "--out", tmp_path,
        "--methods", "teachability:0.10 entropy:0.10 random:0.10", "--steps",
        "2", "--workers", "1", "--problems", "40", "--held-out-problems", "6", "--vocab-size", "300",
        "--teacher", "32,1,2,1,64", "--student", "16,1,2,1,32", "--teacher-steps", "2", "--student-steps", "2",
        "--responses-per-step", "6", "--max-new-tokens", "10", "--frozen-contexts", "6",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    banks = sorted(tmp_path.glob("runs/*/token_bank"))
    rollouts = [r for file in bank_files(banks) for r in read_rollouts(file)]
    assert {r.method for r in rollouts} == {"dlearn_high", "entropy", "random"} and len(rollouts) == 6
    result = replay_bank(rollouts, [Entry("tip", 0.1)], Options(topk_metrics_k=1), own_settings)
    assert all(row["exact"] and row["settings"] == "of the bank" for row in result.checks)
    assert asdict(own_settings(rollouts[0]))["budget_mask"] == rollouts[0].method
