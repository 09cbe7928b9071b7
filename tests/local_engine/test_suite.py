import pytest
from local_engine.suite import DEFAULT_METHODS, Method, Run, all_runs, parse_methods, parse_seeds
from ta_opd import SELECTORS


def test_entries_are_read_with_spaces_commas_ratios_and_indices():
    methods = parse_methods(" teachability:0.10 random:0.05, entropy:0.2:30\n tip ")
    assert [(method.name, method.ratio) for method in methods] == [
        ("teachability", 0.1),
        ("random", 0.05),
        ("entropy", 0.2),
        ("tip", 0.1),
    ]


def test_full_distillation_always_has_ratio_one():
    assert parse_methods("pure_opd:0.3:10") == [Method("pure_opd", "full", 1.0)]


def test_an_alias_becomes_the_canonical_name_and_its_mask():
    assert parse_methods("ta_softor:0.25") == [Method("teachability_entropy", "ca_softor", 0.25)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "METHODS is empty"),
        ("teachability:0", "outside (0, 1]"),
        ("teachability:1.5", "1.5 is outside (0, 1]"),
        ("teachability:nan", "outside (0, 1]"),
        ("teachability:abc", "'abc' is not a number in (0, 1]"),
        ("teachability:0.1:2:3", "is not method:ratio"),
        ("teachable:0.1", "unknown method 'teachable'; known: pure_opd, full"),
        ("dlearn:0.1 teachability:0.10", "twice"),
    ],
)
def test_a_bad_entry_is_named_with_what_is_allowed(text, says):
    with pytest.raises(ValueError) as error:
        parse_methods(text)
    assert says in str(error.value)
    assert "METHODS" in str(error.value)
    assert "\n" not in str(error.value)


def test_labels_keep_every_digit_of_the_ratio():
    assert [Method("tip", "tip", ratio).label for ratio in (0.1, 0.25, 0.005, 1.0)] == [
        "tip:0.10",
        "tip:0.25",
        "tip:0.005",
        "tip:1.00",
    ]


def test_seeds_are_whole_numbers_given_once():
    assert parse_seeds("0 7,3") == [0, 7, 3]
    for bad in ("", "1.5", "-1", "a", "1 1"):
        with pytest.raises(ValueError, match="SEEDS"):
            parse_seeds(bad)


def test_the_default_suite_holds_every_method_of_the_released_list_once():
    masks = [method.mask for method in parse_methods(DEFAULT_METHODS)]
    released = {"full", "dlearn_high", "entropy", "ca_softor", "split_budget_ca", "tip", "q3_highc", "q3"}
    assert released | {"divergence", "compatibility", "random"} <= set(masks) <= {s.mask for s in SELECTORS}
    assert len(masks) == len(set(masks))


def test_runs_go_seed_by_seed_and_have_directories_of_their_own():
    runs = all_runs(parse_methods("tip:0.1 tip:0.2"), [0, 1])
    assert [run.seed for run in runs] == [0, 0, 1, 1]
    assert len({run.directory for run in runs}) == 4
    assert Run(Method("tip", "tip", 0.1), 3).directory == "tip-0.10-seed3"
