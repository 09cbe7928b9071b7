"""The plan behind the launchers: variables, METHOD_LIST and configs in; checked settings of each run out.

    python -m run_plan prepare --suite-dir DIR    check everything, write the suite's and each run's settings
    python -m run_plan estimate RUN_DIR           GPUs, ports, tokens, memory, teacher traffic, files
    python -m run_plan check FILE...              method YAMLs and pair files against the same table
    python -m run_plan variables                  the table of variables

variables (the table) -> environment (defaults < pair file < environment) -> plan (checks, one Run an entry and seed)
-> plan_files. Nothing here starts a process or touches a GPU.
"""
