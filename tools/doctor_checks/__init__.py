"""What `tools/doctor.py` looks at before GPU-hours are spent.

settings      what is checked: flags, a planned run's settings file, the launchers' variables
result, table a finding, and how it is shown
groups        the table of checks

versions      installed packages and Megatron against ../supported_versions.json
patch         the slime checkout and the patch in it
gpus, ports, disk
paths         checkpoints and directories; model_files reads a Hugging Face directory
prompts       the prompt file
tokenizers    teacher against student: ids, special tokens, templates, vocabulary sizes
servers       the teacher's servers. server_checks is the table; serving_checks: what a server is and offers;
              score_checks: what its log-probs are worth. teacher_session asks, scoring judges, throughput measures

Without --servers the standard library is enough: a package that is missing is a finding.
"""
