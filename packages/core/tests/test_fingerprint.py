"""Two fingerprints differ at a place that can be shown."""

from tuneyard.core.fingerprint import Fingerprint, first_difference


def fingerprint(text_ids: list[int], conversation_ids: list[int] | None = None, worker: str = "train") -> Fingerprint:
    return Fingerprint(
        worker=worker,
        tokenizer_class="LlamaTokenizerFast",
        vocabulary_size=10,
        text_ids=text_ids,
        conversation_ids=conversation_ids,
        text_tokens=[f"t{i}" for i in text_ids],
        versions={"transformers": "5.6.0"},
    )


def test_equal_ids_do_not_differ() -> None:
    assert first_difference(fingerprint([1, 2], [3]), fingerprint([1, 2], [3], "eval")) is None


def test_the_first_differing_token_is_shown() -> None:
    told = first_difference(fingerprint([1, 2, 3]), fingerprint([1, 4, 3], worker="eval"))
    assert told is not None and "token 1: 't2' against 't4'" in told
    assert "`eval`" in told


def test_a_longer_list_differs_where_the_shorter_ends() -> None:
    told = first_difference(fingerprint([1]), fingerprint([1, 2]))
    assert told is not None and "token 1: the end against 't2'" in told


def test_the_conversation_counts_only_where_both_have_a_template() -> None:
    assert first_difference(fingerprint([1], [5]), fingerprint([1], None)) is None
    told = first_difference(fingerprint([1], [5, 6]), fingerprint([1], [5, 7]))
    assert told is not None and "chat templates differ" in told
