"""In the place of `python -m sglang.launch_server`. Orders: teacher_fails, teacher_silent (counts), teacher_dies
(answers that it gives before it dies; a count of lives in teacher_deaths)."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from http_program import serve
from journal import begin, note, take, told


def main():
    given = begin("teacher")
    if take("teacher_fails"):
        sys.exit("CUDA out of memory, says the stand-in")
    silent = take("teacher_silent")
    mortal = take("teacher_deaths")
    answers = 0

    def health(rest, body):
        return None if silent else {}

    def generate(rest, body):
        nonlocal answers
        answers += 1
        if mortal and answers > int(told("teacher_dies") or 0):
            note("teacher dies")
            os._exit(9)
        return {"meta_info": {}}

    serve(int(given["--port"]), {("GET", "health_generate"): health, ("POST", "generate"): generate})


main()
