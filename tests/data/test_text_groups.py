import pytest

from dr_keras.data.text_groups import bands_in_order, length_band, script, text_groups


@pytest.mark.parametrize(
    "text, name",
    [
        ("plain words, 12 of them", "Latin"),
        ("déjà vu – naïve", "Latin"),
        ("Straße µ² ª", "Latin"),  # the micro sign is a letter of no script
        ("война и мир, and peace", "Cyrillic"),
        ("τὰ μὲν γὰρ ἄλλα", "Greek"),
        ("漢字 only a", "Latin"),
        ("漢字文化圏", "Han"),
        ("漢字とかな", "Kana and Han"),
        ("한국어 문장", "Hangul"),
        ("हिन्दी पाठ", "Devanagari"),
        ("السلام عليكم", "Arabic"),
        ("ＦＵＬＬ", "Latin"),
        ("12 + 30 = 42!", "no letters"),
        ("", "no letters"),
        ("𝐱 + 𝐲", "no letters"),
    ],
)
def test_the_script_is_that_of_most_letters(text, name):
    assert script(text) == name


def test_a_single_letter_of_another_script_changes_nothing_and_the_beginning_decides():
    assert script("a" * 2000 + "б" * 5000) == "Latin"
    assert script("б" * 3 + "a" * 2) == "Cyrillic"
    assert script("бa") == "Cyrillic"  # of equal counts the first by name


def test_bands_of_length_meet_and_keep_their_order():
    assert length_band(0) == length_band(63) == "under 64 bytes"
    assert length_band(64) == length_band(255) == "64 to 255 bytes"
    assert length_band(256) == "256 to 1,023 bytes"
    assert length_band(4096, "tokens") == "4,096 to 16,383 tokens"
    bands = [length_band(4**k) for k in range(9)]
    assert bands_in_order({*bands, "(not known)"})[:-1] == list(dict.fromkeys(bands))
    assert text_groups(["é" * 32])["length"] == ["64 to 255 bytes"]  # bytes, not characters
