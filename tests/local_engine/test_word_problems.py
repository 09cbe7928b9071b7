import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from local_engine.word_problems import TEMPLATES, generate_problems

SUM = re.compile(r"(\d+) ([+*/-]) (\d+) = <<(\d+)([+*/-])(\d+)=(\d+)>>(\d+)")


@pytest.fixture(scope="module")
def problems():
    return generate_problems(3000, seed=0)


def evaluate(a, sign, b):
    if sign == "/":
        assert a % b == 0
        return a // b
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def test_every_sum_is_right_and_the_last_one_is_the_answer(problems):
    for problem in problems:
        *steps, last = problem.solution.split("\n")
        assert 1 <= len(steps) <= 3
        for step in steps:
            (a, sign, b, *inner, result) = SUM.search(step).groups()
            assert inner == [a, sign, b, result]
            assert evaluate(int(a), sign, int(b)) == int(result) >= 0
        assert last == f"#### {result}"


def test_all_quantities_come_from_the_question_or_an_earlier_step(problems):
    for problem in problems:
        known = set(re.findall(r"\d+", problem.prompt)) | ({"2"} if "half" in problem.prompt else set())
        for a, _, b, *_, result in SUM.findall(problem.solution):
            assert {a, b} <= known, problem
            known.add(result)


def test_problems_are_varied(problems):
    assert len(TEMPLATES) >= 10
    assert len({problem.prompt for problem in problems}) > 0.97 * len(problems)
    wordings = Counter(re.sub(r"\d+|[A-Z]\w+", "_", problem.prompt) for problem in problems)
    assert len(wordings) > 100 and max(wordings.values()) < 0.15 * len(problems)
    steps = Counter(problem.solution.count("\n") for problem in problems)
    assert min(steps[1], steps[2], steps[3]) > 0.1 * len(problems)


def test_seed_decides_and_a_larger_count_continues_the_list(problems):
    assert generate_problems(50, seed=0) == problems[:50]
    assert generate_problems(50, seed=1) != problems[:50]


def test_problems_do_not_depend_on_hash_randomisation():
    code = "from local_engine.word_problems import generate_problems as g; print(g(20, seed=3))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{generate_problems(20, seed=3)}\n"}


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match=">= 1, got 0"):
        generate_problems(0, seed=0)
