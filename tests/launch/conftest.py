"""Places for suites: each with its own paths, orders and ports."""

import socket
import subprocess
import sys

import pytest

from ..ta_opd.rollouts import options, table
from .suite import MODEL_SCRIPT, REPO, Suite
from .warm_python import SHIM

PORT_NAMES = (
    *("TEACHER_PORT", "TEACHER_NCCL_PORT", "RAY_PORT", "RAY_DASHBOARD_PORT", "RAY_OBJECT_MANAGER_PORT"),
    *("RAY_NODE_MANAGER_PORT", "RAY_DASHBOARD_AGENT_LISTEN_PORT", "RAY_DASHBOARD_AGENT_GRPC_PORT"),
    "RAY_METRICS_EXPORT_PORT",
)
UPSTREAM = {
    "train.py": "import slime\n",
    "slime/__init__.py": "",
    "slime/rollout/on_policy_distillation.py": "def reward_func(args, sample):\n    return 0\n",
    "slime/utils/misc.py": "def load_function(path): ...\n",
    **{f"scripts/models/{name}.sh": MODEL_SCRIPT for name in ("qwen3-1.7B", "qwen3-4B", "qwen2.5-3B")},
}


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("""it's a "place" """.strip())


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory):
    """The path of a Python that starts at once."""
    folder = tmp_path_factory.mktemp("python")
    address = str(folder / "socket")
    server = subprocess.Popen(
        [sys.executable, str(REPO / "tests/launch/warm_python.py"), "serve", address], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout.readline() == b"ready\n"
        shim = folder / "python"
        shim.write_text(SHIM.format(python=sys.executable, address=address, tools=f"{REPO}/tools/"))
        shim.chmod(0o755)
        yield shim
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="session")
def slime(work):
    """A checkout that holds the patch; what the stand-ins replace is not in it."""
    root = work / "slime"
    for name, text in UPSTREAM.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    install = [sys.executable, str(REPO / "tools/install_patch.py"), "apply", "--force", "--slime-dir", str(root)]
    subprocess.run(install, check=True, capture_output=True)
    return root


@pytest.fixture(scope="session")
def bank(work):
    """Rollouts of a real token bank, for the training's stand-in to leave behind."""
    from ta_opd.token_bank.bank import write_rollout

    directory, settings = work / "bank", options()
    for rollout in range(6):
        write_rollout(directory, rollout, [table(settings, rollout_id=rollout)[0]], settings)
    return directory


@pytest.fixture(scope="session")
def port_blocks():
    """Blocks of 40 ports that nobody listens on, below those the system gives away."""
    return iter(range(20000, 32000, 40))


def is_free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def ports(port_blocks):
    """Nine bases four apart, so that indices 0 to 3 make other ports of each. The block's first port is held, so that
    tests that run at the same time take other blocks."""
    for block in port_blocks:
        with socket.socket() as claim:
            try:
                claim.bind(("127.0.0.1", block))
            except OSError:
                continue
            if all(is_free(port) for port in range(block + 1, block + 40)):
                yield {name: str(block + 1 + 4 * place) for place, name in enumerate(PORT_NAMES)}
                return
    raise AssertionError("no free block of ports")


@pytest.fixture
def suite(tmp_path, slime, bank, warm_python, ports):
    made = Suite(tmp_path / """it's "here" now""", slime, bank, warm_python, ports)
    yield made
    left = made.alive()
    made.kill_all()
    assert not left, f"left running: {left}"
