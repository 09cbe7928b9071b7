"""slime's trackers: remembers what was logged."""

LOGGED = []


def log(args, metrics, step_key):
    LOGGED.append((dict(metrics), step_key))
