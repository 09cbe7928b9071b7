"""slime's training entry: remembers what it was started with."""

STARTED = []


def train(args):
    STARTED.append(args)
