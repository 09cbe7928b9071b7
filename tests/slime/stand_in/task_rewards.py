"""Task rewards a user might name with --opd-task-reward."""


async def of_the_index(args, sample):
    return float(sample.index)


def length(args, sample):
    return sample.response_length


def mapping(args, sample):
    return {"acc": 0.25, "format": 1.0}


def failing(args, sample):
    raise ZeroDivisionError("the task reward's own mistake")
