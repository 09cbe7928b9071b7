"""eval_fixed_context_bank against whole logits and plain loops in float64."""

import math

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from fixed_context.schema import DENSE, metrics_schema, read_context_bank, read_metadata, read_metrics
from ta_opd.scores import prefix_ema

from .scoring_reference import logprobs, token_numbers
from .tiny_pair import STUDENT_VOCABULARY, masked, samples, save_bank, save_model, score

K, MORE = 4, (2, 8)
LISTS = ("student_top_ids", "student_top_logps", "teacher_top_ids", "teacher_top_logps")


def expected_rows(bank, student, teacher, ks):
    """{(context_id, tok_pos): columns} of the reference."""
    rows = {}
    for context in read_context_bank(bank).iter_rows(named=True):
        tokens = [*context["prompt_tokens"], *context["response_tokens"]]
        both = [logprobs(m, tokens, context["response_length"], STUDENT_VOCABULARY) for m in (student, teacher)]
        for position, (token, s, t) in enumerate(zip(context["response_tokens"], *both, strict=True)):
            numbers = token_numbers(s, t, token, ks[0])
            for k in ks[1:]:
                extra = token_numbers(s, t, token, k)
                numbers |= {f"{name}_k{k}": extra[name] for name in list(extra)[len(DENSE) :] if name not in LISTS}
            rows[context["context_id"], position] = numbers
    return rows


