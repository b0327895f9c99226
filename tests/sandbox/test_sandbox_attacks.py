"""The attack suite: every attack as root and as an ordinary user, and as that user once without the sandbox.

An attack prints BEGIN when it starts and LEAK when it has what it wants.  Without BEGIN nothing was tried, which fails.
Without the sandbox an attack must succeed, or say why an ordinary user cannot do it anyway: else it would prove nothing.
"""

from typing import Any

import pytest
from attacks import ATTACKS, Attack, files, kernel, network, processes, resources
from drivers import Driver

pytestmark = pytest.mark.bwrap

MODULES = (files, kernel, network, processes, resources)


def check_that_it_held(answer: dict[str, Any]) -> None:
    assert answer["begins"], answer
    assert not answer["leaks"], answer
    assert answer["left"] == [], answer
    assert answer["victim_is_alive"], answer


each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=[attack.name for attack in ATTACKS])


@each_attack
def test_root_is_safe_from_a_program_that(attack: Attack, root: Driver) -> None:
    check_that_it_held(root.run(attack.program(), **attack.arguments))


@each_attack
def test_an_ordinary_user_is_safe_from_a_program_that(attack: Attack, user: Driver) -> None:
    check_that_it_held(user.run(attack.program(), **attack.arguments))


@each_attack
def test_without_the_sandbox_an_ordinary_user_would_suffer_a_program_that(attack: Attack, user: Driver) -> None:
    answer = user.run(attack.program(), bare=True)
    assert answer["begins"], answer
    assert answer["leaks"] or attack.without_sandbox, answer


def test_every_module_has_its_attacks_and_every_attack_its_own_name() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names))
    assert all(any(name in vars(module) for name in names) for module in MODULES)
