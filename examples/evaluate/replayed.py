"""A language model of lm-eval that always gives the same answer: the floor that a real one has to beat."""

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM


class Always(LM):
    """Answers every prompt alike, and finds every continuation as likely as its length."""

    def __init__(self, answer: str) -> None:
        super().__init__()
        self.answer = answer

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return [self.answer for _ in requests]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        return [(-float(len(str(request.args[1]))), False) for request in requests]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return [-float(len(str(request.args[0]))) for request in requests]


def always() -> LM:
    """What `lm: replayed.py:always` calls. A function with a parameter would be given the resolved spec."""
    return Always("The answer is 18.\n#### 18")
