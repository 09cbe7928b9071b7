"""Arithmetic word problems with worked solutions, for when no data set is at hand.

Solutions follow GSM8K's form: one step per line, each sum as <<a+b=c>>c, then "#### answer".
"""

import random
from collections.abc import Callable

from .prompts import Problem

# fmt: off
NAMES = (
    "Amara", "Ben", "Chiara", "Dmitri", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jamal", "Keiko", "Liam",
    "Mei", "Nadia", "Oscar", "Priya", "Quinn", "Rosa", "Samir", "Tara", "Uma", "Viktor", "Wanda", "Yusuf", "Zoe",
)
GOODS = (
    "apples", "pencils", "stickers", "marbles", "cookies", "buttons",
    "shells", "stamps", "candles", "postcards", "ribbons", "lemons",
)
# fmt: on
GROUND = ("garden", "field", "orchard", "park", "meadow")
CONTAINERS = ("boxes", "bags", "baskets", "crates", "jars")
SHOPS = ("market", "corner shop", "school fair", "bakery", "flea market", "museum shop")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")

Worked = tuple[str, list[str], int]


def generate_problems(count: int, seed: int) -> list[Problem]:
    """`count` problems, a pure function of (count, seed); a larger count continues the same list.

    All quantities are non-negative integers. Raises ValueError when count < 1.
    """
    if count < 1:
        raise ValueError(f"the number of generated problems must be >= 1, got {count}")
    rng = random.Random(seed)
    problems = []
    for _ in range(count):
        question, steps, answer = rng.choice(TEMPLATES)(rng)
        problems.append(Problem(question, "\n".join([*steps, f"#### {answer}"])))
    return problems


def _sum(expression: str, value: int) -> str:
    return f"{expression} = <<{expression.replace(' ', '')}={value}>>{value}"


def _bought_more(rng: random.Random) -> Worked:
    name, goods, shop = rng.choice(NAMES), rng.choice(GOODS), rng.choice(SHOPS)
    have, more = rng.randint(3, 60), rng.randint(2, 40)
    return (
        f"{name} has {have} {goods}. At the {shop}, {name} gets {more} more. How many {goods} does {name} have now?",
        [f"{name} has {_sum(f'{have} + {more}', have + more)} {goods}."],
        have + more,
    )


def _gave_away(rng: random.Random) -> Worked:
    giver, friend = rng.sample(NAMES, 2)
    goods, given, kept = rng.choice(GOODS), rng.randint(2, 30), rng.randint(0, 40)
    have = given + kept
    return (
        f"{giver} had {have} {goods} and gave {given} of them to {friend}. How many {goods} are left for {giver}?",
        [f"{giver} has {_sum(f'{have} - {given}', kept)} {goods} left."],
        kept,
    )


def _containers(rng: random.Random) -> Worked:
    name, goods, box = rng.choice(NAMES), rng.choice(GOODS), rng.choice(CONTAINERS)
    boxes, each = rng.randint(2, 12), rng.randint(2, 12)
    return (
        f"There are {boxes} {box} with {each} {goods} in each. How many {goods} does {name} count in all?",
        [f"{name} counts {_sum(f'{boxes} * {each}', boxes * each)} {goods}."],
        boxes * each,
    )


def _shared(rng: random.Random) -> Worked:
    name, goods = rng.choice(NAMES), rng.choice(GOODS)
    friends, each = rng.randint(2, 9), rng.randint(2, 12)
    total = friends * each
    return (
        f"{name} shares {total} {goods} equally among {friends} friends. How many {goods} does each friend get?",
        [f"Each friend gets {_sum(f'{total} / {friends}', each)} {goods}."],
        each,
    )


def _change(rng: random.Random) -> Worked:
    name, goods, shop = rng.choice(NAMES), rng.choice(GOODS), rng.choice(SHOPS)
    price, number = rng.randint(2, 9), rng.randint(2, 10)
    cost = price * number
    paid = cost + rng.randint(0, 30)
    return (
        f"At the {shop}, {name} buys {number} {goods} that cost ${price} each and pays with ${paid}. "
        f"How many dollars does {name} get back?",
        [
            f"The {goods} cost {_sum(f'{number} * {price}', cost)} dollars.",
            f"{name} gets back {_sum(f'{paid} - {cost}', paid - cost)} dollars.",
        ],
        paid - cost,
    )


def _twice_as_many(rng: random.Random) -> Worked:
    first, second = rng.sample(NAMES, 2)
    goods, times, base = rng.choice(GOODS), rng.randint(2, 5), rng.randint(3, 25)
    other = times * base
    return (
        f"{first} collected {base} {goods}. {second} collected {times} times as many. "
        f"How many {goods} did they collect together?",
        [
            f"{second} collected {_sum(f'{times} * {base}', other)} {goods}.",
            f"Together they collected {_sum(f'{base} + {other}', base + other)} {goods}.",
        ],
        base + other,
    )


def _reading(rng: random.Random) -> Worked:
    name = rng.choice(NAMES)
    first, second = rng.sample(DAYS, 2)
    a, b, rest = rng.randint(5, 40), rng.randint(5, 40), rng.randint(5, 90)
    total = a + b + rest
    return (
        f"{name} is reading a book of {total} pages. "
        f"{name} read {a} pages on {first} and {b} pages on {second}. How many pages are left to read?",
        [
            f"{name} has read {_sum(f'{a} + {b}', a + b)} pages.",
            f"There are {_sum(f'{total} - {a + b}', rest)} pages left.",
        ],
        rest,
    )


