"""Tampering with a run: the same bits or one sentence, and no file of the user's is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.tampering import KINDS, Original, cases, check, originals


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Original]:
    return originals(tmp_path_factory.mktemp("tampering"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tampered_run_has_the_same_bits_or_is_refused_in_one_sentence(runs: dict[str, Original], kind: str, tmp_path: Path) -> None:
    outcomes, failures = [], []
    for name, original in runs.items():
        every = 2 if name in ("plain, ended", "plain, killed") else 6  # the rest of them at length: see `tampering.cases`
        for damage in list(cases(kind, original))[::every]:
            try:
                outcomes.append(check(original, kind, damage, tmp_path / f"{len(outcomes)}-{len(failures)}"))
            except Exception as error:
                failures.append(f"{name}: {kind} {damage}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)
    assert outcomes
