"""A group of two tiny tasks for the real harness: questions in local files, two filters as GSM8K has."""

import json

GROUP = "tiny_group"
QUESTIONS = {"tiny_sums": ["7", "lol", "lol"], "tiny_more_sums": ["8", "9"]}  # the harness's dummy model says "lol"


def write_tasks(folder):
    """The YAML files and their questions; JSON is YAML."""
    for name, answers in QUESTIONS.items():
        rows = [{"question": f"{number}+1=", "answer": answer} for number, answer in enumerate(answers)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
            "output_type": "generate_until",
            "test_split": "test",
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{answer}}",
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 4},
            "filter_list": [
                {"name": "strict-match", "filter": [{"function": "take_first"}]},
                {
                    "name": "flexible-extract",
                    "filter": [{"function": "regex", "regex_pattern": "(l)ol"}, {"function": "take_first"}],
                },
            ],
            "num_fewshot": 0,
            "metadata": {"version": 1.0},
        }
        (folder / f"{name}.yaml").write_text(json.dumps(task), encoding="utf-8")
    metric = {"metric": "exact_match", "aggregation": "mean", "weight_by_size": True}
    metric["filter_list"] = ["strict-match", "flexible-extract"]
    group = {"group": GROUP, "task": list(QUESTIONS), "aggregate_metric_list": [metric], "metadata": {"version": 2.0}}
    (folder / f"{GROUP}.yaml").write_text(json.dumps(group), encoding="utf-8")
