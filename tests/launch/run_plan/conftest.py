import pytest
from run_plan.plan import plan_suite

QWEN3_1_7B = """MODEL_ARGS=(
   --swiglu
   --num-layers 28  # a comment
   --hidden-size 2048
   --ffn-hidden-size 6144
   --num-attention-heads 16
   --group-query-attention
   --num-query-groups 8
   --use-rotary-position-embeddings
   --disable-bias-linear
   --normalization "RMSNorm"
   --norm-epsilon 1e-6
   --rotary-base "${MODEL_ARGS_ROTARY_BASE:-1000000}"
   --vocab-size 151936
   --kv-channels 128
   --qk-layernorm
)"""
QWEN3_4B = (
    QWEN3_1_7B.replace("layers 28", "layers 36")
    .replace("hidden-size 2048", "hidden-size 2560")
    .replace("6144", "9728")
    .replace("heads 16", "heads 32")
)


@pytest.fixture
def slime_dir(tmp_path):
    """What `prepare` looks for in a checkout."""
    scripts = tmp_path / "slime" / "scripts" / "models"
    scripts.mkdir(parents=True)
    (scripts / "qwen3-1.7B.sh").write_text(QWEN3_1_7B, encoding="utf-8")
    (scripts / "qwen3-4B.sh").write_text(QWEN3_4B, encoding="utf-8")
    for name in ("train.py", "train_opd.py"):
        (tmp_path / "slime" / name).touch()
    return tmp_path / "slime"


@pytest.fixture
def environment(tmp_path, slime_dir):
    """Settings of a suite that can run: two methods of the smallest pair."""
    (tmp_path / "models" / "Qwen3-1.7B_torch_dist").mkdir(parents=True)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "1 + 1?"}\n', encoding="utf-8")
    return {
        "PAIR": "qwen3_4b_to_1.7b",
        "MODELS_DIR": str(tmp_path / "models"),
        "SLIME_DIR": str(slime_dir),
        "PROMPT_DATA": str(tmp_path / "prompts.jsonl"),
        "METHOD_LIST": "teachability:0.1:20 pure_opd:0.5",
        "OUTPUT_ROOT": str(tmp_path / "out"),
        "TAG": "suite",
        "PATH": "/usr/bin:/bin",
    }


@pytest.fixture
def refused(environment):
    """refused(NAME=value, ...): the message with which these settings are refused."""

    def message(**more):
        with pytest.raises(ValueError) as error:
            plan_suite(environment | more)
        assert "\n" not in str(error.value)
        return str(error.value)

    return message


@pytest.fixture
def planned(environment):
    """planned(NAME=value, ...): the suite of these settings."""
    return lambda **more: plan_suite(environment | more)