def _wages(rng: random.Random) -> Worked:
    name = rng.choice(NAMES)
    wage, hours, days, spent = rng.randint(8, 20), rng.randint(2, 8), rng.randint(2, 5), rng.randint(1, 30)
    daily = wage * hours
    earned = daily * days
    return (
        f"{name} earns ${wage} an hour and works {hours} hours a day for {days} days. "
        f"{name} then spends ${spent} on a gift. How many dollars are left?",
        [
            f"In a day {name} earns {_sum(f'{wage} * {hours}', daily)} dollars.",
            f"In {days} days {name} earns {_sum(f'{daily} * {days}', earned)} dollars.",
            f"After the gift {name} has {_sum(f'{earned} - {spent}', earned - spent)} dollars.",
        ],
        earned - spent,
    )


def _rows_of_trees(rng: random.Random) -> Worked:
    place, kind = rng.choice(GROUND), rng.choice(("apple trees", "rose bushes", "pines", "vines"))
    rows, each = rng.randint(3, 12), rng.randint(3, 12)
    planted = rows * each
    lost = rng.randint(0, planted // 3)
    return (
        f"A {place} has {rows} rows of {each} {kind}. A storm takes {lost} of them. How many {kind} still stand?",
        [
            f"The {place} had {_sum(f'{rows} * {each}', planted)} {kind}.",
            f"After the storm {_sum(f'{planted} - {lost}', planted - lost)} {kind} still stand.",
        ],
        planted - lost,
    )


def _half_sold(rng: random.Random) -> Worked:
    name, goods, shop = rng.choice(NAMES), rng.choice(GOODS), rng.choice(SHOPS)
    half, price = rng.randint(4, 30), rng.randint(2, 6)
    total = 2 * half
    return (
        f"{name} brings {total} {goods} to the {shop} and sells half of them for ${price} each. "
        f"How many dollars does {name} earn?",
        [
            f"{name} sells {_sum(f'{total} / 2', half)} {goods}.",
            f"{name} earns {_sum(f'{half} * {price}', half * price)} dollars.",
        ],
        half * price,
    )


def _journey(rng: random.Random) -> Worked:
    name, vehicle = rng.choice(NAMES), rng.choice(("bicycle", "bus", "train", "boat"))
    speed, hours, extra = rng.randint(8, 40), rng.randint(2, 6), rng.randint(1, 15)
    ridden = speed * hours
    return (
        f"{name} travels by {vehicle} for {hours} hours at {speed} km per hour and then walks {extra} km. "
        f"How far does {name} go, in km?",
        [
            f"By {vehicle} {name} goes {_sum(f'{speed} * {hours}', ridden)} km.",
            f"With the walk that is {_sum(f'{ridden} + {extra}', ridden + extra)} km.",
        ],
        ridden + extra,
    )


def _ages(rng: random.Random) -> Worked:
    younger, older = rng.sample(NAMES, 2)
    age, gap, years = rng.randint(3, 30), rng.randint(1, 20), rng.randint(2, 15)
    return (
        f"{younger} is {age} years old. {older} is {gap} years older. How old will {older} be in {years} years?",
        [
            f"{older} is {_sum(f'{age} + {gap}', age + gap)} years old now.",
            f"In {years} years {older} will be {_sum(f'{age + gap} + {years}', age + gap + years)}.",
        ],
        age + gap + years,
    )


def _packing(rng: random.Random) -> Worked:
    first, second = rng.sample(NAMES, 2)
    goods, box = rng.choice(GOODS), rng.choice(CONTAINERS)
    size, filled = rng.randint(2, 9), rng.randint(3, 12)
    total = size * filled
    a = rng.randint(1, total - 1)
    return (
        f"{first} made {a} {goods} and {second} made {total - a}. They put {size} in each of their {box}. "
        f"How many {box} do they fill?",
        [
            f"Together they made {_sum(f'{a} + {total - a}', total)} {goods}.",
            f"They fill {_sum(f'{total} / {size}', filled)} {box}.",
        ],
        filled,
    )


def _saving(rng: random.Random) -> Worked:
    name, wish = (
        rng.choice(NAMES),
        rng.choice(("kite", "lamp", "football", "guitar", "telescope", "backpack")),
    )
    weekly, weeks, missing = rng.randint(3, 15), rng.randint(3, 9), rng.randint(1, 40)
    saved = weekly * weeks
    gift = rng.randint(1, 20)
    price = saved + gift + missing
    return (
        f"{name} wants a {wish} for ${price}. {name} saved ${weekly} a week for {weeks} weeks "
        f"and was given ${gift}. How many dollars are still missing?",
        [
            f"{name} saved {_sum(f'{weekly} * {weeks}', saved)} dollars.",
            f"With the gift that is {_sum(f'{saved} + {gift}', saved + gift)} dollars.",
            f"So {_sum(f'{price} - {saved + gift}', missing)} dollars are missing.",
        ],
        missing,
    )


TEMPLATES: tuple[Callable[[random.Random], Worked], ...] = (
    _bought_more,
    _gave_away,
    _containers,
    _shared,
    _change,
    _twice_as_many,
    _reading,
    _wages,
    _rows_of_trees,
    _half_sold,
    _journey,
    _ages,
    _packing,
    _saving,
)
