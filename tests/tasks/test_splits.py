"""The splits are data: disjoint, complete, and frozen by a hash that a change has to rewrite knowingly."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wambench import tasks
from wambench.envs.factors import TRAIN, UNSEEN
from wambench.envs.task import NOVELTIES
from wambench.records import provenance

GOLDEN = Path(__file__).parents[1] / "golden"
CHANGED = (
    "the frozen definition of {names} changed: a task was added or removed, or its version was raised. Rows published "
    "for that split carry the old hash and can no longer be extended. If the change is meant, write the new hashes "
    "with `pytest tests/tasks/test_splits.py --rewrite-golden` and say so in CHANGELOG.md. If not, put the task into "
    "a file of its own and play it with --task-module, which leaves these splits as they are."
)


def test_every_task_is_seen_or_unseen() -> None:
    seen, unseen = set(tasks.SPLITS["seen"].tasks), set(tasks.SPLITS["unseen-tasks"].tasks)
    scripted = {name for name, task in tasks.TASKS.items() if task.script}
    assert not seen & unseen
    assert seen | unseen == set(tasks.TASKS) - scripted
    assert scripted == {*tasks.MEMORY, *tasks.DYNAMIC}
    assert set(tasks.SPLITS["unseen-envs"].tasks) == seen


def test_breadth() -> None:
    seen = [tasks.TASKS[name] for name in tasks.SPLITS["seen"].tasks]
    unseen = [tasks.TASKS[name] for name in tasks.SPLITS["unseen-tasks"].tasks]
    assert len(seen) >= 20 and len({task.verb for task in seen}) >= 14
    assert len(unseen) >= 20
    for novelty in NOVELTIES:
        assert novelty == "seen" or sum(task.novelty == novelty for task in unseen) >= 5, novelty
    assert len({task.verb for task in (*seen, *unseen)}) >= 25
    assert sum(len(task.stages) >= 5 and task.horizon > 800 for task in (*seen, *unseen)) >= 3


def test_novelty_is_what_it_says() -> None:
    seen = [tasks.TASKS[name] for name in tasks.SPLITS["seen"].tasks]
    verbs = {task.verb for task in seen}
    words = {word for task in seen for word in task.instruction.split()}
    for name in tasks.SPLITS["unseen-tasks"].tasks:
        task = tasks.TASKS[name]
        if task.novelty == "pairing":
            others = [other for other in seen if other.verb == task.verb]
            known = f"{name} is a new pairing: its verb {task.verb!r} must be one of a seen task ({', '.join(verbs)})"
            assert others, known
            new = f"{name} is a new pairing: it needs an object that no seen task of the verb {task.verb!r} has"
            assert all(set(task.objects) - set(other.objects) for other in others), new
        elif task.novelty == "composition":
            parts = task.verb.split(", ")
            assert len(parts) > 1 and set(parts) <= verbs, f"{name} composes verbs of seen tasks ({', '.join(verbs)})"
            assert task.verb not in verbs, f"{name}: a seen task shows {task.verb!r} in a row"
        else:
            said = f"{name} says novelty {task.novelty!r}, but a seen task has its verb {task.verb!r} already: "
            said += "give it another verb, or novelty='seen' (the verb is demonstrated) or 'pairing' (on a new object)"
            assert task.verb not in verbs and task.verb.split()[0] not in words, said


def test_a_frozen_split_is_what_was_published() -> None:
    """The published hashes follow from the frozen task lists, so neither can change unnoticed."""
    for found, entry in tasks.PUBLISHED.items():
        split = tasks.SPLITS[entry.frozen]
        ids = [f"{task}-v{entry.version}" for task in split.tasks]
        assert provenance.definition_hash(split, entry.name, ids) == found
        assert split.environments == tasks.SPLITS[entry.name].environments
        assert set(split.tasks) <= set(tasks.SPLITS[entry.name].tasks)


def test_published_rows_say_which_split_they_were_played_on() -> None:
    """Every run folder under results/ carries a hash that is known: of a published definition, or of today's."""
    folders = list((GOLDEN.parents[1] / "results").rglob("run.json"))
    assert folders
    for path in folders:
        run = json.loads(path.read_text())
        split, found = run["config"]["split"], run["split_hash"]
        entry = tasks.PUBLISHED.get(found)
        assert provenance.split_hash(split) == found or (entry is not None and entry.name == split), path


def test_instructions_are_distinct() -> None:
    by_instruction: dict[str, list[str]] = {}
    for task in tasks.TASKS.values():
        by_instruction.setdefault(task.instruction, []).append(task.name)
        assert task.motion != task.instruction, f"{task.name}: `motion` spells the instruction out; here they are equal"
    same = [names for names in by_instruction.values() if len(names) > 1]
    assert not same, f"tasks with one instruction cannot be told apart by a policy: {same}"


def test_splits_and_environment_values_are_frozen(golden: Callable[[str, str], None]) -> None:
    values = repr([[(factor, dict(table[factor])) for factor in table] for table in (TRAIN, UNSEEN)])
    lines = [f"{name} {provenance.split_hash(name)}" for name in tasks.SPLITS]
    lines.append(f"values {hashlib.sha256(values.encode()).hexdigest()}")
    text = "\n".join(lines) + "\n"
    try:
        golden("splits.txt", text)
        return
    except AssertionError:
        before = dict(line.split() for line in (GOLDEN / "splits.txt").read_text().splitlines())
    changed = [line.split()[0] for line in lines if before.get(line.split()[0]) != line.split()[1]]
    pytest.fail(CHANGED.format(names=", ".join(changed)))


def test_a_task_takes_its_file_and_one_row() -> None:
    """Every file that defines a task is a row, and every row is a file: nothing has to be imported by hand."""
    folder = Path(tasks.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if "\nTASK = " in path.read_text()}
    missing = f"add these to _ROWS of tasks/__init__.py: {sorted(files - set(tasks._ROWS))}"
    assert files == set(tasks._ROWS), missing
    assert len(tasks.TASKS) == len(tasks._ROWS)
