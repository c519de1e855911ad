import numpy as np
import pytest

from rnnlab.data import CharacterVocabulary


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
