"""Token banks as ta_opd writes them, small, for the tools that read them."""

import json

import pyarrow.parquet as pq
from ta_opd import Options
from ta_opd.token_bank.bank import write_rollout
from ta_opd.token_bank.columns import token_columns

from ..ta_opd.rollouts import options, scored


def write_bank(directory, rollouts=(0, 1), lengths=(3, 0, 5), seed=0, **values) -> Options:
    """A rollout of the given lengths for every id, each with other numbers; returns the options."""
    o = options(**values)
    for rollout_id in rollouts:
        rollout, scores, selection = scored(o, lengths, rollout_id, seed=1000 * seed + rollout_id)
        write_rollout(directory, rollout_id, token_columns(rollout, scores, selection, o), o)
    return o


def write_run(suite, name, **values):
    """A run directory with a token bank; returns the bank."""
    write_bank(suite / "runs" / name / "token_bank", **values)
    return suite / "runs" / name / "token_bank"


def rows_of(path):
    return pq.read_table(path).to_pylist()


def edit_json(path, change):
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