@pytest.fixture(scope="module")
def scored(student, teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    bank = save_bank(folder / "bank.parquet", samples())
    output = folder / "metrics.parquet"
    return bank, output, score(bank, student, teacher, output, "--topk", str(K), "--extra-topk", "2,8")


def test_every_column_is_that_of_whole_logits_in_float64(scored, student, teacher):
    bank, _, frame = scored
    rows = expected_rows(bank, student, teacher, (K, *MORE))
    assert len(frame) == len(rows)
    for row in frame.iter_rows(named=True):
        for name, value in rows[row["context_id"], row["tok_pos"]].items():
            if value is None:
                assert row[name] is None, name
            else:
                np.testing.assert_allclose(row[name], value, rtol=2e-5, atol=5e-6, err_msg=name)


def test_columns_types_and_order_are_the_schemas(scored):
    found = pq.read_schema(scored[1])
    assert found.remove_metadata().equals(metrics_schema(K, MORE))


def test_rows_are_the_banks_tokens_in_order(scored):
    bank, _, frame = scored
    contexts = read_context_bank(bank)
    assert frame["context_id"].to_list() == [
        name for name, length in contexts.select("context_id", "response_length").iter_rows() for _ in range(length)
    ]
    assert frame["token_id"].to_list() == [t for row in contexts["response_tokens"] for t in row]
    assert frame["loss_mask"].to_list() == [bit for row in contexts["loss_mask"] for bit in row]
    lengths = frame["resp_len"].to_numpy()
    np.testing.assert_allclose(frame["pos_norm"], frame["tok_pos"].to_numpy() / np.maximum(lengths - 1, 1), rtol=1e-6)
    assert 1 in lengths


def test_axes_are_normalised_over_the_tokens_that_count_and_null_elsewhere(scored):
    frame = scored[2]
    counts = frame["loss_mask"].to_numpy() == 1
    assert 0 < counts.sum() < len(counts)
    unit = {}
    for name, source in {"H_norm": "Hs", "D_norm": "KLf_union", "C_norm": "Cmass_exact"}.items():
        values = frame[source].to_numpy()
        low, high = np.quantile(values[counts], [0.05, 0.95])
        unit[name[0]] = np.clip((values - low) / (high - low), 0, 1)
        np.testing.assert_allclose(frame[name].to_numpy()[counts], unit[name[0]][counts], atol=1e-5)
        assert frame[name].is_null().to_numpy().tolist() == (~counts).tolist()
    h, d, c = (unit[name][counts] for name in "HDC")
    kept = frame.filter(pl.col("loss_mask") == 1)
    np.testing.assert_allclose(kept["Dlearn"], d * c, atol=1e-5)
    np.testing.assert_allclose(kept["Dincompat"], d * (1 - c), atol=1e-5)
    np.testing.assert_allclose(kept["tip_score"], h + d - h * d, atol=1e-5)
    np.testing.assert_allclose(kept["ca_softor_score"], h + d * c - h * d * c, atol=1e-5)
    high_h, high_d = (kept[name].to_numpy() >= kept[name].median() for name in ("H_norm", "D_norm"))
    names = {(1, 1): "Q1_highH_highD", (1, 0): "Q2_highH_lowD", (0, 1): "Q3_lowH_highD", (0, 0): "Q4_lowH_lowD"}
    assert kept["quadrant"].to_list() == [names[int(a), int(b)] for a, b in zip(high_h, high_d, strict=True)]
    assert frame.filter(pl.col("loss_mask") == 0)["quadrant"].null_count() == (~counts).sum()


def test_the_moving_average_of_c_passes_over_masked_tokens(scored):
    for (_,), rows in scored[2].group_by("context_id"):
        values, valid = (rows.sort("tok_pos")[name].to_torch() for name in ("Cmass_exact", "loss_mask"))
        expected = prefix_ema(values, values.new_tensor([len(values)]).long(), valid != 0).numpy()
        found = rows.sort("tok_pos")["Cprefix_ema"].to_numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("batch", ["1", "40", "100000"])
def test_numbers_do_not_depend_on_the_batch(batch, scored, student, teacher, tmp_path):
    bank, _, frame = scored
    flags = ("--topk", str(K), "--batch-tokens", batch, "--teacher-cache", str(tmp_path))
    again = score(bank, student, teacher, tmp_path / "m.parquet", *flags)
    assert again["context_id"].to_list() == frame["context_id"].to_list()
    for name, _ in DENSE:
        np.testing.assert_allclose(again[name], frame[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_numbers_do_not_depend_on_the_other_contexts(scored, student, teacher, tmp_path):
    _, _, frame = scored
    alone = save_bank(tmp_path / "one.parquet", samples()[4:5])
    one = score(alone, student, teacher, tmp_path / "m.parquet", "--topk", str(K))
    same = frame.filter(pl.col("context_id") == one["context_id"][0])
    np.testing.assert_allclose(one["KLf"], same["KLf"], rtol=1e-4, atol=1e-5)


def test_the_same_model_on_both_sides_has_no_distance(student, tmp_path):
    bank = save_bank(tmp_path / "bank.parquet", samples())
    frame = score(bank, student, student, tmp_path / "m.parquet", "--topk", "4")
    assert max(frame[name].max() for name in ("KLf", "KLr", "JSD", "KLf_union")) < 1e-6
    assert frame["Coverlap"].min() == 1 and frame["reach_t1"].min() == 1
    np.testing.assert_allclose(frame["Cmass_exact"], frame["student_topk_mass"], rtol=1e-6)


def test_gains_are_the_fall_since_the_baseline_joined_token_by_token(student, trained, teacher, tmp_path):
    bank = save_bank(tmp_path / "bank.parquet", samples())
    before = score(bank, student, teacher, tmp_path / "before.parquet", "--topk", "4", "--extra-topk", "2")
    flags = ("--topk", "4", "--baseline-metrics", str(tmp_path / "before.parquet"))
    after = score(bank, trained, teacher, tmp_path / "after.parquet", *flags)
    for gain, name in {"G_KLf": "KLf", "G_KLr": "KLr", "G_JSD": "JSD", "G_Hs": "Hs"}.items():
        assert after[f"base_{name}"].equals(before[name].alias(f"base_{name}"))
        np.testing.assert_allclose(after[gain], before[name] - after[name], atol=1e-6)
    assert after["base_KLf_union_k2"].to_list() == before["KLf_union_k2"].to_list()
    assert after["G_KLf"].abs().max() > 0.1 and "base_quadrant" not in after.columns
    null = score(bank, student, teacher, tmp_path / "null.parquet", *flags)
    assert {gain: null[gain].abs().max() for gain in ("G_KLf", "G_KLr", "G_JSD", "G_Hs")} == dict.fromkeys(
        ("G_KLf", "G_KLr", "G_JSD", "G_Hs"), 0.0
    )


def test_a_second_checkpoint_does_not_run_the_teacher_again(bank, student, trained, tmp_path):
    """Proved by taking the teacher's weights away: only its fingerprint may still be read."""
    teacher = save_model(tmp_path / "teacher", seed=5)
    score(bank, student, teacher, tmp_path / "a.parquet", "--topk", "4")
    first = score(bank, trained, teacher, tmp_path / "b.parquet", "--topk", "4")
    cached = list((tmp_path / "bank.parquet.teacher").glob("*/hidden_*.safetensors"))
    assert len(cached) == 1
    stamp = cached[0].stat().st_mtime_ns
    second = score(bank, trained, teacher, tmp_path / "c.parquet", "--topk", "4")
    assert cached[0].stat().st_mtime_ns == stamp and second.equals(first)
    save_model(tmp_path / "teacher", seed=6)
    changed = score(bank, trained, teacher, tmp_path / "d.parquet", "--topk", "4")
    assert not np.allclose(changed["KLf"], first["KLf"])


def test_bfloat16_models_are_scored_as_they_compute(tmp_path):
    """Against the model's own logits, which are rounded to 8 bits: a batch may round to the neighbour."""
    models = [save_model(tmp_path / str(seed), seed, dtype="bfloat16") for seed in (1, 2)]
    bank = save_bank(tmp_path / "bank.parquet", samples())
    frame = score(bank, *models, tmp_path / "m.parquet", "--topk", "4")
    assert read_metadata(tmp_path / "m.parquet")["dtype"] == {"student": "bfloat16", "teacher": "bfloat16"}
    rows = expected_rows(bank, *models, (4,))
    for name in ("Hs", "Ht", "KLf", "KLr", "student_logp_sampled"):
        expected = [rows[key][name] for key in zip(frame["context_id"], frame["tok_pos"], strict=True)]
        error = np.abs(frame[name].to_numpy() - expected)
        assert error.max() < 0.15 and error.mean() < 0.02, name
    whole = score(bank, *models, tmp_path / "f.parquet", "--topk", "4", "--dtype", "float32")
    assert 0 < np.abs(whole["KLf"].to_numpy() - frame["KLf"].to_numpy()).max() < 0.15


def test_a_masked_file_has_scores_and_no_axes(student, teacher, tmp_path):
    bank = save_bank(tmp_path / "bank.parquet", masked(samples(4)))
    frame = score(bank, student, teacher, tmp_path / "m.parquet", "--topk", "4")
    assert frame["KLf"].null_count() == 0
    assert frame["H_norm"].null_count() == frame["quadrant"].null_count() == len(frame)


def test_a_cut_response_keeps_its_whole_length_and_position(bank, student, teacher, tmp_path):
    whole = score(bank, student, teacher, tmp_path / "w.parquet", "--topk", "4")
    cut = score(bank, student, teacher, tmp_path / "c.parquet", "--topk", "4", "--max-response-tokens", "3")
    same = whole.filter(pl.col("tok_pos") < 3)
    assert cut.select("context_id", "tok_pos", "pos_norm", "resp_len").equals(
        same.select("context_id", "tok_pos", "pos_norm", "resp_len")
    )
    np.testing.assert_allclose(cut["KLf"], same["KLf"], rtol=1e-4, atol=1e-5)


def test_the_first_contexts_can_be_scored_alone(bank, student, teacher, tmp_path):
    frame = score(bank, student, teacher, tmp_path / "m.parquet", "--topk", "4", "--max-samples", "2")
    assert (
        frame["context_id"].unique(maintain_order=True).to_list() == read_context_bank(bank)["context_id"][:2].to_list()
    )


@pytest.mark.parametrize("name", ["KLf", "Hs", "student_logp_sampled"])
def test_impossible_tokens_are_floored_not_infinite(name):
    """A logit of -inf, as a model with a banned token gives."""
    import torch
    from fixed_context.scoring_rows import dense_rows

    student, teacher = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))
    student[1, 4] = student[2, :11] = -math.inf
    columns, _ = dense_rows(student, teacher, torch.tensor([0, 4, 4]), 3)
    assert columns[name].isfinite().all()
    assert columns["Hs"][2].abs() < 1e-6 and columns["student_logp_sampled"][1] == -87


def test_a_soft_cap_and_a_scale_of_the_logits_are_applied(tmp_path):
    """Gemma and Cohere do more than their output layer; the models' own forward is the reference."""
    from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM

    from .tiny_pair import save_tokenizer

    sizes = {
        "vocab_size": STUDENT_VOCABULARY, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64,
    }  # fmt: skip
    made = {
        "gemma": Gemma2ForCausalLM(Gemma2Config(**sizes, head_dim=8, final_logit_softcapping=0.5)),
        "cohere": CohereForCausalLM(CohereConfig(**sizes, logit_scale=0.25)),
    }
    bank = save_bank(tmp_path / "bank.parquet", samples(3))
    for name, model in made.items():
        model.save_pretrained(tmp_path / name)
        save_tokenizer(tmp_path / name)
        frame = score(bank, tmp_path / name, tmp_path / name, tmp_path / f"{name}.parquet", "--topk", "4")
        context = read_context_bank(bank).row(1, named=True)
        tokens = [*context["prompt_tokens"], *context["response_tokens"]]
        own = logprobs(tmp_path / name, tokens, context["response_length"], STUDENT_VOCABULARY)
        found = frame.filter(pl.col("context_id") == context["context_id"])["Hs"]
        np.testing.assert_allclose(found, [-sum(math.exp(x) * x for x in row) for row in own], rtol=1e-4)


def test_the_metadata_says_what_was_scored(scored, student, teacher):
    told = read_metadata(scored[1])
    assert (told["student"], told["teacher"], told["vocabulary"]) == (str(student), str(teacher), STUDENT_VOCABULARY)
    assert told["topk"] == K and told["extra_topk"] == list(MORE) and len(told["teacher_cache_key"]) == 16
    assert told["tokenizers"]["student"] == told["tokenizers"]["teacher"] is not None
    assert len(read_metrics(scored[1], columns=["KLf"]).columns) == 4
