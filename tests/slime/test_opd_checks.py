"""What is refused before a run starts; teachers are small HTTP servers on this machine."""

import gc
import json
import logging
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from slime.rollout.tip_compat import slime_options
from slime.utils.opd_checks import check_settings, check_teachers, check_tier, fill_in_hooks
from slime.utils.opd_versions import PATHS, TRAINER_HOOKS
from slime.utils.processing_utils import load_tokenizer

from .rollouts import arguments

ROLLOUT_HOOKS = [name for name in PATHS if name not in TRAINER_HOOKS]


def check(**values):
    args = arguments(**values)
    check_settings(args, slime_options(args))


def old_slime(**values):
    args = arguments(**values)
    del args.custom_advantage_function_path
    return args


def test_the_paths_name_functions_that_are_there():
    from slime.utils.misc import load_function

    assert all(callable(load_function(path)) for path in PATHS.values())


def test_hooks_left_empty_are_filled_in_and_ours_stay():
    args = arguments(**dict.fromkeys(PATHS))
    args.custom_megatron_init_path = PATHS["custom_megatron_init_path"]
    fill_in_hooks(args)
    assert {name: getattr(args, name) for name in PATHS} == PATHS


def test_a_teacher_in_the_trainer_leaves_slimes_own_rewards():
    args = arguments(**dict.fromkeys(PATHS), opd_type="megatron")
    fill_in_hooks(args)
    assert all(getattr(args, name) is None for name in ROLLOUT_HOOKS)
    assert all(getattr(args, name) == PATHS[name] for name in TRAINER_HOOKS)


def test_a_slime_without_the_advantage_hook_gets_none_of_the_trainers():
    args = old_slime(**dict.fromkeys(PATHS))
    fill_in_hooks(args)
    assert args.rollout_data_postprocess_path is None and args.custom_megatron_init_path is None
    assert all(getattr(args, name) == PATHS[name] for name in ROLLOUT_HOOKS)


@pytest.mark.parametrize("name", [*TRAINER_HOOKS, "custom_reward_post_process_path", "custom_rm_path"])
def test_somebody_elses_hook_where_ours_is_needed_is_refused_with_its_flag(name):
    message = "--opd-task-reward" if name == "custom_rm_path" else "takes the place of slime.*which OPD needs"
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} mine.hook.*{message}"):
        fill_in_hooks(arguments(**{name: "mine.hook"}))


@pytest.mark.parametrize("name", ["custom_generate_function_path", "custom_rollout_log_function_path"])
def test_somebody_elses_hook_that_can_do_our_part_is_kept_and_told_what_to_call(name, caplog):
    args = arguments(**{name: "mine.hook"})
    with caplog.at_level(logging.WARNING):
        fill_in_hooks(args)
    assert getattr(args, name) == "mine.hook"
    assert f"--{name.replace('_', '-')} is mine.hook" in caplog.text
    assert "record_student_topk" in caplog.text or "remember_rollout" in caplog.text


def test_good_settings_pass():
    check()
    check(rollout_temperature=1.0, rollout_top_p=1, rollout_top_k=-1, loss_type="policy_loss", opd_kl_coef=0.0)
    check(opd_budget_mask="teachability", opd_budget_ratio=0.1, opd_task_reward="rm", rm_type="math")
    check(opd_type="megatron", rollout_temperature=0.7, opd_topk_metrics_k=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rollout_temperature": 0.99}, r"--rollout-temperature 0\.99 with an SGLang teacher: it must be 1\.0"),
        ({"rollout_top_p": 0.95}, r"--rollout-top-p 0\.95 with an SGLang teacher: it must be 1\.0"),
        ({"rollout_top_k": 50}, "--rollout-top-k 50 with an SGLang teacher: it must be -1"),
        ({"opd_kl_coef": -0.1}, r"--opd-kl-coef -0\.1 is outside 0 or more"),
        ({"opd_kl_coef": float("inf")}, "--opd-kl-coef inf is outside"),
        ({"opd_kl_coef": float("nan")}, "--opd-kl-coef nan is outside"),
        ({"opd_loss": "jsd"}, "--opd-loss jsd is not in this version's trainer"),
        ({"loss_type": "sft_loss"}, "--loss-type sft_loss: .* must be policy_loss"),
        ({"opd_task_reward": "rm"}, "--opd-task-reward rm needs --rm-type"),
        ({"opd_task_reward": "rm", "rm_type": " "}, "--opd-task-reward rm needs --rm-type"),
        ({"opd_token_bank_dir": "bank", "opd_topk_metrics_k": 0}, "--opd-token-bank-dir needs --opd-topk-metrics-k"),
        ({"opd_jsd_beta": 0.2}, r"--opd-jsd-beta 0\.2 does nothing with --opd-loss sampled_token"),
        (
            {"opd_type": "megatron", "opd_budget_mask": "teachability"},
            "--opd-budget-mask teachability with --opd-type megatron",
        ),
        ({"opd_type": "megatron", "opd_budget_mask": "random"}, "--opd-budget-mask random with --opd-type megatron"),
    ],
)
def test_a_setting_under_which_numbers_would_be_wrong_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check(**values)


