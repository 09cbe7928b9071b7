"""The one table of the launchers' variables: name, default, what it may be, what it means.

The settings, pair files, `run_plan variables` and every check read it. OPD_* variables are added by opd_variables from
the fields of SlimeOptions. `free`: a begun run may go on with another value, because its numbers do not depend on it
(more than on anything else that orders a GPU's sums).
"""

from __future__ import annotations

from .kinds import Variable


def _row(group: str, name: str, default: str, kind: str, meaning: str, *, free: bool = False, **more) -> Variable:
    return Variable(name, group, default, kind, meaning, frozen=not free, **more)


def _suite(name: str, default: str, kind: str, meaning: str, **more) -> Variable:
    return _row("suite", name, default, kind, meaning, free=True, **more)


def _model(name: str, default: str, kind: str, meaning: str, **more) -> Variable:
    return _row("models and data", name, default, kind, meaning, **more)


def _recipe(name: str, default: str, kind: str, meaning: str, **more) -> Variable:
    return _row("recipe", name, default, kind, meaning, **more)


def _gpu(name: str, default: str, kind: str, meaning: str, **more) -> Variable:
    return _row("GPUs", name, default, kind, meaning, **more)


def _teacher(name: str, default: str, kind: str, meaning: str, **more) -> Variable:
    return _row("teacher", name, default, kind, meaning, free=more.pop("free", True), **more)


def _ray(name: str, default: str, kind: str, meaning: str, **more) -> Variable:
    return _row("Ray", name, default, kind, meaning, free=True, **more)


def _port(name: str, default: int, meaning: str) -> Variable:
    return _row("ports", name, str(default), "port", meaning, free=True, least=1024, most=65535)


def _after(name: str, default: str, kind: str, meaning: str, **more) -> Variable:
    return _row("scoring", name, default, kind, meaning, **more)


def _tool(name: str, default: str, kind: str, meaning: str, **more) -> Variable:
    return _row("commands", name, default, kind, meaning, **more)


DEFAULT_METHOD_LIST = "pure_opd:1.0:10 teachability:0.10:20 entropy:0.10:30 teachability_entropy:0.10:40 tip:0.10:50"

