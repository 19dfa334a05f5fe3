"""The splits are data: disjoint, complete, and frozen by a hash that a change has to rewrite knowingly."""

import hashlib
from collections.abc import Callable

from wambench import tasks
from wambench.envs.factors import TRAIN, UNSEEN
from wambench.envs.task import NOVELTIES
from wambench.records import provenance


def test_every_task_is_seen_or_unseen() -> None:
    seen, unseen = set(tasks.SPLITS["seen"].tasks), set(tasks.SPLITS["unseen-tasks"].tasks)
    assert not seen & unseen
    assert seen | unseen == set(tasks.TASKS)
    assert set(tasks.SPLITS["unseen-envs"].tasks) == seen


def test_breadth() -> None:
    seen = [tasks.TASKS[name] for name in tasks.SPLITS["seen"].tasks]
    unseen = [tasks.TASKS[name] for name in tasks.SPLITS["unseen-tasks"].tasks]
    assert len(seen) >= 8 and len({t.verb for t in seen}) >= 6
    assert len(unseen) >= 8 and len({t.verb for t in unseen}) >= 7
    assert {t.novelty for t in unseen} == set(NOVELTIES) - {"seen"}


def test_novelty_is_what_it_says() -> None:
    seen = [tasks.TASKS[name] for name in tasks.SPLITS["seen"].tasks]
    verbs = {task.verb for task in seen}
    words = {word for task in seen for word in task.instruction.split()}
    for name in tasks.SPLITS["unseen-tasks"].tasks:
        task = tasks.TASKS[name]
        if task.novelty == "pairing":
            assert task.verb in verbs
            assert all(set(task.objects) - set(other.objects) for other in seen if other.verb == task.verb), name
        else:
            assert task.verb not in verbs and task.verb.split()[0] not in words, name


def test_instructions_are_distinct() -> None:
    assert len({task.instruction for task in tasks.TASKS.values()}) == len(tasks.TASKS)
    assert all(task.motion != task.instruction for task in tasks.TASKS.values())


def test_splits_and_environment_values_are_frozen(golden: Callable[[str, str], None]) -> None:
    values = repr([[(factor, dict(table[factor])) for factor in table] for table in (TRAIN, UNSEEN)])
    lines = [f"{name} {provenance.split_hash(name)}" for name in tasks.SPLITS]
    lines.append(f"values {hashlib.sha256(values.encode()).hexdigest()}")
    golden("splits.txt", "\n".join(lines) + "\n")
