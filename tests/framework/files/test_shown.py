from poise.files.shown import LONGEST, MOST, listed, quoted


def test_names_are_cut_and_stand_on_one_line() -> None:
    assert listed(["a", "b c"]) == "a, b c"
    assert listed([]) == "nothing"
    assert listed(["two\nlines"]) == "two\\nlines"
    assert listed(map(str, range(MOST + 3))).endswith(f", {MOST - 1}, …")
    assert listed(map(str, range(MOST))).endswith(f", {MOST - 1}")
    assert quoted("x" * LONGEST) == repr("x" * LONGEST)
    assert quoted("x" * (LONGEST + 1)) == repr("x" * (LONGEST - 1) + "…")
