"""Documents with any value anywhere, read by whole commands: no exception, and other runs are not affected."""

import json
import random
from collections import Counter
from typing import Any

import pytest

from controller.domain.documents import Round
from controller.transcript.model import Transcript
from tests import fakes
from tests.controller.domain.test_stored_documents import places, put
from tests.tamper.scene import DOCUMENTS, KEYS, OTHER, Scene, unfinished

pytestmark = pytest.mark.hostile

NUMBERS = [0, 1, -1, 2, 7, 10**6, 10**9, 1 << 53, 10**400, 0.5, 1e300, -1e-9]
TEXTS = ["", "en", "xx", "\x1b[31m", "/etc/passwd", "file:///etc/passwd", "0" * 16, "0" * 64, "UNKNOWN", "a" * 9_000]


def anything(chance: random.Random, raw: Any) -> Any:
    """A value to put into a document: a number, a text, another part of it, a longer or shorter list."""
    kind = chance.randrange(5)
    if kind == 0:
        return chance.choice(NUMBERS)
    if kind == 1:
        return chance.choice(TEXTS)
    if kind == 2:
        return chance.choice([None, True, False, [], {}, [[]], {"a": 1}])
    path = chance.choice(places(raw))
    for key in path:
        raw = raw[key]
    return raw * 2 if isinstance(raw, list) and kind == 3 else raw


def test_a_command_survives_any_document(scene: Scene, whole: dict[str, bytes]) -> None:
    chance = random.Random(11)
    begun = unfinished(whole)
    round_id = Round.decode(begun[KEYS.round]).id
    evidence = begun.pop(KEYS.failure(1, 1, "0000cafe"))
    begun[KEYS.failure(1, 1, round_id)] = evidence.replace(b"0000cafe", round_id.encode())
    neighbour = {key: data for key, data in begun.items() if OTHER.run in key}
    ours = [key for key in begun if key in DOCUMENTS or key == KEYS.failure(1, 1, round_id)]
    verdicts: Counter[str] = Counter()
    for _ in range(6 if scene.store.remote else 150):
        objects = dict(whole if chance.random() < 0.3 else begun)
        spoiled = chance.sample([key for key in ours if key in objects], chance.randint(1, 3))
        for key in spoiled:
            raw = json.loads(objects[key])
            for _ in range(chance.randint(1, 3)):
                put(raw, chance.choice(places(raw)), anything(chance, json.loads(objects[key])))
            objects[key] = json.dumps(raw).encode()
        scene.lay(objects)
        ended = scene.command(scene.run_request(gaps=True), scene.run_request(fakes.record(OTHER.run)))
        what = {key: objects[key][:3_000] for key in spoiled}
        assert ended[1].verdict == "complete", what
        verdicts[ended[0].verdict] += 1
        # A run that is reported as complete is complete.
        if ended[0].verdict == "complete":
            assert Transcript.decode(scene.store.get(KEYS.transcript("json"))).gaps == (), what
        now = scene.objects()
        assert {key: now.get(key) for key in neighbour} == neighbour, what
    assert verdicts["complete"] > 0
    assert sum(verdicts.values()) == (6 if scene.store.remote else 150)
