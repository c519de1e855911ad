import numpy as np
import pytest

from rnnlab.data import SPECIALS, CharacterVocabulary, WordVocabulary


def test_round_trip_of_text_and_of_the_vocabulary_itself():
    text = "naïve “docs” \n\t𝄞"
    vocabulary = CharacterVocabulary.from_text(text)
    tokens = vocabulary.encode(text)
    assert tokens.dtype == np.int32
    assert sorted(set(tokens.tolist())) == list(range(len(vocabulary)))
    assert vocabulary.decode(tokens) == text
    assert CharacterVocabulary.from_json(vocabulary.to_json()) == vocabulary


def test_order_does_not_depend_on_the_order_of_the_texts():
    assert CharacterVocabulary.from_text("ba", "c") == CharacterVocabulary.from_text("c", "ab")


@pytest.mark.parametrize("stranger", ["z", "!", "𝄞"])  # after, before and far from the known ones
def test_unknown_character_is_named_with_its_position(stranger):
    vocabulary = CharacterVocabulary.from_text("abc")
    with pytest.raises(ValueError, match=r"at position 2 is not among the 3") as error:
        vocabulary.encode("ab" + stranger)
    assert repr(stranger) in str(error.value)


def test_empty_text():
    assert CharacterVocabulary.from_text("abc").encode("").shape == (0,)


@pytest.mark.parametrize("characters", ["", "ba", "aa"])
def test_characters_have_to_be_distinct_and_in_order(characters):
    with pytest.raises(ValueError, match="from_text"):
        CharacterVocabulary(characters)


def test_json_of_before_there_were_kinds_still_loads():
    assert CharacterVocabulary.from_json('{"characters": "abc"}') == CharacterVocabulary("abc")


def test_specials_come_first_and_unknown_characters_are_one_of_them():
    vocabulary = CharacterVocabulary.from_text("abc", specials=True)
    assert len(vocabulary) == 7
    tokens = vocabulary.encode("cab!")
    assert tokens.tolist() == [6, 4, 5, 1]
    assert vocabulary.decode([2, *tokens, 3, 0]) == "cab\ufffd"
    assert CharacterVocabulary.from_json(vocabulary.to_json()) == vocabulary


@pytest.mark.parametrize("make", [CharacterVocabulary.from_text, WordVocabulary.from_text])
@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ([0, 99], ValueError, "got 99 at position 1"),
        ([-1], ValueError, "got -1 at position 0"),
        ([0.5], TypeError, "integers, got float64"),
        ([[0]], ValueError, r"one axis \[N\], got shape \(1, 1\)"),
    ],
)
def test_tokens_that_are_none(make, tokens, error, message):
    with pytest.raises(error, match=message):
        make("a b").decode(tokens)


def test_words_are_in_the_order_of_frequency_then_of_code_points():
    vocabulary = WordVocabulary.from_text("b a c", "c b c d")
    assert vocabulary.words == ("c", "b", "a", "d")
    assert WordVocabulary.from_text("c d b c", "a b c") == vocabulary
    assert SPECIALS == ("<pad>", "<unk>", "<bos>", "<eos>")
    assert vocabulary.encode("d  nobody\tc\n").tolist() == [7, 1, 4]
    assert vocabulary.encode("d").dtype == np.int32
    assert vocabulary.decode([2, 7, 1, 4, 3, 0]) == "d <unk> c"


def test_size_and_count_limit_the_words():
    text = "a a a b b c c d"
    assert WordVocabulary.from_text(text, max_size=6).words == ("a", "b")
    assert len(WordVocabulary.from_text(text, max_size=6)) == 6
    assert WordVocabulary.from_text(text, min_count=2).words == ("a", "b", "c")
    assert WordVocabulary.from_text(text, max_size=4).words == ()
    with pytest.raises(ValueError, match="max_size: expected at least 4, got 3"):
        WordVocabulary.from_text(text, max_size=3)
    with pytest.raises(ValueError, match="min_count: expected at least 1, got 0"):
        WordVocabulary.from_text(text, min_count=0)


def test_special_tokens_of_a_prepared_text_are_those_tokens():
    vocabulary = WordVocabulary.from_text("the <unk> sat <unk>")
    assert vocabulary.words == ("sat", "the")
    assert vocabulary.encode("the <unk>").tolist() == [5, 1]


def test_words_by_another_pattern():
    vocabulary = WordVocabulary.from_text("Stop, now!", pattern=r"\w+|[^\w\s]")
    assert set(vocabulary.words) == {"Stop", ",", "now", "!"}
    assert WordVocabulary.from_json(vocabulary.to_json()) == vocabulary
    with pytest.raises(ValueError, match="pattern: expected a regular expression"):
        WordVocabulary.from_text("a", pattern="(")
    with pytest.raises(ValueError, match="pattern: expected no capturing group"):
        WordVocabulary.from_text("a", pattern="(a)b")


def test_every_line_ends_with_eos():
    vocabulary = WordVocabulary.from_text("a b")
    assert vocabulary.encode_lines("a b\n\nb").tolist() == [4, 5, 3, 3, 5, 3]
    assert vocabulary.encode_lines("a b\n\nb\n").tolist() == [4, 5, 3, 3, 5, 3]
    assert vocabulary.decode_lines([4, 5, 3, 3, 5, 3]) == "a b\n\nb\n"
    assert vocabulary.decode_lines([4, 3, 5]) == "a\nb"
    assert vocabulary.encode_lines("\n").tolist() == [3]
    assert vocabulary.encode_lines("").shape == (0,)


def test_words_with_some_of_the_special_tokens_only():
    vocabulary = WordVocabulary.from_text("b a b", max_size=3, specials=("<unk>", "<eos>"))
    assert (len(vocabulary), vocabulary.words) == (3, ("b",))
    tokens = vocabulary.encode_lines("b a\nb <unk>\n")
    assert tokens.tolist() == [2, 0, 1, 2, 0, 1]
    assert vocabulary.decode_lines(tokens) == "b <unk>\nb <unk>\n"
    assert WordVocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert WordVocabulary.from_json('{"words": ["a"], "pattern": "a"}').specials == SPECIALS
    for wrong in (("<eos>",), ("<eos>", "<unk>"), ("<unk>", "<s>")):
        with pytest.raises(ValueError, match="specials: expected some of"):
            WordVocabulary(("a",), specials=wrong)
    with pytest.raises(ValueError, match="specials: expected <eos> for lines"):
        WordVocabulary(("a",), specials=("<unk>",)).encode_lines("a")


def test_a_text_without_words():
    vocabulary = WordVocabulary.from_text(" \n")
    assert len(vocabulary) == 4
    assert vocabulary.encode("").dtype == np.int32
    assert vocabulary.decode([]) == ""


@pytest.mark.parametrize("words", [("a", "a"), ("a", "<pad>")])
def test_words_have_to_be_distinct_and_not_special(words):
    with pytest.raises(ValueError, match="distinct words, none of them special"):
        WordVocabulary(words)