def dataset(name, rm_type=None, path=None):
    return SimpleNamespace(name=name, rm_type=rm_type, custom_rm_path=path)


@pytest.mark.parametrize("path", [None, PATHS["custom_rm_path"]])
def test_evaluation_needs_a_judge_that_is_not_the_teacher(path):
    sets = [dataset("aime", path=path), dataset("gsm", "math", path), dataset("mine", path="mine.reward")]
    with pytest.raises(ValueError, match="evaluation of aime needs --rm-type"):
        check(eval_datasets=sets)
    check(eval_datasets=sets, rm_type="math")
    check(eval_datasets=sets[1:])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"--opd-mask-target opd needs slime v0\.3\.0"),
        ({"opd_mask_target": "loss", "opd_normaliser": "selected"}, "--opd-normaliser selected needs slime"),
        ({"opd_mask_target": "loss", "normalize_advantages": True}, "--normalize-advantages with OPD needs slime"),
    ],
)
def test_what_an_older_slime_cannot_do_is_refused(values, message):
    args = old_slime(**values)
    with pytest.raises(ValueError, match=message):
        check_settings(args, slime_options(args))


@pytest.mark.parametrize("values", [{}, {"opd_normaliser": "selected", "calculate_per_token_loss": True}])
def test_what_an_older_slime_can_do_passes(values):
    args = old_slime(opd_mask_target="loss", **values)
    check_tier(args, slime_options(args))


@contextmanager
def server(reply, status=200):
    """A teacher that answers every request by reply(its body); yields its URL and the bodies it was sent."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = reply(bodies[-1])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/generate", bodies
        finally:
            http.shutdown()
            thread.join()


def characters(body, before=(), shift=0):
    tokens = [*before, *(ord(c) + shift for c in body["text"])]
    return {"meta_info": {"input_token_logprobs": [(None if i == 0 else -1.0, t, None) for i, t in enumerate(tokens)]}}


def ask(*urls):
    args = arguments(opd_teacher_url=",".join(urls), hf_checkpoint="a/student")
    check_teachers(args, slime_options(args), load_tokenizer("a/student"))


@pytest.mark.parametrize("before", [(), (1,), (1, 2)])
def test_teachers_that_cut_text_as_the_student_does_pass_with_one_request_and_no_new_token(before, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with server(lambda b: characters(b, before)) as (first, bodies), server(characters) as (second, others):
        ask(first, second)
    assert len(bodies) == len(others) == 1
    assert bodies[0]["sampling_params"]["max_new_tokens"] == 0 and bodies[0]["logprob_start_len"] == 0
    assert bodies[0]["return_logprob"] is True


@pytest.mark.parametrize(
    "reply",
    [
        lambda b: characters(b, shift=1),
        lambda b: characters({"text": b["text"][:-1]}),
        lambda b: characters({"text": b["text"] + "x"}),
        lambda b: characters({"text": ""}),
    ],
    ids=["other ids", "shorter", "longer", "nothing"],
)
def test_a_teacher_with_another_tokenizer_is_refused_and_named(reply):
    with server(characters) as (good, _), server(reply) as (url, _), pytest.raises(ValueError) as refused:
        ask(good, url)
    assert f"the teacher at {url} does not share the student's tokenizer (a/student)" in str(refused.value)


@pytest.mark.parametrize(
    "reply", [b"<html>", [], {"meta_info": {}}, {"meta_info": None}, {"meta_info": {"input_token_logprobs": None}}]
)
def test_an_answer_of_no_sglang_server_is_refused(reply):
    with server(lambda _: reply) as (url, _), pytest.raises(ValueError, match="does not answer as an SGLang server"):
        ask(url)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_http_error_is_told_with_its_number(status):
    with server(lambda _: {}, status) as (url, _), pytest.raises(ValueError) as refused:
        ask(url)
    assert f"{url} answers HTTP {status}; --opd-teacher-url is its /generate" in str(refused.value)
    del refused
    gc.collect()  # an answer left open would warn here


def test_a_teacher_that_cannot_be_reached_is_refused():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/generate"
        with pytest.raises(ValueError, match=f"the teacher at {url} cannot be reached"):
            ask(url)


@pytest.mark.parametrize("url", ["teacher:1/generate", "no url", "/generate"])
def test_what_is_no_url_is_refused_with_it(url):
    with pytest.raises(ValueError, match=url):
        ask(url)