VARIABLES: tuple[Variable, ...] = (
    _suite(
        "BACKEND",
        "slime",
        "choice",
        "`slime`, or `local`: the embedded engine on this machine's CPU",
        choices=("slime", "local"),
    ),
    _suite("PAIR", "", "text", "pair file with defaults: a name in configs/pairs, or a path"),
    _suite("METHOD_LIST", DEFAULT_METHOD_LIST, "methods", "runs, `method:ratio:index`; the index offsets every port"),
    _suite("RUN_LIST", "", "methods", "another name of METHOD_LIST"),
    _suite("SEED", "42", "integer", "seed of the runs", least=0, most=999_999_999),
    _suite("SEEDS", "", "seeds", "several seeds: every entry once with each", derived="SEED"),
    _suite("SEED_LABEL", "", "name", "end of a run's name, with one seed", derived="seed$SEED"),
    _suite("OUTPUT_ROOT", "out", "path", "folder of all suites"),
    _suite("TAG", "", "name", "folder of this suite in OUTPUT_ROOT", derived="PAIR's name, or ta_opd"),
    _suite("LOG_DIR", "", "path", "logs go to LOG_DIR/TAG/run", derived="logs/ of the run"),
    _suite("DRY_RUN", "0", "switch", "print every command, run and write nothing"),
    _suite("STOP_ON_FAILURE", "0", "switch", "end the suite at the first failed run"),
    _model("SLIME_DIR", "", "path", "slime checkout with the patch applied", derived="needed"),
    _model("MEGATRON_LM_DIR", "", "path", "Megatron-LM checkout", derived="the installed one"),
    _model(
        "MODELS_DIR",
        "",
        "path",
        "folder of models: a relative model that is found there, whole or by its last part, is taken from there",
        free=True,
    ),
    _model("TEACHER_MODEL", "", "text", "teacher, Hugging Face folder or name", derived="needed without TEACHER_URL"),
    _model("STUDENT_HF", "", "text", "student, Hugging Face folder or name", derived="needed"),
    _model(
        "STUDENT_TORCH_DIST",
        "",
        "text",
        "student as Megatron's torch_dist checkpoint",
        derived="MODELS_DIR/`<student>`_torch_dist",
    ),
    _model(
        "STUDENT_MODEL_SCRIPT",
        "",
        "text",
        "slime's model arguments: a name in scripts/models, or a path",
        derived="needed",
    ),
    _model("PROMPT_DATA", "", "path", "prompts, JSONL or Parquet", derived="needed"),
    _model("INPUT_KEY", "", "text", "key of the prompt", derived="prompt; BACKEND=local finds it"),
    _model("LABEL_KEY", "", "text", "key of the label", derived="none"),
    _model("APPLY_CHAT_TEMPLATE", "1", "switch", "render prompts with the student's chat template"),
    _recipe("NUM_ROLLOUT", "50", "integer", "rollouts of a run; may be raised until its training has ended", least=1),
    _recipe("ROLLOUT_BATCH_SIZE", "4", "integer", "prompts a rollout", least=1),
    _recipe("N_SAMPLES_PER_PROMPT", "2", "integer", "responses a prompt", least=1),
    _recipe("GLOBAL_BATCH_SIZE", "8", "integer", "samples an optimizer step", least=1),
    _recipe(
        "MICRO_BATCH_SIZE", "1", "integer", "samples a micro-batch where MAX_TOKENS_PER_GPU is 0", least=1, free=True
    ),
    _recipe(
        "MAX_TOKENS_PER_GPU",
        "8192",
        "integer",
        "tokens a micro-batch and GPU; 0: micro-batches of MICRO_BATCH_SIZE",
        least=0,
        free=True,
    ),
    _recipe("ROLLOUT_MAX_PROMPT_LEN", "", "integer", "longer prompts are left out", least=1, derived="no limit"),
    _recipe("ROLLOUT_MAX_RESPONSE_LEN", "64", "integer", "longest response, tokens", least=1),
    _recipe("ROLLOUT_SEED", "", "integer", "seed of the rollouts", least=0, most=999_999_999, derived="SEED"),
    _recipe("LR", "1e-6", "number", "learning rate, constant", least=0),
    _recipe("OPD_KL_COEF", "1.0", "number", "slime's weight of sampled-token OPD", least=0),
    _recipe("SAVE_INTERVAL", "10", "integer", "rollouts between checkpoints", least=1, free=True),
    _recipe(
        "SAVE_DEBUG_ROLLOUT_DATA",
        "0",
        "text",
        "1: keep slime's rollouts in the run's debug_rollouts/; or a path with {rollout_id}",
        free=True,
    ),
    _recipe(
        "EVAL_INTERVAL",
        "0",
        "integer",
        "rollouts between slime's evaluations, 0: none; needs EVAL_PROMPT_DATA, and in EXTRA_ARGS --rm-type",
        least=0,
        free=True,
    ),
    _recipe("EVAL_PROMPT_DATA", "", "words", "slime's --eval-prompt-data, pairs: name path name path", free=True),
    _recipe("USE_WANDB", "0", "switch", "log to Weights & Biases", free=True),
    _recipe("WANDB_PROJECT", "ta-opd", "text", "its project", free=True),
    _recipe("WANDB_GROUP", "", "text", "its group", free=True, derived="TAG"),
    _recipe("EXTRA_ARGS", "", "words", "more words for train_opd.py, after all others"),
    _gpu("TEACHER_GPU", "0", "gpus", "GPUs of the teacher: TEACHER_TP for each replica, in order", free=True),
    _gpu("RAY_GPUS", "1,2", "gpu numbers", "GPUs of this machine that Ray sees, by number", free=True),
    _gpu("EVAL_GPUS", "", "gpus", "GPUs that score fixed contexts", free=True, derived="RAY_GPUS"),
    _gpu("ACTOR_NUM_NODES", "1", "integer", "machines that train", least=1),
    _gpu("ACTOR_NUM_GPUS_PER_NODE", "1", "integer", "GPUs that train, a machine", least=1),
    _gpu("ROLLOUT_NUM_GPUS", "1", "integer", "GPUs that sample; with COLOCATE all that train", least=1, free=True),
    _gpu("ROLLOUT_NUM_GPUS_PER_ENGINE", "1", "integer", "GPUs of one sampling engine", least=1, free=True),
    _gpu("COLOCATE", "0", "switch", "train and sample on the same GPUs, in turn", free=True),
    _gpu(
        "ROLLOUT_MEM_FRACTION",
        "0.5",
        "number",
        "SGLang's --mem-fraction-static for sampling",
        least=0.05,
        most=0.95,
        free=True,
    ),
    _gpu(
        "SGLANG_CUDA_GRAPH_MAX_BS",
        "",
        "integer",
        "largest batch that sampling captures as a CUDA graph; 0 leaves the flag out",
        least=0,
        free=True,
        derived="SGLang's choice",
    ),
    _gpu("TENSOR_PARALLEL", "1", "integer", "tensor parallel size of training", least=1),
    _gpu("PIPELINE_PARALLEL", "1", "integer", "pipeline parallel size", least=1),
    _gpu("CONTEXT_PARALLEL", "1", "integer", "context parallel size", least=1),
    _gpu("SEQUENCE_PARALLEL", "", "switch", "sequence parallelism", derived="1 if TENSOR_PARALLEL is above 1"),
    _gpu("RECOMPUTE", "full", "choice", "activation recomputation", choices=("full", "selective", "none"), free=True),
    _teacher(
        "TEACHER_URL",
        "",
        "urls",
        "running teachers, comma-separated; none is started. A begun run keeps it where TEACHER_MODEL is not set",
    ),
    _teacher("TEACHER_HOST", "127.0.0.1", "text", "address under which the trainer's machines reach the teacher"),
    _teacher(
        "TEACHER_REPLICAS", "1", "integer", "teacher servers; the ports of replica r are 500 r higher", least=1, most=64
    ),
    _teacher("TEACHER_TP", "1", "integer", "tensor parallel size of a teacher", least=1),
    _teacher(
        "TEACHER_MEM_FRACTION",
        "0.6",
        "number",
        "SGLang's --mem-fraction-static; scoring needs room for logits beside it",
        least=0.05,
        most=0.95,
    ),
    _teacher(
        "TEACHER_CONTEXT_LENGTH", "", "integer", "longest sample the teacher takes", least=1, derived="the model's"
    ),
    _teacher(
        "TEACHER_CUDA_GRAPH_MAX_BS",
        "8",
        "integer",
        "largest batch captured as a CUDA graph, a teacher generates nothing; 0 leaves the flag out, which some SGLang "
        "lack",
        least=0,
    ),
    _teacher("TEACHER_EXTRA_ARGS", "", "words", "more words for the teacher's server", free=False),
    _teacher("TEACHER_WAIT", "900", "integer", "seconds until a teacher must be healthy", least=1),
    _teacher("TEACHER_RESTARTS", "2", "integer", "times a teacher that dies is started again in a run", least=0),
    _ray(
        "RAY_ADDRESS",
        "",
        "text",
        "a running cluster's dashboard, http://HOST:PORT; none is started or stopped",
        derived="a cluster of our own",
    ),
    _ray("RAY_NODE_IP", "127.0.0.1", "text", "address of our Ray head; other machines join it there"),
    _ray("RAY_WORKER_WAIT", "600", "integer", "seconds until ACTOR_NUM_NODES machines must have joined", least=0),
    _ray(
        "WORKER_NUM_GPUS",
        "",
        "integer",
        "GPUs that each other machine gives to Ray; on a running cluster, GPUs of each machine",
        least=1,
        derived="ACTOR_NUM_GPUS_PER_NODE",
    ),
    _ray(
        "RAY_TEMP_DIR",
        "",
        "path",
        "Ray's files; short, since Ray puts sockets there",
        derived="in the temporary directory",
    ),
    _ray("TRAIN_TIMEOUT", "0", "integer", "seconds a training may take; 0: no limit", least=0),
    _ray("ALLOW_GLOBAL_RAY_STOP", "0", "switch", "allow `ray stop`, which ends every Ray of this user on this machine"),
    _port("TEACHER_PORT", 14141, "teacher's server"),
    _port("TEACHER_NCCL_PORT", 24141, "teacher's NCCL"),
    _port("RAY_PORT", 26379, "Ray head"),
    _port("RAY_DASHBOARD_PORT", 8365, "Ray's dashboard, where jobs are submitted"),
    _port("RAY_OBJECT_MANAGER_PORT", 29076, "Ray's object manager"),
    _port("RAY_NODE_MANAGER_PORT", 29077, "Ray's node manager"),
    _port("RAY_DASHBOARD_AGENT_LISTEN_PORT", 29078, "Ray's dashboard agent, HTTP"),
    _port("RAY_DASHBOARD_AGENT_GRPC_PORT", 29079, "Ray's dashboard agent, gRPC"),
    _port("RAY_METRICS_EXPORT_PORT", 29080, "Ray's metrics"),
    _after("SKIP_EVAL", "0", "switch", "leave the fixed contexts out", free=True),
    _after("COMMON_CONTEXT", "", "path", "fixed contexts that every run is scored on", derived="none are scored"),
    _after("BASELINE_METRICS", "", "path", "their scores before training", derived="computed with each run"),
    _after("SCORE_ARGS", "", "words", "more words for the scoring command, after all others", free=True),
    _tool("PYTHON", "python3", "text", "Python of slime and of these tools", free=True),
    _tool("DIAGNOSTICS_PYTHON", "", "text", "Python with `.[diagnostics]`, which scores", free=True, derived="PYTHON"),
    _tool("TRAIN_COMMAND", "", "words", "what trains", free=True, derived="$PYTHON train_opd.py"),
    _tool(
        "TEACHER_COMMAND", "", "words", "what serves the teacher", free=True, derived="$PYTHON -m sglang.launch_server"
    ),
    _tool("RAY_COMMAND", "ray", "words", "Ray's command", free=True),
    _tool("LOCAL_STEPS", "16", "integer", "steps of a run of the embedded engine", least=1),
    _tool("LOCAL_ARGS", "", "words", "more words for the embedded engine"),
)

PORTS = tuple(variable.name for variable in VARIABLES if variable.group == "ports")
REPLICATED_PORTS = ("TEACHER_PORT", "TEACHER_NCCL_PORT")
DEFAULT_SWEEP = {"METHODS": "pure_opd teachability entropy teachability_entropy tip random", "RATIOS": "0.05 0.10 0.20"}
"""What run_budget_sweep.sh reads beside SEEDS, and makes METHOD_LIST of."""
