"""Images by their paths, put to a model that sees: by vLLM in the run itself, and through a server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from desk import Desk, until
from vision import IMAGE_TOKENS, merged_answer, write_adapter, write_vision

from tuneyard.control.servers import Served
from tuneyard.core.run_folder import find_run

pytestmark = pytest.mark.slow

AROUND = 3
"""Tokens that mark the beginning and the end of an image."""

SMALL = "engine={max_model_len: 256, dtype: float32, limit_mm_per_prompt: {image: 2}}"


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vision(tmp_path_factory.mktemp("vision") / "model")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, whole and not."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("album")
    for colour in ("red", "blue"):
        Image.new("RGB", (40, 30), colour).save(folder / f"{colour}.png")
        Image.new("RGB", (40, 30), colour).save(folder / f"{colour}.jpg")
    Image.new("RGBA", (40, 30), (255, 0, 0, 0)).save(folder / "clear.png")
    Image.effect_noise((200, 100), 90).save(folder / "noise.png")
    noise = (folder / "noise.png").read_bytes()
    (folder / "cut.png").write_bytes(noise[: len(noise) // 2])
    middle = len(noise) // 2
    (folder / "damaged.png").write_bytes(noise[:middle] + bytes(64) + noise[middle + 64 :])
    (folder / "letter.png").write_text("Dear Sir or Madam")
    return folder


def asked(*texts: str, images: list[str]) -> dict[str, Any]:
    """A row: turns of the user's and the assistant's, one after the other."""
    turns = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)]
    return {"messages": turns, "images": images}


ONE, TWO = "<image>What is it?", "<image>Then <image>What changed?"
QUESTIONS = {
    "red": asked(ONE, images=["red.png"]),
    "blue": asked(ONE, images=["blue.png"]),
    "none": asked("What is it?", images=[]),
    "both": asked(TWO, images=["red.png", "blue.png"]),
    "swapped": asked(TWO, images=["blue.png", "red.png"]),
    "talk": asked(ONE, "Red.", "And this?<image>", images=["red.png", "blue.png"]),
    "jpeg": asked(ONE, images=["red.jpg"]),
    "clear": asked(ONE, images=["clear.png"]),
    "long": asked("<image>" + "x" * 3000, images=["red.png"]),
    "cut": asked(ONE, images=["cut.png"]),
    "letter": asked(ONE, images=["letter.png"]),
    "gone": asked(ONE, images=["gone.png"]),
    "many": asked("<image><image><image>", images=["red.png", "blue.png", "red.jpg"]),
    "spoken of": asked(ONE, images=[]),
}
FAILS = {"long": "256", "cut": "cut off", "letter": "no image", "gone": "No such file", "many": "At most 2 image"}


def generated(desk: Desk, album: Path, questions: dict[str, Any], *words: str) -> dict[str, dict[str, Any]]:
    """The rows of a generation that succeeded, by the names of the questions."""
    (album / "gone.png").write_bytes((album / "red.png").read_bytes())
    file = album / "questions.jsonl"
    file.write_text("".join(json.dumps({"id": name, **row}) + "\n" for name, row in questions.items()))
    done = desk.yard(
        "run", "--kind", "generate", "--detach", "--json", f"dataset={file}", "gpus=0", "max_tokens=8", *words
    )
    assert done.code == 0, done.out + done.err
    run = find_run(desk.path / "runs", done.json["id"])
    assert until(lambda: (run.path / "data" / "manifest.json").exists() or run.status().ended, 120)
    (album / "gone.png").unlink()  # after the data was looked through
    assert until(lambda: run.status().ended, 480)
    attempt = run.latest()
    assert run.status().state == "succeeded", attempt and attempt.read_result()
    rows = [json.loads(line) for line in run.responses.read_text().splitlines()]
    return {row["id"]: row for row in rows}


@pytest.fixture(scope="module")
def rows(desk: Desk, album: Path, vision: Path) -> dict[str, dict[str, Any]]:
    """What vLLM in the run itself answers."""
    return generated(desk, album, QUESTIONS, f"model={vision}", SMALL)


@pytest.fixture(scope="module")
def sees(desk: Desk, vision: Path) -> Iterator[Served]:
    """A server of the model that sees."""
    served = desk.serve(f"model={vision}", "port=0", SMALL)
    yield served
    assert desk.yard("serve", "stop", served.run.id).code == 0


def test_the_answer_depends_on_the_image(rows: dict[str, dict[str, Any]]) -> None:
    assert not any(rows[name]["error"] for name in ("red", "blue", "none"))
    assert len({rows[name]["response"] for name in ("red", "blue", "none")}) == 3
    assert rows["red"]["prompt_tokens"] == rows["none"]["prompt_tokens"] + IMAGE_TOKENS + AROUND


def test_each_of_two_images_stands_in_its_place(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["both"]["response"] != rows["swapped"]["response"]
    assert rows["both"]["images"] == [*reversed(rows["swapped"]["images"])]
    assert rows["talk"]["error"] is None
    assert rows["talk"]["messages"][-1] == {"role": "assistant", "content": rows["talk"]["response"]}


def test_the_prompt_is_the_template_and_nothing_besides(rows: dict[str, dict[str, Any]]) -> None:
    # begin, user, the question, end, assistant
    assert rows["none"]["prompt_tokens"] == len("What is it?") + 4


def test_what_cannot_be_seen_is_a_row_with_its_error(rows: dict[str, dict[str, Any]]) -> None:
    assert {name for name, row in rows.items() if row["error"]} == set(FAILS)
    for name, words in FAILS.items():
        assert words in rows[name]["error"] and rows[name]["response"] is None


def test_a_server_gives_the_same_answers(
    desk: Desk, album: Path, rows: dict[str, dict[str, Any]], sees: Served
) -> None:
    through = generated(desk, album, QUESTIONS, f"endpoint=run:{sees.run.id}")
    assert {name for name, row in through.items() if row["error"]} == set(FAILS)
    for name, words in FAILS.items():
        assert words in through[name]["error"]
    answers = {name: (row["prompt_tokens"], row["response"]) for name, row in through.items() if not row["error"]}
    assert answers == {name: (rows[name]["prompt_tokens"], rows[name]["response"]) for name in answers}


def test_any_client_may_send_an_image_to_the_server(album: Path, rows: dict[str, dict[str, Any]], sees: Served) -> None:
    data = base64.b64encode((album / "blue.png").read_bytes()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "text", "text": "What is it?"},
    ]
    turns: list[Any] = [{"role": "user", "content": content}]
    asked = openai.OpenAI(base_url=sees.url, api_key="none", timeout=120, max_retries=0).chat.completions
    answer = asked.create(model=sees.names()[0], messages=turns, max_tokens=8, temperature=0)
    assert answer.choices[0].message.content == rows["blue"]["response"]


def test_an_adapter_changes_what_sees_as_well_as_what_speaks(
    desk: Desk, album: Path, vision: Path, rows: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter", vision)
    adapted = generated(desk, album, TEXT_AND_IMAGE, f"model={vision}", f"adapters={{own: {adapter}}}", SMALL)
    assert not any(row["error"] for row in adapted.values())
    assert all(adapted[name]["response"] != rows[name]["response"] for name in TEXT_AND_IMAGE)
    assert adapted["none"]["response"] == merged_answer(vision, adapter, "What is it?", [], tokens=8)
    assert adapted["red"]["response"] == merged_answer(vision, adapter, ONE, [album / "red.png"], tokens=8)


TEXT_AND_IMAGE = {name: QUESTIONS[name] for name in ("none", "red")}


def test_a_model_that_reads_text_alone_refuses_images(desk: Desk, album: Path) -> None:
    rows = generated(desk, album, TEXT_AND_IMAGE, "model=builtin:tiny", SMALL)
    assert rows["none"]["error"] is None and "takes no images" in rows["red"]["error"]


def test_so_does_its_server(desk: Desk, album: Path, server: Served) -> None:
    rows = generated(desk, album, TEXT_AND_IMAGE, f"endpoint=run:{server.run.id}", "endpoint_model=builtin:tiny")
    assert rows["none"]["error"] is None and "multimodal" in rows["red"]["error"]


def test_an_image_that_only_a_decoder_finds_damaged_is_refused(album: Path) -> None:
    from tuneyard.serve.generate import read_image

    assert read_image(str(album / "red.jpg")).size == (40, 30)
    assert read_image(str(album / "clear.png")).getpixel((0, 0)) == (255, 255, 255)
    for name in ("damaged.png", "cut.png", "letter.png", "gone.png"):
        with pytest.raises(ValueError, match=name):
            read_image(str(album / name))
