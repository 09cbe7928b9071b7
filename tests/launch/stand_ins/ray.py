"""In the place of Ray's command: start --head --block, job submit|status|stop.

As with Ray, jobs are children of the head in sessions of their own, and the submitting client only shows their log.
Orders: ray_fails (count), submit_loses_contact (count: the client ends with 1 while the job goes on), machines."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from http_program import serve
from journal import HOME, begin, flags, note, take, told

JOBS, STOPPED = {}, set()


def start(given):
    if take("ray_fails"):
        sys.exit("Ray does not start, says the stand-in")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

    def submit(job, body):
        environment = os.environ | body["env"]
        with (HOME / f"{job}.log").open("ab") as log:
            # shell=True, as Ray runs an entrypoint
            JOBS[job] = subprocess.Popen(
                body["entrypoint"], shell=True, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        return {}

    def status(job, body):
        if job not in JOBS:
            return None
        code = JOBS[job].poll()
        log = (HOME / f"{job}.log").read_text()
        state = "RUNNING" if code is None else "STOPPED" if job in STOPPED else "FAILED" if code else "SUCCEEDED"
        return {"state": state, "log": log}

    def stop(job, body):
        STOPPED.add(job)
        os.killpg(JOBS[job].pid, signal.SIGTERM)
        return {}

    serve(
        int(given["--dashboard-port"]),
        {
            ("GET", "api"): lambda *_: {"nodes": [{"state": "ALIVE"}] * int(told("machines") or 1)},
            ("POST", "submit"): submit,
            ("GET", "status"): status,
            ("POST", "stop"): stop,
        },
    )


def ask(given, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{given['--address']}/{path}", data)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return json.load(answer)


def job(verb, given):
    if verb == "submit":
        words = sys.argv[sys.argv.index("--") + 1 :]
        name = given["--submission-id"]
        environment = json.loads(given["--runtime-env-json"])["env_vars"]
        ask(given, f"submit/{name}", {"entrypoint": shlex.join(words), "env": environment})
        if take("submit_loses_contact"):
            sys.exit(1)
        while (now := ask(given, f"status/{name}"))["state"] == "RUNNING":
            time.sleep(0.05)
        print(now["log"])
        sys.exit(now["state"] != "SUCCEEDED")
    name = sys.argv[-1]
    if verb == "stop":
        ask(given, f"stop/{name}", {})
        return
    state = ask(given, f"status/{name}")["state"]
    said = {"SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "was stopped"}
    print(f"Job '{name}' {said[state]}" if state in said else f"Status for job '{name}': {state}")


def main():
    given = begin("ray")
    verb = sys.argv[1]
    if verb == "start":
        start(given)
    elif verb == "job":
        job(sys.argv[2], flags(sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv))
    else:
        note(f"ray {verb}")


try:
    main()
except urllib.error.URLError as error:
    sys.exit(str(error))
